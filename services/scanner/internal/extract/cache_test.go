package extract_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
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

// TestLayersInMemory: whatever images are made of layers that are held in memory, several
// at a time, their inventories are those of layers that are read.
func TestLayersInMemory(t *testing.T) {
	s := &pulls{Store: lt.Store{}}
	var ds []core.Descriptor
	status := func(packages ...string) lt.Entry {
		var b strings.Builder
		for _, p := range packages {
			fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n", p)
		}
		return lt.File("var/lib/dpkg/status", b.String())
	}
	for _, l := range [][]lt.Entry{
		{lt.File("etc/os-release", debianRelease), status("a", "b"), npm("app/node_modules/x", "x", "1.0.0")},
		{lt.File("etc/os-release", "ID=debian\nVERSION_ID=\"11\"\n")},
		{status("a"), lt.Symlink("srv", "app"), npm("srv/node_modules/y", "y", "1.0.0")},
		{lt.File("store/z", `{"name":"z","version":"2.0.0"}`), lt.HardLink("app/node_modules/z/package.json", "store/z")},
		{lt.Symlink("app", "opt"), npm("app/node_modules/x", "x", "2.0.0"), lt.Dir("app/node_modules/y")},
		{lt.File("app/.wh.node_modules", ""), lt.File("var/lib/dpkg", "a file where a directory was"), lt.File("usr/share/doc/a", "")},
	} {
		ds = append(ds, s.Add(lt.Gzip(t, lt.Tar(t, l...))))
	}
	x, err := extract.NewWith(s, extract.DefaultLimits(), 2, extract.Options{MaxKnown: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	x.UseCache(&memory{content: map[string][]byte{}})
	rng := rand.New(rand.NewPCG(1, 2))
	var wg sync.WaitGroup
	for range 60 {
		var image []core.Descriptor
		for range 1 + rng.IntN(6) {
			image = append(image, ds[rng.IntN(len(ds))])
		}
		want, err := extractor(t, s.Store, nil).Extract(t.Context(), imageref.Ref{}, image)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for range 2 {
				got, err := x.Extract(t.Context(), imageref.Ref{}, image)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
			}
		})
	}
	wg.Wait()
	s.n = 0
	if _, err := x.Extract(t.Context(), imageref.Ref{}, ds); err != nil || s.n != 0 {
		t.Errorf("%d pulls, %v", s.n, err)
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
