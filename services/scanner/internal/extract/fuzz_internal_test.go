package extract

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// fuzzed gives a file to an extractor through the bounds that every file passes. It must not
// panic (guarded names a panic), must keep its limits, and finds only valid texts.
func fuzzed(t *testing.T, name, path string, content []byte) {
	t.Helper()
	l := DefaultLimits()
	l.MaxPackages = 1000
	ps, err := newPlugins(l, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := ps.byName[name]
	if p == nil {
		t.Fatalf("no extractor %q", name)
	}
	out := &file{}
	_, err = p.measured(t.Context(), maxWork, path, anyFile{"x"}, inMemory(content), out)
	if err != nil && strings.Contains(err.Error(), "panicked") {
		t.Fatal(err)
	}
	if err != nil && core.AsFault(err) == nil && errors.Is(err, errOver) && strings.Contains(err.Error(), "processor") {
		t.Fatal(err)
	}
	if len(out.packages) > 2*l.MaxPackages && p.database {
		t.Fatalf("%d packages", len(out.packages))
	}
	for i := range out.packages {
		f := &out.packages[i]
		if f.name == "" || len(f.name) > 3*maxText || valid(f.name+f.version+f.sourceName+f.sourceVersion) != f.name+f.version+f.sourceName+f.sourceVersion {
			t.Fatalf("package %+v", f)
		}
		f.pkg(distro{id: "debian", version: "12"}, "x")
	}
}

func FuzzDpkg(f *testing.F) {
	f.Add([]byte("Package: a\nStatus: install ok installed\nSource: b (1)\nVersion: 1\nMaintainer: x\nDescription: d\n more\n\nPackage: c\nVersion: 2\n"))
	f.Add([]byte("Package: a\nPackage: b\n"))
	f.Fuzz(func(t *testing.T, content []byte) { fuzzed(t, "dpkg", dpkgStatus, content) })
}

func FuzzRPMManifest(f *testing.F) {
	f.Add([]byte("openssl\t1.1.1k-1.cm2\t1\t1\tM\t(none)\t1\tx86_64\t0\topenssl-1.1.1k-1.cm2.src.rpm\n"))
	f.Fuzz(func(t *testing.T, content []byte) { fuzzed(t, "rpmmanifest", rpmManifest, content) })
}

// FuzzChisel: the text is compressed first, which the fuzzer would not find out, and given as it is.
func FuzzChisel(f *testing.F) {
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"jsonwall":"1.0","count":2}` + "\n" + `{"kind":"package","name":"openssl","version":"1","arch":"amd64"}` + "\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		fuzzed(t, "chisel", "var/lib/chisel/manifest.wall", zw.EncodeAll(content, nil))
		fuzzed(t, "chisel", "var/lib/chisel/manifest.wall", content)
	})
}

func FuzzBitnami(f *testing.F) {
	f.Add([]byte(`{"packages":[{"externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:bitnami/redis@6.2.1-0?arch=amd64"}]}]}`))
	f.Fuzz(func(t *testing.T, content []byte) { fuzzed(t, bitnami, "opt/bitnami/a/.spdx-a.spdx", content) })
}

func FuzzDepsJSON(f *testing.F) {
	f.Add([]byte(`{"libraries":{"runtimepack.A/6.0.1":{"type":"runtimepack"},"B/1.0.0":{"type":"package"},"C/1":{"type":"project"}}}`))
	f.Fuzz(func(t *testing.T, content []byte) { fuzzed(t, "dotnet/depsjson", "a.deps.json", content) })
}

// FuzzBunLock: what is left of the commas is what JSON knows.
func FuzzBunLock(f *testing.F) {
	f.Add([]byte(`{"packages":{"a":["a@1.0.0",{"b":"x,]",},],},}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if got := strictJSON(content); len(got) != len(content) {
			t.Fatalf("%d bytes of %d", len(got), len(content))
		}
		fuzzed(t, "bun-lock", "bun.lock", content)
	})
}

// FuzzZip: archives by content, with the packages of Python and npm in them.
func FuzzZip(f *testing.F) {
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, content []byte) { fuzzed(t, zipArchiveName, "a.zip", content) })
}

// TestChiselLimits: a manifest of chisel is small, however much it decompresses to.
func TestChiselLimits(t *testing.T) {
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	const line = `{"kind":"package","name":"a","version":"1"}` + "\n"
	long := []byte(`{"kind":"content","path":"` + strings.Repeat("x", 64<<10) + `"}` + "\n")
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"packages":  {zw.EncodeAll(bytes.Repeat([]byte(line), 11), nil), "more than 10 packages"},
		"line":      {zw.EncodeAll(bytes.Repeat([]byte("x"), maxChiselLine+1), nil), "token too long"},
		"size":      {zw.EncodeAll(bytes.Repeat(long, maxChisel/len(long)+1), nil), "larger than"},
		"not zstd":  {[]byte(line), "magic"},
		"truncated": {zw.EncodeAll(bytes.Repeat([]byte(line), 5), nil)[:20], "unexpected EOF"},
		"nameless":  {zw.EncodeAll([]byte(`{"kind":"package","version":"1"}`), nil), errNoPackage.Error()},
		"good":      {zw.EncodeAll([]byte(line), nil), errNoSources.Error()},
	} {
		out := &file{}
		if _, err := chiselPlugin(10).measured(t.Context(), maxWork, "manifest.wall", nil, inMemory(c.content), out); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
		if len(out.packages) > 10 {
			t.Errorf("%s: %d packages", name, len(out.packages))
		}
	}
}

func FuzzOwners(f *testing.F) {
	ps, err := newPlugins(DefaultLimits(), Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("var/lib/dpkg/info/a:amd64.list", []byte("/.\n/usr/lib/a/package.json\n"))
	f.Add("var/lib/dpkg/status.d/a.md5sums", []byte("00  usr/lib/a/package.json\n"))
	f.Add(apkInstalled, []byte("P:a\nV:1\nF:usr/lib/a\nR:package.json\n\nR:package.json\n"))
	f.Fuzz(func(t *testing.T, p string, content []byte) {
		for _, o := range ps.owners(p, bytes.NewReader(content)) {
			for _, owned := range o.Paths {
				if owned == "" || owned[0] == '/' {
					t.Errorf("path %q", owned)
				}
			}
		}
	})
}

// FuzzStoredLayer: no row of the database can panic the merge.
func FuzzStoredLayer(f *testing.F) {
	ps, err := newPlugins(DefaultLimits(), Options{})
	if err != nil {
		f.Fatal(err)
	}
	good, err := encodeLayer(&layerResult{digest: "d", size: 1, events: []event{
		{path: "a", kind: kindFile, file: &file{considered: ps.list[:1], packages: []found{{name: "x", version: "1"}}, owners: []owner{{Name: "x", Paths: []string{"a"}}}}},
		{path: "b", kind: kindHardLink, target: "a", wanted: ps.list[:1]}, {path: "c", kind: kindSymlink, target: "a"}, {path: "d", kind: kindWhiteout},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(_ *testing.T, content []byte) {
		r, err := ps.decodeLayer("d", content)
		if err != nil {
			return
		}
		m := newMerger(1000)
		m.add(r)
		m.inventory()
	})
}
