package extract_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

// sparseForms are the forms in which GNU tar writes a file with holes. Each of the
// archives in testdata/sparse has one jar with a hole of a megabyte in it.
var sparseForms = []string{"gnu", "pax-0.0", "pax-0.1", "pax-1.0"}

func sparseLayer(t *testing.T, form string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "sparse", form+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestSparse: a sparse file is read with its holes as zeros, as it is unpacked, and the
// holes count like content in every limit.
func TestSparse(t *testing.T) {
	for _, form := range sparseForms {
		t.Run(form, func(t *testing.T) {
			layer := sparseLayer(t, form)
			if len(layer) > 16<<10 {
				t.Fatalf("the archive has %d bytes: the hole is in it", len(layer))
			}
			s := lt.Store{}
			scan := func(change func(*extract.Limits)) (core.Inventory, error) {
				return extractor(t, s, change).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{s.Add(layer)})
			}
			inv, err := scan(nil)
			if got := fmt.Sprint(lines(inv)); err != nil || inv.Problems != nil || !strings.Contains(got, "g:a 1.0.0") {
				t.Errorf("%v, %q, %v", got, inv.Problems, err)
			}
			inv, err = scan(func(l *extract.Limits) { l.MaxInMemory = 1 })
			if got := fmt.Sprint(lines(inv)); err != nil || !strings.Contains(got, "g:a 1.0.0") {
				t.Errorf("in a temporary file: %v, %v", got, err)
			}
			inv, err = scan(func(l *extract.Limits) { l.MaxFile = 1 << 20 })
			if err != nil || inv.Packages != nil || len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], "larger than") {
				t.Errorf("over the limit of a file: %v, %q, %v", lines(inv), inv.Problems, err)
			}
			for name, change := range map[string]func(*extract.Limits){
				"a layer": func(l *extract.Limits) { l.MaxLayer = 1 << 20 },
				"image":   func(l *extract.Limits) { l.MaxImage = 1 << 20 },
			} {
				_, err := scan(change)
				if f := core.AsFault(err); f == nil || f.Reason != core.ReasonLimitExceeded || !strings.Contains(err.Error(), name) {
					t.Errorf("over the limit of %s: %v", name, err)
				}
			}
		})
	}
}

// TestMalformedSparse: a map of holes that cannot be is a fault of the layer.
func TestMalformedSparse(t *testing.T) {
	for form, damage := range map[string]func([]byte) []byte{
		// The size that the file has when it is unpacked, in the old header.
		"gnu": func(b []byte) []byte {
			i := bytes.Index(b, []byte("opt/a.jar\x00"))
			copy(b[i+483:], "00000000001\x00")
			return checksummed(b, i)
		},
		"pax-0.1": func(b []byte) []byte {
			return bytes.Replace(b, []byte("GNU.sparse.map=0,"), []byte("GNU.sparse.map=x,"), 1)
		},
		"pax-0.0": func(b []byte) []byte {
			return bytes.Replace(b, []byte("GNU.sparse.numblocks=3"), []byte("GNU.sparse.numblocks=9"), 1)
		},
		"pax-1.0": func(b []byte) []byte { return bytes.Replace(b, []byte("\n1048576\n"), []byte("\n9048576\n"), 1) },
	} {
		whole := sparseLayer(t, form)
		bad := damage(bytes.Clone(whole))
		if bytes.Equal(whole, bad) {
			t.Errorf("%s: nothing is damaged", form)
			continue
		}
		s := lt.Store{}
		_, err := extractor(t, s, nil).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{s.Add(bad)})
		if f := core.AsFault(err); f == nil || f.Reason != core.ReasonLayerCorrupt {
			t.Errorf("%s: %v", form, err)
		}
	}
}

// checksummed gives the tar header at i the checksum that it should have.
func checksummed(b []byte, i int) []byte {
	h := b[i : i+512]
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}
