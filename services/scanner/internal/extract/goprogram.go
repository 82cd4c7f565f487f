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
	if why := bundled(content, head); why != "" {
		return why
	}
	f, err := elf.NewFile(content.readerAt())
	if err != nil {
		return ""
	}
	if why := carries(f); why != "" {
		return why
	}
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab", ".go.buildinfo", ".note.go.buildid"} {
		if f.Section(name) != nil {
			return "a Go program without build information"
		}
	}
	return ""
}

// bundles are the marks at the end of programs that have an application with its packages
// behind them.
var bundles = []struct{ mark, what string }{
	{"MEI\x0c\x0b\x0a\x0b\x0e", "PyInstaller"},
	{"\n---- Bun! ----\n", "Bun"},
	{"d3n0l4nd", "Deno"},
	{"<nexe~~sentinel>", "nexe"},
	{"pkg/prelude/", "pkg"},
	{".runtimeconfig.json", ".NET, as a single file"},
}

// bundleTail is how much of the end of a program is searched for them.
const bundleTail = 64 << 10

// bundled tells that a program is an application with its packages in one file.
func bundled(content *content, head []byte) string {
	if len(head) > 10 && string(head[8:10]) == "AI" && head[10] <= 2 {
		return "a program that is an AppImage, which is not read"
	}
	tail := make([]byte, min(bundleTail, content.size))
	if _, err := content.readerAt().ReadAt(tail, content.size-int64(len(tail))); err != nil {
		return ""
	}
	for _, b := range bundles {
		if bytes.Contains(tail, []byte(b.mark)) {
			return "a program with an application in it, made with " + b.what + ", which is not read"
		}
	}
	return ""
}

// noteHead is how much of a note of a program is searched.
const noteHead = 4 << 10

// carries tells that a section or a note of a program has an application.
func carries(f *elf.File) string {
	if f.Section(".svm_heap") != nil {
		return "a native image of GraalVM, whose Java packages are not read"
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		note := make([]byte, min(noteHead, p.Filesz))
		if n, _ := p.ReadAt(note, 0); bytes.Contains(note[:n], []byte("NODE_SEA_BLOB")) {
			return "a program with an application of Node.js in it, which is not read"
		}
	}
	return ""
}

// isELF recognises programs and libraries of Linux. Any of them can be run, whatever its
// mode: `ld.so program`, or a container that sets the mode when it starts.
func isELF(head []byte) bool { return bytes.HasPrefix(head, []byte("\x7fELF")) }
