package extract_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

type memory struct {
	sync.Mutex
	content map[string][]byte
}

func (m *memory) Layer(_ context.Context, digest, set string) ([]byte, bool, error) {
	m.Lock()
	defer m.Unlock()
	c, ok := m.content[digest+set]
	return c, ok, nil
}

func (m *memory) PutLayer(_ context.Context, digest, set string, content []byte) error {
	m.Lock()
	defer m.Unlock()
	m.content[digest+set] = content
	return nil
}

// pulls counts the layers that are pulled.
type pulls struct {
	lt.Store
	sync.Mutex
	n int
}

func (p *pulls) Layer(ctx context.Context, ref imageref.Ref, d core.Descriptor) (io.ReadCloser, error) {
	p.Lock()
	p.n++
	p.Unlock()
	return p.Store.Layer(ctx, ref, d)
}

// TestKnownLayers: an image of known layers pulls none, and its inventory is that
// of layers that were read; damaged entries are read again.
func TestKnownLayers(t *testing.T) {
	s := &pulls{Store: lt.Store{}}
	var ds []core.Descriptor
	for _, l := range [][]lt.Entry{
		{
			lt.File("etc/os-release", alpineRelease), lt.Symlink("lib", "usr/lib"),
			lt.File("usr/lib/apk/db/installed", "P:a\nV:1-r0\nA:x86_64\no:src\nL:MIT\nF:usr/lib/node_modules/x\nR:package.json\n\n"),
			npm("usr/lib/node_modules/x", "x", "1.0.0"), npm("app/node_modules/y", "y", "1.0.0"), npm("app/node_modules/gone", "gone", "1.0.0"),
			lt.File("store/z", `{"name":"z","version":"2.0.0"}`), lt.HardLink("app/node_modules/z/package.json", "store/z"),
			lt.File("app/broken.jar", "PK\x05\x06 no archive"),
		},
		{lt.File("app/node_modules/.wh.gone", ""), npm("app/node_modules/y", "y", "1.1.0")},
		{lt.Dir("var/cache"), lt.File("var/cache/.wh..wh..opq", "")},
	} {
		ds = append(ds, s.Add(lt.Gzip(t, lt.Tar(t, l...))))
	}
	cache := &memory{content: map[string][]byte{}}
	x := extractor(t, s, nil)
	x.UseCache(cache)
	extractAll := func() core.Inventory {
		t.Helper()
		inv, err := x.Extract(t.Context(), imageref.Ref{}, ds)
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	want := extractAll()
	if len(want.Packages) != 3 || len(want.Problems) == 0 {
		t.Fatalf("the test image shows too little: %v %v", lines(want), want.Problems)
	}
	s.n = 0
	if diff := cmp.Diff(want, extractAll()); diff != "" || s.n != 0 {
		t.Errorf("known layers: %d pulls (-want +got):\n%s", s.n, diff)
	}
	for k, c := range cache.content {
		cache.content[k] = c[:len(c)/2]
	}
	if diff := cmp.Diff(want, extractAll()); diff != "" || s.n < 3 {
		t.Errorf("damaged entries: %d pulls (-want +got):\n%s", s.n, diff)
	}
	s.n = 0
	extractAll()
	if s.n != 0 {
		t.Errorf("damaged entries are not replaced: %d pulls", s.n)
	}
}

// TestKnownLayersAreBounded: limits hold for layers that are not read again.
func TestKnownLayersAreBounded(t *testing.T) {
	s := lt.Store{}
	d := s.Add(lt.Gzip(t, lt.Tar(t, npm("a/node_modules/a", "a", "1"), npm("a/node_modules/b", "b", "1"))))
	cache := &memory{content: map[string][]byte{}}
	for _, c := range []struct {
		change func(*extract.Limits)
		bad    bool
	}{{nil, false}, {func(l *extract.Limits) { l.MaxEntries = 1 }, true}, {func(l *extract.Limits) { l.MaxImage = 10 }, true}} {
		x := extractor(t, s, c.change)
		x.UseCache(cache)
		_, err := x.Extract(t.Context(), imageref.Ref{}, []core.Descriptor{d})
		if f := core.AsFault(err); c.bad != (f != nil && f.Reason == core.ReasonLimitExceeded) {
			t.Errorf("error %v", err)
		}
	}
}

type brokenCache struct{ memory }

var errCache = errors.New("database is down")

func (*brokenCache) Layer(context.Context, string, string) ([]byte, bool, error) {
	return nil, false, errCache
}

func TestBrokenCache(t *testing.T) {
	s := lt.Store{}
	d := s.Add(lt.Gzip(t, lt.Tar(t, npm("a", "a", "1"))))
	x := extractor(t, s, nil)
	x.UseCache(&brokenCache{})
	if _, err := x.Extract(t.Context(), imageref.Ref{}, []core.Descriptor{d}); !errors.Is(err, errCache) || core.AsFault(err) != nil {
		t.Errorf("error %v", err)
	}
}
