package rpmdb_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	peer "github.com/erikvarga/go-rpmdb/pkg"
	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite" // the peer's engine

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/rpmdb"
)

// databases are those of real distributions that come with the peer: CentOS 5 to 8,
// Fedora, SUSE, CBL-Mariner, and UBI of a big-endian machine.
func databases(tb testing.TB) []string {
	tb.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/erikvarga/go-rpmdb").Output()
	if err != nil {
		tb.Fatalf("go list: %v", err)
	}
	var found []string
	err = filepath.WalkDir(filepath.Join(strings.TrimSpace(string(out)), "pkg", "testdata"), func(path string, d fs.DirEntry, err error) error {
		switch filepath.Base(path) {
		case "Packages", "Packages.db", "rpmdb.sqlite":
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) < 10 {
		tb.Fatalf("databases: %v, %v", found, err)
	}
	return found
}

func read(content []byte, want func(string) bool) ([]rpmdb.Package, error) {
	var out []rpmdb.Package
	err := rpmdb.Read(bytes.NewReader(content), int64(len(content)), want, func(p *rpmdb.Package) error {
		out = append(out, *p)
		return nil
	})
	return out, err
}

// TestPeer: packages and their files are those that go-rpmdb reads, the library
// behind scalibr's extractor, syft and trivy.
func TestPeer(t *testing.T) {
	for _, path := range databases(t) {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			// SQLite would write beside the file.
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			own := filepath.Join(t.TempDir(), filepath.Base(path))
			if err := os.WriteFile(own, content, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := peer.Open(own)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			list, err := db.ListPackages()
			if err != nil {
				t.Fatal(err)
			}
			var want []rpmdb.Package
			files := 0
			for _, p := range list {
				names, err := p.InstalledFileNames()
				if err != nil {
					t.Fatal(err)
				}
				files += len(names)
				want = append(want, rpmdb.Package{
					Name: p.Name, Version: p.Version, Release: p.Release, Epoch: p.EpochNum(), Arch: p.Arch, SourceRPM: p.SourceRpm,
					License: p.License, Vendor: p.Vendor, ModularityLabel: p.Modularitylabel, Files: slices.Clip(names),
				})
			}
			got, err := read(content, func(string) bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			byName := func(a, b rpmdb.Package) int {
				return strings.Compare(a.Name+" "+a.Version+"-"+a.Release+" "+a.Arch, b.Name+" "+b.Version+"-"+b.Release+" "+b.Arch)
			}
			slices.SortStableFunc(want, byName)
			slices.SortStableFunc(got, byName)
			if diff := cmp.Diff(want, got, cmp.Transformer("empty", func(s []string) string { return strings.Join(s, "\n") })); diff != "" {
				t.Errorf("packages (-peer +own):\n%.2000s", diff)
			}
			t.Logf("%d packages, %d files", len(got), files)
		})
	}
}

// TestMalformed: whatever is done to a database ends in an error or in packages,
// never in a panic, and never in more than there was.
func TestMalformed(t *testing.T) {
	for _, path := range databases(t) {
		name := filepath.Base(filepath.Dir(path))
		if name != "libuuid" && name != "sle15-bci" && name != "cbl-mariner-2.0" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			whole, err := read(content, nil)
			if err != nil || len(whole) == 0 {
				t.Fatalf("%d packages, %v", len(whole), err)
			}
			for _, n := range []int{0, 5, 31, 32, 100, 4096, len(content) / 2, len(content) - 1} {
				// The last bytes may be padding: all packages are no fault then.
				got, err := read(content[:n], nil)
				if err == nil && len(got) > len(whole) || err != nil && !errors.Is(err, rpmdb.ErrMalformed) {
					t.Errorf("cut to %d bytes: %d packages, %v", n, len(got), err)
				}
			}
			for i := 0; i < len(content); i += 1 + len(content)/300 {
				broken := bytes.Clone(content)
				broken[i] ^= 0xff
				if got, err := read(broken, nil); err != nil && !errors.Is(err, rpmdb.ErrMalformed) || len(got) > len(whole)+1 {
					t.Fatalf("byte %d: %d packages, %v", i, len(got), err)
				}
			}
		})
	}
}

// TestNoDatabase: other files, and a file of the right name without packages.
func TestNoDatabase(t *testing.T) {
	for _, content := range []string{"", "x", strings.Repeat("x", 100), "SQLite format 3\x00" + strings.Repeat("\x00", 84)} {
		if _, err := read([]byte(content), nil); !errors.Is(err, rpmdb.ErrMalformed) {
			t.Errorf("%.20q: %v", content, err)
		}
	}
}

// TestStop: an error of the caller ends the reading.
func TestStop(t *testing.T) {
	errStop := errors.New("stop")
	for _, path := range databases(t)[:1] {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = rpmdb.Read(bytes.NewReader(content), int64(len(content)), nil, func(*rpmdb.Package) error {
			n++
			return errStop
		})
		if !errors.Is(err, errStop) || n != 1 {
			t.Errorf("%d packages, %v", n, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, path := range databases(f) {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if len(content) < 100<<10 {
			f.Add(content)
		}
		f.Add(content[:min(len(content), 16<<10)])
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		total := 0
		err := rpmdb.Read(bytes.NewReader(content), int64(len(content)), func(string) bool { return true }, func(p *rpmdb.Package) error {
			total += len(p.Name) + len(p.Version)
			return nil
		})
		if err != nil && !errors.Is(err, rpmdb.ErrMalformed) {
			t.Errorf("unexpected error: %v", err)
		}
		// Every byte of the file is part of at most a few texts.
		if total > 64*len(content)+1024 {
			t.Errorf("%d bytes of names out of %d", total, len(content))
		}
	})
}
