package extract_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func extractor(tb testing.TB, o extract.Opener, change func(*extract.Limits)) *extract.Extractor {
	tb.Helper()
	l := extract.DefaultLimits()
	if change != nil {
		change(&l)
	}
	x, err := extract.New(o, l, 2)
	if err != nil {
		tb.Fatal(err)
	}
	return x
}

// inventory extracts an image of gzip layers.
func inventory(t *testing.T, layers ...[]lt.Entry) core.Inventory {
	t.Helper()
	inv, _ := withLayers(t, layers...)
	return inv
}

func withLayers(t *testing.T, layers ...[]lt.Entry) (core.Inventory, []core.Descriptor) {
	t.Helper()
	s := lt.Store{}
	var ds []core.Descriptor
	for _, l := range layers {
		ds = append(ds, s.Add(lt.Gzip(t, lt.Tar(t, l...))))
	}
	inv, err := extractor(t, s, nil).Extract(t.Context(), imageref.Ref{}, ds)
	if err != nil {
		t.Fatal(err)
	}
	return inv, ds
}

// lines is a short form of packages: purl, source, location.
func lines(inv core.Inventory) []string {
	var out []string
	for _, p := range inv.Packages {
		out = append(out, strings.Join([]string{p.PURL, p.Ecosystem, p.AdvisoryName(), p.AdvisoryVersion(), p.Location}, " "))
	}
	return out
}

func npm(path, name, version string) lt.Entry {
	return lt.File(path+"/package.json", `{"name":"`+name+`","version":"`+version+`"}`)
}

const (
	debianRelease = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n"
	alpineRelease = "ID=alpine\nVERSION_ID=3.22.1\n"
	dpkgTwo       = "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl\nVersion: 3.0.11-1~deb12u1\n\n" +
		"Package: perl-base\nStatus: install ok installed\nArchitecture: amd64\nSource: perl (5.36.0-7)\nVersion: 5.36.0-7+b1\n\n" +
		"Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n"
	dpkgThree = dpkgTwo + "Package: curl\nStatus: install ok installed\nArchitecture: amd64\nVersion: 7.88.1-10\n\n"
)

func TestOSPackages(t *testing.T) {
	for _, c := range []struct {
		name  string
		layer []lt.Entry
		want  []string
	}{
		{"dpkg", []lt.Entry{lt.File("etc/os-release", debianRelease), lt.File("./var/lib/dpkg/status", dpkgTwo)}, []string{
			"pkg:deb/debian/libssl3@3.0.11-1~deb12u1?arch=amd64&distro=debian-12&upstream=openssl Debian:12 openssl 3.0.11-1~deb12u1 var/lib/dpkg/status",
			"pkg:deb/debian/perl-base@5.36.0-7%2Bb1?arch=amd64&distro=debian-12&upstream=perl%405.36.0-7 Debian:12 perl 5.36.0-7 var/lib/dpkg/status",
		}},
		{"distroless", []lt.Entry{
			lt.Symlink("etc/os-release", "../usr/lib/os-release"), lt.File("usr/lib/os-release", debianRelease),
			lt.File("var/lib/dpkg/status.d/libssl3", "Package: libssl3\nSource: openssl\nVersion: 3.0.11-1\nArchitecture: amd64\n"),
			lt.File("var/lib/dpkg/status.d/libssl3.md5sums", "0 x\n"),
		}, []string{
			"pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12&upstream=openssl Debian:12 openssl 3.0.11-1 var/lib/dpkg/status.d/libssl3",
		}},
		{"apk", []lt.Entry{
			lt.File("etc/os-release", alpineRelease),
			lt.File("lib/apk/db/installed", "P:libcrypto3\nV:3.5.1-r0\nA:x86_64\no:openssl\nL:Apache-2.0\n\n"),
		}, []string{
			"pkg:apk/alpine/libcrypto3@3.5.1-r0?arch=x86_64&distro=alpine-3.22.1&upstream=openssl Alpine:v3.22 openssl 3.5.1-r0 lib/apk/db/installed",
		}},
		{"ubuntu", []lt.Entry{
			lt.File("etc/os-release", "ID=ubuntu\nVERSION_ID=\"24.04\"\n"),
			lt.File("var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\n"),
		}, []string{"pkg:deb/ubuntu/a@1?distro=ubuntu-24.04 Ubuntu:24.04:LTS a 1 var/lib/dpkg/status"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inv := inventory(t, c.layer)
			if diff := cmp.Diff(c.want, lines(inv)); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
			if inv.Problems != nil {
				t.Errorf("problems: %v", inv.Problems)
			}
		})
	}
}

func jar(t *testing.T, files map[string]string) string {
	t.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for name, content := range files {
		w, err := zw.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestLanguagePackages(t *testing.T) {
	log4j := jar(t, map[string]string{"META-INF/maven/x/pom.properties": "groupId=org.apache.logging.log4j\nartifactId=log4j-core\nversion=2.14.1\n"})
	inv := inventory(t, []lt.Entry{
		npm("app/node_modules/lodash", "lodash", "4.17.15"),
		npm("app/node_modules/@types/node", "@types/node", "20.1.0"),
		lt.File("app/node_modules/parse5/package.json", `{"name":"parse5","version":"6.0.1","contributors":"https://example.org","license":"MIT"}`),
		lt.File("app/node_modules/broken/test/package.json", `{"name":`),
		lt.File("usr/lib/python3/site-packages/requests-2.30.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: Requests_Toolbelt\nVersion: 2.30.0\n\nbody"),
		lt.File("opt/app.jar", jar(t, map[string]string{"BOOT-INF/lib/log4j-core-2.14.1.jar": log4j})),
		lt.File("opt/not.jar", "not an archive"),
		lt.Executable("usr/bin/script", "#!/bin/sh\nexit 0\n"),
	})
	want := []string{
		"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1 Maven org.apache.logging.log4j:log4j-core 2.14.1 opt/app.jar",
		"pkg:npm/%40types/node@20.1.0 npm @types/node 20.1.0 app/node_modules/@types/node/package.json",
		"pkg:npm/lodash@4.17.15 npm lodash 4.17.15 app/node_modules/lodash/package.json",
		"pkg:npm/parse5@6.0.1 npm parse5 6.0.1 app/node_modules/parse5/package.json",
		"pkg:pypi/requests-toolbelt@2.30.0 PyPI Requests_Toolbelt 2.30.0 usr/lib/python3/site-packages/requests-2.30.0.dist-info/METADATA",
	}
	if diff := cmp.Diff(want, lines(inv)); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	if inv.Problems != nil {
		t.Errorf("problems: %v", inv.Problems)
	}
	if got := inv.Packages[3].Licenses; !slices.Equal(got, []string{"MIT"}) {
		t.Errorf("licences of parse5: %v", got)
	}
}

// TestGoBinary takes the modules out of a real Go binary.
// goProgram is the content of a built Go program with one module.
func goProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app")
	build := exec.Command("go", "build", "-o", path, "./testdata/app")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestGoBinary(t *testing.T) {
	inv := inventory(t, []lt.Entry{lt.Executable("usr/bin/app", goProgram(t))})
	found := map[string]core.Package{}
	for _, p := range inv.Packages {
		found[p.Name] = p
	}
	version := strings.TrimPrefix(runtime.Version(), "go")
	if p := found["stdlib"]; p.Ecosystem != "Go" || p.Version != version || p.PURL != "pkg:golang/stdlib@"+version {
		t.Errorf("stdlib: %+v, running %s", p, version)
	}
	if p := found["github.com/package-url/packageurl-go"]; p.PURL != "pkg:golang/github.com/package-url/packageurl-go@v"+p.Version || p.Version == "" || p.Location != "usr/bin/app" {
		t.Errorf("module: %+v", p)
	}
	if inv.Problems != nil {
		t.Errorf("problems: %v", inv.Problems)
	}
}

func TestOverlay(t *testing.T) {
	lodash := func(v string) lt.Entry { return npm("app/node_modules/lodash", "lodash", v) }
	const at = "app/node_modules/lodash/package.json"
	for _, c := range []struct {
		name   string
		layers [][]lt.Entry
		want   []string
	}{
		{"replaced", [][]lt.Entry{{lodash("1.0.0")}, {lodash("2.0.0")}}, []string{"lodash@2.0.0 " + at + " 1"}},
		{"whiteout of the file", [][]lt.Entry{{lodash("1.0.0")}, {lt.File("app/node_modules/lodash/.wh.package.json", "")}}, nil},
		{"whiteout of a directory", [][]lt.Entry{{lodash("1.0.0")}, {lt.File("app/.wh.node_modules", "")}}, nil},
		{"whiteout hides lower layers only", [][]lt.Entry{{lodash("1.0.0")}, {lodash("2.0.0"), lt.File("app/.wh.node_modules", "")}}, []string{"lodash@2.0.0 " + at + " 1"}},
		{"opaque directory", [][]lt.Entry{{lodash("1.0.0"), npm("app/node_modules/b", "b", "1.0.0")}, {lodash("2.0.0"), lt.File("app/node_modules/.wh..wh..opq", "")}}, []string{"lodash@2.0.0 " + at + " 1"}},
		{"opaque root", [][]lt.Entry{{lodash("1.0.0")}, {lt.File(".wh..wh..opq", "")}}, nil},
		{"whiteout of another name", [][]lt.Entry{{lodash("1.0.0")}, {lt.File("app/node_modules/.wh.lod", "")}}, []string{"lodash@1.0.0 " + at + " 0"}},
		{"directory replaced by a file", [][]lt.Entry{{lodash("1.0.0")}, {lt.File("app/node_modules", "x")}}, nil},
		{"directory replaced by a link", [][]lt.Entry{{lodash("1.0.0")}, {lt.Symlink("app/node_modules", "/tmp")}}, nil},
		{"file replaced by a directory", [][]lt.Entry{{lodash("1.0.0")}, {lt.Dir(at)}}, nil},
		{"file replaced by a parent", [][]lt.Entry{{lodash("1.0.0")}, {lt.File(at+"/deep/x", "")}}, nil},
		{"directory stays", [][]lt.Entry{{lodash("1.0.0")}, {lt.Dir("app/node_modules"), lt.Dir("app")}}, []string{"lodash@1.0.0 " + at + " 0"}},
		{"replaced by something else", [][]lt.Entry{{lodash("1.0.0")}, {lt.File(at, "[]")}}, nil},
		{"removed and made again", [][]lt.Entry{{lodash("1.0.0")}, {lt.File("app/.wh.node_modules", "")}, {lodash("1.0.0")}}, []string{"lodash@1.0.0 " + at + " 2"}},
		{"twice in one layer", [][]lt.Entry{{lodash("1.0.0"), lodash("2.0.0")}}, []string{"lodash@2.0.0 " + at + " 0"}},
		{"through a linked directory", [][]lt.Entry{{lt.Symlink("lib", "usr/lib")}, {npm("lib/a", "a", "1.0.0")}, {lt.File("usr/lib/.wh.a", "")}}, nil},
		{"in a linked directory", [][]lt.Entry{{lt.Symlink("lib", "/usr/lib"), npm("lib/a", "a", "1.0.0")}}, []string{"a@1.0.0 usr/lib/a/package.json 0"}},
		{"hard link", [][]lt.Entry{{lodash("1.0.0"), lt.HardLink("copy/package.json", at)}}, []string{"lodash@1.0.0 " + at + " 0", "lodash@1.0.0 copy/package.json 0"}},
		{"hard link to a lower layer", [][]lt.Entry{{lodash("1.0.0")}, {lt.HardLink("copy/package.json", at)}}, []string{"lodash@1.0.0 " + at + " 0", "lodash@1.0.0 copy/package.json 1"}},
		{"hard link outlives its target", [][]lt.Entry{{lodash("1.0.0"), lt.HardLink("copy/package.json", at)}, {lt.File(".wh.app", "")}}, []string{"lodash@1.0.0 copy/package.json 0"}},
		{"hard link to a symbolic link", [][]lt.Entry{{lt.Symlink("lib", "usr/lib"), lt.HardLink("copy", "lib"), npm("copy/a", "a", "1.0.0")}}, []string{"a@1.0.0 usr/lib/a/package.json 0"}},
		{"hard link to a directory", [][]lt.Entry{{lodash("1.0.0"), lt.HardLink("copy", "app")}}, []string{"lodash@1.0.0 " + at + " 0"}},
		{"content-addressed store", [][]lt.Entry{{
			lt.Executable("store/00/abc", `{"name":"a","version":"1.0.0"}`), lt.HardLink("node_modules/a/package.json", "store/00/abc"),
			lt.HardLink("node_modules/b/package.json", "node_modules/a/package.json"),
		}}, []string{"a@1.0.0 node_modules/a/package.json 0", "a@1.0.0 node_modules/b/package.json 0"}},
		{"climbing path", [][]lt.Entry{{npm("../../a", "a", "1.0.0")}}, []string{"a@1.0.0 a/package.json 0"}},
		{"AUFS bookkeeping", [][]lt.Entry{{lodash("1.0.0")}, {lt.File(".wh..wh.plnk", ""), lt.File("app/.wh.", "")}}, []string{"lodash@1.0.0 " + at + " 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inv, ds := withLayers(t, c.layers...)
			var got []string
			for _, p := range inv.Packages {
				layer := slices.IndexFunc(ds, func(d core.Descriptor) bool { return d.Digest == p.LayerDigest })
				got = append(got, p.Name+"@"+p.Version+" "+p.Location+" "+string(rune('0'+layer)))
			}
			// Equal layers have equal digests: the first index stands for both.
			if c.name == "removed and made again" && len(got) == 1 {
				got[0] = strings.TrimSuffix(got[0], "0") + "2"
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
			if inv.Problems != nil {
				t.Errorf("problems: %v", inv.Problems)
			}
		})
	}
}

// TestDatabaseAttribution: a package belongs to the layer whose database was the
// first to name it, though every later layer repeats it.
func TestDatabaseAttribution(t *testing.T) {
	inv, ds := withLayers(t,
		[]lt.Entry{lt.File("etc/os-release", debianRelease), lt.File("var/lib/dpkg/status", dpkgTwo)},
		[]lt.Entry{lt.File("var/lib/dpkg/status", dpkgThree)},
		[]lt.Entry{lt.File("var/lib/dpkg/status", strings.Replace(dpkgThree, "3.0.11-1~deb12u1", "3.0.11-1~deb12u2", 1))})
	got := map[string]string{}
	for _, p := range inv.Packages {
		got[p.Name] = p.LayerDigest
	}
	want := map[string]string{"perl-base": ds[0].Digest, "curl": ds[1].Digest, "libssl3": ds[2].Digest}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
}

// TestText: names that are no UTF-8 or have no end cannot break the report.
func TestText(t *testing.T) {
	inv := inventory(t, []lt.Entry{
		lt.File("etc/os-release", debianRelease),
		lt.File("var/lib/dpkg/status", "Package: a\xff\nStatus: install ok installed\nVersion: 1\xfe\n\n"+
			"Package: "+strings.Repeat("b", 2000)+"\nStatus: install ok installed\nVersion: 1\n\n"),
	})
	if len(inv.Packages) != 1 || inv.Packages[0].Name != "a\uFFFD" || inv.Packages[0].Version != "1\uFFFD" {
		t.Errorf("packages %+v", inv.Packages)
	}
	if len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], "longer than 1000 bytes") {
		t.Errorf("problems %q", inv.Problems)
	}
}

func TestCompressions(t *testing.T) {
	content := lt.Tar(t, npm("a", "a", "1.0.0"))
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer zw.Close()
	for name, blob := range map[string][]byte{
		"plain": content, "gzip": lt.Gzip(t, content), "zstd": zw.EncodeAll(content, nil),
		"gzip members": append(lt.Gzip(t, content[:700]), lt.Gzip(t, content[700:])...),
	} {
		t.Run(name, func(t *testing.T) {
			s := lt.Store{}
			inv, err := extractor(t, s, nil).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{s.Add(blob)})
			if err != nil || len(inv.Packages) != 1 {
				t.Errorf("%v, %v", inv, err)
			}
		})
	}
}

func TestIncomplete(t *testing.T) {
	for name, c := range map[string]struct {
		want  string
		layer []lt.Entry
	}{
		"malformed rpm":     {"malformed rpm database", []lt.Entry{lt.File("var/lib/rpm/rpmdb.sqlite", "x")}},
		"rpm journal":       {"not yet in the database", []lt.Entry{lt.File("var/lib/rpm/rpmdb.sqlite-wal", "x")}},
		"unknown distro":    {"no advisories are known", []lt.Entry{lt.File("etc/os-release", "ID=other\n"), lt.File("var/lib/dpkg/status", dpkgTwo)}},
		"no distro":         {"no advisories are known", []lt.Entry{lt.File("var/lib/dpkg/status", dpkgTwo)}},
		"malformed apk":     {"lib/apk/db/installed", []lt.Entry{lt.File("lib/apk/db/installed", "no colon\n")}},
		"unreadable link":   {"hard link", []lt.Entry{lt.HardLink("a/package.json", "nowhere")}},
		"broken inner jar":  {"opt/a.jar", []lt.Entry{lt.File("opt/a.jar", brokenZip)}},
		"link cycle":        {"cycle", []lt.Entry{lt.Symlink("a", "b"), lt.Symlink("b", "a"), lt.File("a/x", "")}},
		"nested in nesting": {"nested deeper", nil},
	} {
		t.Run(name, func(t *testing.T) {
			layer := c.layer
			if layer == nil {
				inner := jar(t, map[string]string{"x": "y"})
				for range 12 {
					inner = jar(t, map[string]string{"inner.jar": inner})
				}
				layer = []lt.Entry{lt.File("opt/deep.jar", inner)}
			}
			inv := inventory(t, layer)
			if len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], c.want) {
				t.Errorf("problems %q, want one with %q", inv.Problems, c.want)
			}
		})
	}
	t.Run("foreign media type", func(t *testing.T) {
		s := lt.Store{}
		d := s.Add([]byte("x"))
		d.MediaType = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
		inv, err := extractor(t, s, nil).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{d})
		if err != nil || len(inv.Problems) != 1 {
			t.Errorf("%v, %v", inv, err)
		}
	})
}

// brokenZip has an end record that promises a directory which is not there.
const brokenZip = "PK\x03\x04" + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" +
	"PK\x01\x02aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" +
	"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00\x2e\x00\x00\x00\x41\x00\x00\x00\x00\x00"

func TestCorruptLayers(t *testing.T) {
	good := lt.Gzip(t, lt.Tar(t, npm("a", "a", "1.0.0"), lt.File("b", strings.Repeat("b", 5000))))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-6] ^= 0xff // the checksum of the content
	for name, blob := range map[string][]byte{
		"no tar":         []byte(strings.Repeat("this is no tar archive ", 100)),
		"truncated gzip": good[:len(good)/2],
		"cut trailer":    good[:len(good)-8],
		"bad checksum":   flipped,
		"truncated tar":  lt.Gzip(t, lt.Tar(t, lt.File("b", strings.Repeat("b", 5000)))[:2000]),
		"bad gzip":       {0x1f, 0x8b, 0x00},
		"bad zstd":       {0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			s := lt.Store{}
			_, err := extractor(t, s, nil).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{s.Add(blob)})
			if f := core.AsFault(err); f == nil || f.Reason != core.ReasonLayerCorrupt || f.Temporary {
				t.Errorf("%v, want LAYER_CORRUPT", err)
			}
		})
	}
	t.Run("digest mismatch", func(t *testing.T) {
		s := lt.Store{}
		d := s.Add(good)
		s[d.Digest] = append(bytes.Clone(good), lt.Gzip(t, nil)...)
		_, err := extractor(t, s, nil).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{d})
		if f := core.AsFault(err); f == nil || f.Reason != core.ReasonLayerCorrupt {
			t.Errorf("%v, want LAYER_CORRUPT", err)
		}
	})
}

func TestLimits(t *testing.T) {
	many := make([]lt.Entry, 100)
	for i := range many {
		many[i] = npm("a/"+strings.Repeat("x", i), "a", "1.0.0")
	}
	zeros := lt.Gzip(t, lt.Tar(t, lt.File("zeros", strings.Repeat("\x00", 80<<20))))
	for _, c := range []struct {
		name   string
		blob   []byte
		change func(*extract.Limits)
		want   string
	}{
		{"entries", lt.Tar(t, many...), func(l *extract.Limits) { l.MaxEntries = 50 }, "more than 50 files"},
		{"names", lt.Tar(t, many...), func(l *extract.Limits) { l.MaxNames = 500 }, "paths in the image"},
		{"depth", lt.Tar(t, lt.File(strings.Repeat("d/", 200)+"x", "")), nil, "deeper than"},
		{"path", lt.Tar(t, lt.File(strings.Repeat("d", 5000), "")), nil, "path is longer"},
		{"packages", lt.Tar(t, many...), func(l *extract.Limits) { l.MaxPackages = 50 }, "more than 50 packages"},
		{"layer", lt.Tar(t, lt.File("x", strings.Repeat("x", 5000))), func(l *extract.Limits) { l.MaxLayer = 4000 }, "a layer is larger"},
		{"image", lt.Tar(t, lt.File("x", strings.Repeat("x", 5000))), func(l *extract.Limits) { l.MaxImage = 4000 }, "the image is larger"},
		{"ratio", zeros, nil, "decompresses to more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := lt.Store{}
			_, err := extractor(t, s, c.change).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{s.Add(c.blob)})
			if f := core.AsFault(err); f == nil || f.Reason != core.ReasonLimitExceeded || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want LIMIT_EXCEEDED with %q", err, c.want)
			}
		})
	}
	t.Run("file", func(t *testing.T) {
		s := lt.Store{}
		d := s.Add(lt.Tar(t, lt.File("a/package.json", strings.Repeat(" ", 5000)), npm("b", "b", "1.0.0")))
		inv, err := extractor(t, s, func(l *extract.Limits) { l.MaxFile = 4000 }).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{d})
		if err != nil || len(inv.Packages) != 1 || len(inv.Problems) != 1 {
			t.Errorf("%v, %v; want one package and one problem", inv, err)
		}
	})
	t.Run("zip bomb", func(t *testing.T) {
		inner := jar(t, map[string]string{"META-INF/MANIFEST.MF": strings.Repeat("\x00", 20<<20)})
		inv := inventory(t, []lt.Entry{lt.File("opt/bomb.jar", inner)})
		if len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], "decompresses to more") {
			t.Errorf("problems %q", inv.Problems)
		}
	})
}

// FuzzLayers walks and merges two hostile layers. Whatever they are, the outcome
// is an inventory or a fault, and packages lie within the image.
func FuzzLayers(f *testing.F) {
	f.Add(lt.Tar(f, npm("a", "a", "1.0.0")), lt.Tar(f, lt.File(".wh.a", "")))
	f.Add(lt.Tar(f, lt.Symlink("a", "../b"), npm("a/x", "x", "1.0.0")), lt.Tar(f, lt.HardLink("c/package.json", "a/x/package.json")))
	f.Add(lt.Gzip(f, lt.Tar(f, lt.File("etc/os-release", debianRelease), lt.File("var/lib/dpkg/status", dpkgTwo))), lt.Tar(f, lt.File("var/.wh..wh..opq", "")))
	f.Add([]byte{0x1f, 0x8b}, []byte{0x28, 0xb5, 0x2f, 0xfd})
	s := lt.Store{}
	x := extractor(f, s, func(l *extract.Limits) {
		l.MaxFile, l.MaxBuffered, l.MaxLayer, l.MaxImage = 1<<20, 2<<20, 8<<20, 16<<20
	})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		clear(s)
		inv, err := x.Extract(t.Context(), imageref.Ref{}, []core.Descriptor{s.Add(a), s.Add(b)})
		if err != nil && core.AsFault(err) == nil {
			t.Fatalf("%v is not a fault", err)
		}
		for _, p := range inv.Packages {
			if !utf8.ValidString(fmt.Sprint(p)) || len(p.Name) > 1000 {
				t.Fatalf("package %+v cannot travel", p)
			}
			if p.Location == "" || strings.HasPrefix(p.Location, "/") || strings.HasPrefix(p.Location, "../") || p.PURL == "" {
				t.Fatalf("package %+v", p)
			}
		}
	})
}
