package extract_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

func zstdOf(t *testing.T, content string) string {
	t.Helper()
	var buf bytes.Buffer
	zw, err := zstd.NewWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zw.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// TestUnreadDistribution: an image of a distribution whose packages cannot be read, or not
// for certain, is never complete; an image of a program alone is.
func TestUnreadDistribution(t *testing.T) {
	release := lt.File("etc/os-release", debianRelease)
	status := lt.File("var/lib/dpkg/status", dpkgTwo)
	sid := "ID=debian\nVERSION_CODENAME=forky\n"
	base := func(version string) lt.Entry {
		return lt.File("var/lib/dpkg/status", "Package: base-files\nStatus: install ok installed\nVersion: "+version+"\n")
	}
	apk := lt.File("lib/apk/db/installed", "P:musl\nV:1.2.5-r10\nA:x86_64\n\n")
	for name, c := range map[string]struct {
		layers [][]lt.Entry
		want   string // of the only problem; empty if there is none
	}{
		"from scratch":           {[][]lt.Entry{{lt.Executable("app", "x"), lt.File("etc/passwd", "root:x:0:0::/:\n"), lt.File("etc/ssl/certs/ca.pem", "x")}}, ""},
		"database":               {[][]lt.Entry{{release, status}}, ""},
		"os-release alone":       {[][]lt.Entry{{release}}, "of the distribution debian 12, but no package database"},
		"database deleted":       {[][]lt.Entry{{release, status}, {lt.File("var/lib/.wh.dpkg", "")}}, "var/lib/dpkg/status (deb), and a later one deleted it"},
		"database emptied":       {[][]lt.Entry{{release, status}, {lt.File("var/lib/dpkg/status", "")}}, "var/lib/dpkg/status (deb), and a later one"},
		"all traces deleted":     {[][]lt.Entry{{release, status}, {lt.File("var/lib/.wh.dpkg", ""), lt.File("etc/.wh.os-release", "")}}, "a later one deleted it"},
		"another in its place":   {[][]lt.Entry{{lt.File("etc/os-release", alpineRelease), status}, {lt.File("var/lib/.wh.dpkg", ""), apk}}, "var/lib/dpkg/status (deb), and a later one"},
		"link that leads away":   {[][]lt.Entry{{lt.Symlink("etc/os-release", "../../../x")}}, "etc/os-release, but no package database"},
		"another release file":   {[][]lt.Entry{{lt.File("etc/alpine-release", "3.22.1\n")}}, "etc/alpine-release, but"},
		"C library":              {[][]lt.Entry{{lt.Executable("lib/ld-musl-x86_64.so.1", "x")}}, "the C library of a distribution (lib/ld-musl-x86_64.so.1), but"},
		"manager":                {[][]lt.Entry{{lt.Executable("usr/bin/dpkg", "x")}}, "package manager dpkg, but"},
		"two os-releases":        {[][]lt.Entry{{release, lt.File("usr/lib/os-release", strings.Replace(debianRelease, "12", "11", 2)), status}}, "etc/os-release says debian 12, usr/lib/os-release debian 11"},
		"release of its own":     {[][]lt.Entry{{release, base("12.4+deb12u5")}}, ""},
		"package of another one": {[][]lt.Entry{{release, base("11.1+deb11u11")}}, "the package base-files 11.1+deb11u11 is of another release"},
		"Ubuntu as Debian":       {[][]lt.Entry{{release, base("12ubuntu4.7")}}, "base-files 12ubuntu4.7 is of another release"},
		"testing or unstable":    {[][]lt.Entry{{lt.File("etc/os-release", sid), status}}, "Debian's testing or unstable"},
		"damaged record":         {[][]lt.Entry{{release, lt.File("var/lib/dpkg/status", dpkgTwo+"no field\n")}}, "is no field"},
		"record twice":           {[][]lt.Entry{{release, lt.File("var/lib/dpkg/status", "Package: a\nVersion: 1\nPackage: openssl\nVersion: 2\n")}}, "a second field package"},
		"without version":        {[][]lt.Entry{{release, lt.File("var/lib/dpkg/status", dpkgTwo+"\nPackage: x\nStatus: install ok installed\n")}}, "without a name or version"},
		"no package in status.d": {[][]lt.Entry{{release, status, lt.File("var/lib/dpkg/status.d/x", "\n")}}, "names no package"},
		"Arch": {[][]lt.Entry{{lt.File("etc/os-release", "ID=arch\n"), lt.File("var/lib/pacman/local/openssl-3.5.1-1/desc", "%NAME%\nopenssl\n\n%VERSION%\n3.5.1-1\n")}},
			"no advisories are known for packages of the kind pacman"},
		"Gentoo": {[][]lt.Entry{{lt.File("etc/os-release", "ID=gentoo\n"), lt.File("var/db/pkg/dev-libs/openssl-3.5.1/PF", "openssl-3.5.1\n")}},
			"no advisories are known for packages of the kind portage"},
		"chisel": {[][]lt.Entry{{lt.File("etc/os-release", "ID=ubuntu\nVERSION_ID=\"24.04\"\n"), lt.File("var/lib/chisel/manifest.wall",
			zstdOf(t, `{"jsonwall":"1.0","schema":"1.0","count":2}`+"\n"+`{"kind":"package","name":"openssl","version":"3.0.13-0ubuntu3","arch":"amd64"}`+"\n"))}},
			"does not name the source packages"},
		"rpm manifest that is none": {[][]lt.Entry{{lt.File("etc/os-release", "ID=mariner\nVERSION_ID=2.0\n"), lt.File("var/lib/rpmmanifest/container-manifest-2",
			"openssl\t1.1.1k-1.cm2\t1\t1\tM\t(none)\t1\tx86_64\t0\topenssl-1.1.1k-1.cm2.src.rpm\nopenssl\n")}}, "line 2: no package of rpm"},
		"Bitnami that is none": {[][]lt.Entry{{release, status, lt.File("opt/bitnami/x/.spdx-x.spdx", `{"packages":[{"name":"x"}]}`)}}, "names no package of Bitnami"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := inventory(t, c.layers...)
			switch {
			case c.want == "" && inv.Problems != nil, c.want != "" && (len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], c.want)):
				t.Errorf("problems %q, want one with %q", inv.Problems, c.want)
			}
		})
	}
}

// TestOtherDatabases: packages that the usual extractors pass over are read.
func TestOtherDatabases(t *testing.T) {
	state := func(name, state string) string {
		return "Package: " + name + "\nStatus: " + state + "\nVersion: 1\nDescription: x\n Package: no\n\n"
	}
	for name, c := range map[string]struct {
		layer []lt.Entry
		want  []string
	}{
		"states of dpkg": {[]lt.Entry{lt.File("etc/os-release", debianRelease), lt.File("var/lib/dpkg/status", state("a", "install ok triggers-pending")+
			state("b", "install ok triggers-awaited")+state("c", "install ok unpacked")+state("d", "install ok half-configured")+
			state("e", "install reinstreq half-installed")+state("f", "deinstall ok config-files")+state("g", "unknown ok not-installed")+
			state("h", "hold ok installed")+"Package: i\nVersion: 1\n")},
			[]string{"a 1", "b 1", "c 1", "d 1", "e 1", "h 1", "i 1"}},
		"rpm manifest": {[]lt.Entry{lt.File("etc/os-release", "ID=mariner\nVERSION_ID=\"2.0\"\n"), lt.File("var/lib/rpmmanifest/container-manifest-2",
			"libs\t1.1.1k-1.cm2\t1\t1\tMicrosoft\t(none)\t1\tx86_64\t2\topenssl-1.1.1k-1.cm2.src.rpm\ngpg-pubkey\t1-2\t1\t1\tM\t(none)\t0\t(none)\t0\t(none)\n")},
			[]string{"openssl 2:1.1.1k-1.cm2"}},
		"Bitnami": {[]lt.Entry{lt.File("opt/bitnami/redis/.spdx-redis.spdx", `{"packages":[{"name":"redis","externalRefs":[{"referenceType":"cpe23Type",
			"referenceLocator":"cpe:2.3:*"},{"referenceType":"purl","referenceLocator":"pkg:bitnami/redis@6.2.1-0?arch=amd64&distro=debian-12"}]}]}`)}, []string{"redis 6.2.1-0"}},
	} {
		t.Run(name, func(t *testing.T) {
			inv := inventory(t, c.layer)
			var got []string
			for i := range inv.Packages {
				got = append(got, inv.Packages[i].AdvisoryName()+" "+inv.Packages[i].AdvisoryVersion())
				if inv.Packages[i].Ecosystem == "" {
					t.Errorf("%s has no ecosystem", inv.Packages[i].PURL)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" || inv.Problems != nil {
				t.Errorf("packages (-want +got):\n%s problems %q", diff, inv.Problems)
			}
		})
	}
}

// TestEcosystemOfRelease: a release that is not out has none of those that are.
func TestEcosystemOfRelease(t *testing.T) {
	apk := lt.File("lib/apk/db/installed", "P:musl\nV:1.2.5-r10\nA:x86_64\n\n")
	for version, want := range map[string]string{"3.22.1": "Alpine:v3.22", "3.23.0_alpha20250612": "Alpine:edge"} {
		inv := inventory(t, []lt.Entry{lt.File("etc/os-release", "ID=alpine\nVERSION_ID="+version+"\n"), apk})
		if len(inv.Packages) != 1 || inv.Packages[0].Ecosystem != want {
			t.Errorf("%s: %v", version, inv.Packages)
		}
	}
}

// TestDeletedSecrets: what a later layer deletes or replaces is in the image all the same.
func TestDeletedSecrets(t *testing.T) {
	const key = "[default]\naws_access_key_id = AKIAQWERTYUIOPASDFGH\naws_secret_access_key = abcdefghijklmnopqrstuvwxyz0123456789ABCD\n"
	npmrc := "//registry.npmjs.org/:_authToken=npm_abcdefghijklmnopqrstuvwxyz0123456789\n"
	inv, layers := withLayers(t,
		[]lt.Entry{lt.File("root/.aws/credentials", key), lt.File("app/.npmrc", npmrc), lt.File("srv/.npmrc", npmrc), lt.File("home/.npmrc", npmrc)},
		[]lt.Entry{lt.File("root/.aws/.wh.credentials", ""), lt.File("app/.wh..wh..opq", ""), lt.File("srv/.npmrc", "registry=https://r.example\n")},
		[]lt.Entry{lt.File("home/.npmrc", npmrc)},
	)
	deleted := map[string]bool{}
	for _, s := range inv.Secrets {
		if last, ok := deleted[s.Location]; ok && last != s.Deleted {
			t.Errorf("%s is deleted and is not", s.Location)
		}
		deleted[s.Location] = s.Deleted
		if want := layers[0].Digest; s.Deleted && s.LayerDigest != want {
			t.Errorf("%s is of the layer %s, want %s", s.Location, s.LayerDigest, want)
		}
	}
	want := map[string]bool{"root/.aws/credentials": true, "app/.npmrc": true, "srv/.npmrc": true, "home/.npmrc": false}
	if diff := cmp.Diff(want, deleted); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
	if !slices.IsSortedFunc(inv.Secrets, func(a, b core.Secret) int { return strings.Compare(a.Kind+"\x00"+a.Location, b.Kind+"\x00"+b.Location) }) {
		t.Errorf("not sorted: %v", inv.Secrets)
	}
}

// TestGoPrograms: a Go program counts whatever its mode; one that does not tell its modules
// makes the report incomplete, unless the distribution built it.
func TestGoPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"go.mod": "module example.test/m\n\ngo 1.21\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", "m", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOWORK=off", "GOFLAGS=", "GOTOOLCHAIN=local")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(dir, "m"))
	if err != nil {
		t.Fatal(err)
	}
	// Without the mark of the build information nobody finds it.
	untold := string(bytes.ReplaceAll(program, []byte("\xff Go buildinf:"), []byte("\xff No buildinf:")))
	list := lt.File("var/lib/dpkg/info/tool.list", "/usr/bin/m\n")
	status := lt.File("var/lib/dpkg/status", "Package: tool\nStatus: install ok installed\nVersion: 1\n")
	release := lt.File("etc/os-release", debianRelease)
	for name, c := range map[string]struct {
		layer []lt.Entry
		goes  bool
		want  string
	}{
		"executable":            {[]lt.Entry{lt.Executable("usr/bin/m", string(program))}, true, ""},
		"no execute bit":        {[]lt.Entry{lt.File("srv/m", string(program))}, true, ""},
		"without information":   {[]lt.Entry{lt.Executable("usr/bin/m", untold)}, false, "usr/bin/m: a Go program without build information"},
		"of the distribution":   {[]lt.Entry{release, status, list, lt.Executable("usr/bin/m", untold)}, false, ""},
		"packed":                {[]lt.Entry{lt.Executable("m", "\x7fELF"+strings.Repeat("\x00", 200)+"UPX!"+strings.Repeat("\x00", 900))}, false, "packed with UPX"},
		"library of something":  {[]lt.Entry{lt.File("opt/x.so", "\x7fELF"+strings.Repeat("\x00", 2000))}, false, ""},
		"no program by content": {[]lt.Entry{lt.File("srv/m", "text")}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inv := inventory(t, c.layer)
			if got := slices.ContainsFunc(inv.Packages, func(p core.Package) bool { return p.Ecosystem == "Go" }); got != c.goes {
				t.Errorf("packages %v", lines(inv))
			}
			switch {
			case c.want == "" && inv.Problems != nil, c.want != "" && (len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], c.want)):
				t.Errorf("problems %q, want one with %q", inv.Problems, c.want)
			}
		})
	}
}
