package buildinfo

import (
	"fmt"
	"runtime/debug"
	"strings"
	"testing"
)

func TestRevision(t *testing.T) {
	tests := map[string]struct {
		settings []debug.BuildSetting
		want     string
	}{
		"none":  {nil, "unknown"},
		"clean": {[]debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "false"}}, "abc"},
		"dirty": {[]debug.BuildSetting{{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: "abc"}}, "abc+dirty"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := revision(tt.settings); got != tt.want {
				t.Errorf("revision = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLinkerValuesWin(t *testing.T) {
	oldVersion, oldCommit := version, commit
	t.Cleanup(func() { version, commit = oldVersion, oldCommit })
	version, commit = "v1.2.3", "0123abc"
	if got := String("seaworthy-scanner"); !strings.HasPrefix(got, "seaworthy-scanner v1.2.3 (commit 0123abc, go") {
		t.Errorf("String = %q", got)
	}
}

func ExampleVersion() {
	// Tests are not built from a release.
	fmt.Println(Version())
	// Output: devel
}
