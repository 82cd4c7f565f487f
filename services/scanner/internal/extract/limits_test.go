package extract_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/race"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

// dpkgStatus is a package database of n packages.
func dpkgStatus(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Package: p%d\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n", i)
	}
	return b.String()
}

// TestPackagesAreBounded: what a small image can multiply its packages by, links
// to a database and the same database in every layer, ends at a limit before it
// takes the memory.
func TestPackagesAreBounded(t *testing.T) {
	const limit = 1000
	database := dpkgStatus(limit * 9 / 10)
	links := []lt.Entry{lt.File("var/lib/dpkg/status.d/a", database)}
	for i := range 3000 {
		links = append(links, lt.HardLink(fmt.Sprintf("var/lib/dpkg/status.d/l%d", i), "var/lib/dpkg/status.d/a"))
	}
	aliases := []lt.Entry{lt.File("data/a", database)}
	for i := range 3000 {
		aliases = append(aliases, lt.HardLink(fmt.Sprintf("var/lib/dpkg/status.d/l%d", i), "data/a"))
	}
	files := []lt.Entry{}
	for i := range 20 {
		files = append(files, lt.File(fmt.Sprintf("var/lib/dpkg/status.d/f%d", i), database))
	}
	for name, layer := range map[string][]lt.Entry{"links": links, "links to another name": aliases, "files": files} {
		t.Run(name, func(t *testing.T) {
			s := lt.Store{}
			d := s.Add(lt.Gzip(t, lt.Tar(t, layer...)))
			x := extractor(t, s, func(l *extract.Limits) { l.MaxPackages = limit })
			_, err := x.Extract(t.Context(), imageref.Ref{}, []core.Descriptor{d})
			if f := core.AsFault(err); f == nil || f.Reason != core.ReasonLimitExceeded || !strings.Contains(f.Message, "packages") {
				t.Errorf("error %v, want LIMIT_EXCEEDED", err)
			}
		})
	}
}

// TestNamesOfAFileAreBounded: a file is not looked into under any number of names.
func TestNamesOfAFileAreBounded(t *testing.T) {
	if race.Enabled {
		t.Skip("minutes under the race detector")
	}
	layer := []lt.Entry{lt.File("data/a", "{}")}
	for i := range 10_001 {
		layer = append(layer, lt.HardLink(fmt.Sprintf("app/node_modules/m%d/package.json", i), "data/a"))
	}
	s := lt.Store{}
	for n, want := range map[int]string{len(layer): core.ReasonLimitExceeded, len(layer) - 1: ""} {
		d := s.Add(lt.Gzip(t, lt.Tar(t, layer[:n]...)))
		reason := ""
		_, err := extractor(t, s, nil).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{d})
		if f := core.AsFault(err); f != nil {
			reason = f.Reason
		} else if err != nil {
			t.Fatal(err)
		}
		if reason != want {
			t.Errorf("%d entries: %q, want %q", n, reason, want)
		}
	}
}

// A database that many layers change is no excess: only the newest counts.
func TestPackagesOfManyLayers(t *testing.T) {
	const limit = 1000
	s := lt.Store{}
	var layers []core.Descriptor
	for i := range 5 {
		layers = append(layers, s.Add(lt.Gzip(t, lt.Tar(t, lt.File("var/lib/dpkg/status", dpkgStatus(limit-i))))))
	}
	x := extractor(t, s, func(l *extract.Limits) { l.MaxPackages = limit })
	inv, err := x.Extract(t.Context(), imageref.Ref{}, layers)
	if err != nil || len(inv.Packages) != limit-4 {
		t.Errorf("%d packages, %v", len(inv.Packages), err)
	}
}
