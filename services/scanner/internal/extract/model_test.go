package extract_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

// unpacked is a real directory that layers are unpacked into, one operation of the
// kernel after the other: the model that the merge in memory must equal.
type unpacked struct {
	t    *testing.T
	root string
}

func (u unpacked) must(err error) {
	u.t.Helper()
	if err != nil {
		u.t.Fatal(err)
	}
}

// dir makes a directory with its parents and returns its real path. Links are
// followed; what is no directory makes room.
func (u unpacked) dir(p string) string {
	at := u.root
	for _, c := range strings.Split(p, "/") {
		if c == "" || c == "." {
			continue
		}
		next := filepath.Join(at, c)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			u.must(os.Mkdir(next, 0o755))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(next)
			u.must(err)
			rel, err := filepath.Rel(u.root, filepath.Join(at, target))
			u.must(err)
			next = u.dir(rel)
		case !info.IsDir():
			u.must(os.Remove(next))
			u.must(os.Mkdir(next, 0o755))
		}
		at = next
	}
	return at
}

// lower is where a whiteout points to, without making anything.
func (u unpacked) lower(p string) string {
	parent, err := filepath.EvalSymlinks(filepath.Join(u.root, filepath.Dir(p)))
	if err != nil {
		return ""
	}
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		return ""
	}
	return filepath.Join(parent, filepath.Base(p))
}

func (u unpacked) apply(layer []lt.Entry) {
	for _, e := range layer {
		dir, base := filepath.Split(e.Name)
		if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
			at := u.lower(filepath.Join(dir, hidden))
			if at == "" {
				continue
			}
			if base != ".wh..wh..opq" {
				u.must(os.RemoveAll(at))
				continue
			}
			list, err := os.ReadDir(filepath.Dir(at))
			if err != nil {
				continue
			}
			for _, d := range list {
				u.must(os.RemoveAll(filepath.Join(filepath.Dir(at), d.Name())))
			}
		}
	}
	for _, e := range layer {
		name := strings.TrimSuffix(e.Name, "/")
		if strings.HasPrefix(filepath.Base(name), ".wh.") {
			continue
		}
		at := filepath.Join(u.dir(filepath.Dir(name)), filepath.Base(name))
		if info, err := os.Lstat(at); err == nil && (!info.IsDir() || e.Type != '5') {
			u.must(os.RemoveAll(at))
		}
		switch e.Type {
		case '5':
			u.must(os.MkdirAll(at, 0o755))
		case '2':
			u.must(os.Symlink(e.Link, at))
		case '1':
			u.must(os.Link(filepath.Join(u.dir(filepath.Dir(e.Link)), filepath.Base(e.Link)), at))
		default:
			u.must(os.WriteFile(at, []byte(e.Content), 0o600))
		}
	}
}

// packages are the places of the files that have packages, with what they hold.
func (u unpacked) packages() []string {
	var out []string
	u.must(filepath.WalkDir(u.root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() != "package.json" {
			return err
		}
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(u.root, p)
		out = append(out, rel+" "+string(content))
		return err
	}))
	slices.Sort(out)
	return out
}

// randomLayer draws entries over few names, so that they meet. Hard links point to
// files of the same layer.
func randomLayer(r *rand.Rand, n *int) []lt.Entry {
	dirs := []string{"a", "b", "a/b", "a/a", "b/a/b", "l", "l/b", "m", "m/a"}
	dirsOnly := dirs[:5]
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	var out []lt.Entry
	for range 1 + r.IntN(6) {
		switch r.IntN(9) {
		case 0:
			out = append(out, lt.File(pick(dirsOnly)+"/.wh.package.json", ""))
		case 1:
			dir, base := filepath.Split(pick(dirsOnly))
			out = append(out, lt.File(dir+".wh."+base, ""))
		case 2:
			out = append(out, lt.File(pick(dirsOnly)+"/.wh..wh..opq", ""))
		case 3:
			out = append(out, lt.Dir(pick(dirs)))
		case 4:
			out = append(out, lt.Symlink([]string{"l", "m"}[r.IntN(2)], pick(dirsOnly)))
		case 5:
			// A file in the place of a directory or a link.
			out = append(out, lt.File(pick(dirs), "x"))
		case 6:
			*n++
			from := pick(dirsOnly) + fmt.Sprintf("/f%d/package.json", *n)
			out = append(out, lt.File(from, manifestOf(*n)), lt.HardLink(fmt.Sprintf("%s/h%d/package.json", pick(dirsOnly), *n), from))
		default:
			*n++
			out = append(out, lt.File(pick(dirs)+"/package.json", manifestOf(*n)))
		}
	}
	return out
}

func manifestOf(n int) string { return fmt.Sprintf(`{"name":"p","version":"1.0.%d"}`, n) }

// TestMergeEqualsUnpacking: what is found in the merged layers is what stands in a
// directory that they are unpacked into.
func TestMergeEqualsUnpacking(t *testing.T) {
	s := lt.Store{}
	x := extractor(t, s, nil)
	for seed := range uint64(400) {
		r, n := rand.New(rand.NewPCG(seed, 1)), 0
		u := unpacked{t, t.TempDir()}
		var ds []core.Descriptor
		var layers [][]lt.Entry
		for range 1 + r.IntN(4) {
			layer := randomLayer(r, &n)
			layers = append(layers, layer)
			ds = append(ds, s.Add(lt.Tar(t, layer...)))
			u.apply(layer)
		}
		inv, err := x.Extract(t.Context(), imageref.Ref{}, ds)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range inv.Packages {
			got = append(got, p.Location+fmt.Sprintf(` {"name":"p","version":"%s"}`, p.Version))
		}
		slices.Sort(got)
		if want := u.packages(); !slices.Equal(got, want) {
			t.Fatalf("seed %d\nlayers %v\nmerged   %v\nunpacked %v\nproblems %q", seed, names(layers), got, want, inv.Problems)
		}
	}
}

func names(layers [][]lt.Entry) (out []string) {
	for i, l := range layers {
		for _, e := range l {
			out = append(out, fmt.Sprintf("%d:%c:%s→%s", i, max(e.Type, '0'), e.Name, e.Link))
		}
	}
	return out
}
