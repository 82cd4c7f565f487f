package osvfiles_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/osvfiles"
)

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func archive(t *testing.T, entries ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		w, err := z.Create(e[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// collect returns "name=content" or "name!error" of each record.
func collect(paths ...string) (got []string, err error) {
	for r, e := range osvfiles.Records(paths) {
		switch {
		case e != nil:
			return got, e
		case r.Err != nil:
			got = append(got, r.Name+": "+r.Err.Error())
		default:
			got = append(got, r.Name+"="+string(r.JSON))
		}
	}
	return got, nil
}

func TestRecords(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	tree := filepath.Join(root, "osv")
	write(t, filepath.Join(tree, "Go", "all.zip"), archive(t, [2]string{"GO-1.json", "{1}"}, [2]string{"README", "no"}, [2]string{"sub/GO-2.JSON", "{2}"}))
	write(t, filepath.Join(tree, "Debian", "all.zip"), archive(t, [2]string{"DSA-1.json", "{3}"}))
	write(t, filepath.Join(tree, "extra.json"), []byte("{4}"))
	write(t, filepath.Join(tree, "notes.txt"), []byte("no"))
	single := write(t, filepath.Join(root, "CVE-1.json"), []byte("{5}"))

	got, err := collect(tree, single)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"Debian/all.zip!DSA-1.json={3}", "Go/all.zip!GO-1.json={1}", "Go/all.zip!sub/GO-2.JSON={2}",
		"extra.json={4}", "CVE-1.json={5}",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
}

func TestRecords_problems(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	empty := filepath.Join(root, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := collect(empty); !errors.Is(err, osvfiles.ErrNothing) {
		t.Errorf("empty directory: %v, want ErrNothing", err)
	}
	if _, err := collect(filepath.Join(root, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing path: %v", err)
	}
	if _, err := collect(write(t, filepath.Join(root, "a.txt"), nil)); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("other file: %v", err)
	}
	if _, err := collect(write(t, filepath.Join(root, "bad.zip"), []byte("not a zip"))); err == nil {
		t.Error("a broken archive was read")
	}

	// A small archive that grows beyond the limit, and a sound record after it.
	bomb := write(t, filepath.Join(root, "bomb.zip"), archive(t,
		[2]string{"big.json", strings.Repeat("0", osvfiles.MaxRecord+1)}, [2]string{"max.json", strings.Repeat("0", osvfiles.MaxRecord)}))
	var names []string
	for r, err := range osvfiles.Records([]string{bomb}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Err != nil {
			names = append(names, r.Name+" refused")
			continue
		}
		names = append(names, r.Name)
	}
	if d := cmp.Diff([]string{"bomb.zip!big.json refused", "bomb.zip!max.json"}, names); d != "" {
		t.Errorf("records at the limit (-want +got):\n%s", d)
	}
}

func TestRecords_stops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a.json", "b.json", "c.json"} {
		write(t, filepath.Join(dir, name), []byte("{}"))
	}
	n := 0
	for range osvfiles.Records([]string{dir, dir}) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d records after the break, want 2", n)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte("PK\x03\x04"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "all.zip")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for r, err := range osvfiles.Records([]string{path}) {
			if err != nil {
				return
			}
			if len(r.JSON) > osvfiles.MaxRecord {
				t.Fatalf("record of %d bytes", len(r.JSON))
			}
		}
	})
}
