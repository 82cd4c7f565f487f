// Package buildinfo says which build is running: from values that the linker
// set, or else from what the Go tool recorded in the binary.
package buildinfo

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set with -ldflags "-X github.com/seaworthy-dev/seaworthy/pkg/buildinfo.version=… -X ….commit=…".
var (
	version string
	commit  string
)

// Version is the release, for example "v1.2.0"; "devel" for a build that is none.
func Version() string {
	if version != "" {
		return version
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	return "devel"
}

// Commit is the revision the binary was built from, with "+dirty" when the
// work tree had changes; "unknown" if it was not recorded.
func Commit() string {
	if commit != "" {
		return commit
	}
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return revision(bi.Settings)
}

func revision(settings []debug.BuildSetting) string {
	rev, dirty := "", false
	for _, s := range settings {
		switch s.Key {
		case "vcs.revision":
			rev = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	switch {
	case rev == "":
		return "unknown"
	case dirty:
		return rev + "+dirty"
	default:
		return rev
	}
}

// String is the line that --version prints.
func String(name string) string {
	return fmt.Sprintf("%s %s (commit %s, %s, %s/%s)", name, Version(), Commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
