package extract

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"io/fs"
	"strings"

	"github.com/google/osv-scalibr/extractor"
)

// untoldError is why a program does not tell what it is made of. It is no problem of a
// program that a distribution built: its advisories are about the distribution's package.
type untoldError struct{ why string }

func (e *untoldError) Error() string { return e.why }

// toldByGo explains Go programs in which nothing is found.
func toldByGo(next extractFunc) extractFunc {
	return func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		pkgs, err := next(ctx, path, info, content)
		if err != nil || len(pkgs) > 1 {
			return pkgs, err
		}
		// The version of Go alone says nothing of modules.
		if why := untold(content); why != "" {
			return pkgs, &untoldError{why}
		}
		return pkgs, nil
	}
}

// packedHead is how much of a program is searched for the mark of UPX.
const packedHead = 1 << 10

func untold(content *content) string {
	bi, err := buildinfo.Read(content.readerAt())
	if err == nil {
		// A program of a single file outside of a module, and those of Go itself, need none.
		if bi.Main.Path != "" || len(bi.Deps) > 0 || bi.Path == "command-line-arguments" || strings.HasPrefix(bi.Path, "cmd/") {
			return ""
		}
		return "a Go program that does not name its modules"
	}
	head := make([]byte, min(packedHead, content.size))
	if _, err := content.readerAt().ReadAt(head, 0); err == nil && bytes.Contains(head, []byte("UPX!")) {
		return "a program that is packed with UPX"
	}
	f, err := elf.NewFile(content.readerAt())
	if err != nil {
		return ""
	}
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab", ".go.buildinfo", ".note.go.buildid"} {
		if f.Section(name) != nil {
			return "a Go program without build information"
		}
	}
	return ""
}

// isELF recognises programs and libraries of Linux. Any of them can be run, whatever its
// mode: `ld.so program`, or a container that sets the mode when it starts.
func isELF(head []byte) bool { return bytes.HasPrefix(head, []byte("\x7fELF")) }
