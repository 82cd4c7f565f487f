package extract_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

// moduleFile reads a file that comes with a module: databases and binaries that real
// tools made.
func moduleFile(tb testing.TB, module, path string) string {
	tb.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		tb.Fatalf("go list: %v", err)
	}
	content, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), path))
	if err != nil {
		tb.Fatal(err)
	}
	return string(content)
}

func rpmDatabase(tb testing.TB, name string) string {
	tb.Helper()
	return moduleFile(tb, "github.com/erikvarga/go-rpmdb", "pkg/testdata/"+name)
}

func one(inv core.Inventory, name string) core.Package {
	i := slices.IndexFunc(inv.Packages, func(p core.Package) bool { return p.Name == name })
	if i < 0 {
		return core.Package{}
	}
	return inv.Packages[i]
}

// TestRPM reads the databases of real distributions, one of each form.
func TestRPM(t *testing.T) {
	for _, c := range []struct {
		name, file, db, release string
		count                   int
		want                    core.Package
		problem                 string
	}{
		{
			"Berkeley DB", "var/lib/rpm/Packages", "centos8-modularitylabel/Packages", "ID=almalinux\nVERSION_ID=8.10\n", 0,
			core.Package{
				PURL: "pkg:rpm/almalinux/nodejs@10.21.0-3.module_el8.2.0%2B391%2B8da3adc6?arch=x86_64&distro=almalinux-8.10&epoch=1&rpmmod=nodejs:10",
				Name: "nodejs", Version: "1:10.21.0-3.module_el8.2.0+391+8da3adc6", Ecosystem: "AlmaLinux:8",
			}, "",
		},
		{
			"SQLite", "usr/lib/sysimage/rpm/rpmdb.sqlite", "fedora35/rpmdb.sqlite", "ID=rocky\nVERSION_ID=9.4\n", 0,
			core.Package{
				PURL: "pkg:rpm/rocky/openssl-libs@1.1.1l-2.fc35?arch=x86_64&distro=rocky-9.4&epoch=1&upstream=openssl",
				Name: "openssl-libs", Version: "1:1.1.1l-2.fc35", Ecosystem: "Rocky Linux:9", SourceName: "openssl",
			}, "",
		},
		{
			"NDB", "usr/lib/sysimage/rpm/Packages.db", "sle15-bci/Packages.db", "ID=opensuse-leap\nVERSION_ID=15.3\n", 35,
			core.Package{
				PURL: "pkg:rpm/opensuse/liblzma5@5.2.3-4.3.1?arch=x86_64&distro=opensuse-leap-15.3&upstream=xz",
				Name: "liblzma5", Version: "5.2.3-4.3.1", Ecosystem: "openSUSE:Leap 15.3", SourceName: "xz",
			}, "",
		},
		{
			"no advisories", "var/lib/rpm/Packages", "libuuid/Packages", "ID=fedora\nVERSION_ID=42\n", 1,
			core.Package{PURL: "pkg:rpm/fedora/libuuid@2.32.1-42.el8_8?arch=x86_64&distro=fedora-42&upstream=util-linux", Name: "libuuid", Version: "2.32.1-42.el8_8", SourceName: "util-linux"},
			"no advisories are known",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			inv := inventory(t, []lt.Entry{lt.File("etc/os-release", c.release), lt.File(c.file, rpmDatabase(t, c.db)), lt.File("var/lib/rpm/rpmdb.sqlite-wal", "")})
			got := one(inv, c.want.Name)
			if len(got.Licenses) == 0 || got.Location != c.file || c.count != 0 && len(inv.Packages) != c.count || len(inv.Packages) == 0 {
				t.Errorf("%d packages, %+v", len(inv.Packages), got)
			}
			got.Licenses, got.Location, got.LayerDigest = nil, "", ""
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("package (-want +got):\n%s", diff)
			}
			if one(inv, "gpg-pubkey").Name != "" {
				t.Error("a key is a package")
			}
			if len(inv.Problems) > 1 || !strings.Contains(strings.Join(inv.Problems, ""), c.problem) || c.problem == "" && inv.Problems != nil {
				t.Errorf("problems %q", inv.Problems)
			}
		})
	}
}

// TestRPMOwns: Python packages that rpm installed are its own; one that pip put in
// place of rpm's is reported.
func TestRPMOwns(t *testing.T) {
	const owned = "usr/lib/python3.9/site-packages/setuptools-50.3.2.dist-info/METADATA"
	metadata := func(path, name string) lt.Entry {
		return lt.File(path, "Metadata-Version: 2.1\nName: "+name+"\nVersion: 1.0\n\n")
	}
	db := lt.File("var/lib/rpm/Packages", rpmDatabase(t, "centos7-python35/Packages"))
	release := lt.File("etc/os-release", "ID=centos\nVERSION_ID=7\n")
	at := "opt/rh/rh-python35/root/usr/lib/python3.5/site-packages/setuptools-18.0.1.dist-info/METADATA"
	inv := inventory(t, []lt.Entry{release, db, metadata(at, "setuptools"), metadata(owned, "other")})
	if got := one(inv, "setuptools"); got.Name != "" {
		t.Errorf("reported twice: %+v", got)
	}
	if one(inv, "other").Name == "" {
		t.Error("a package that rpm does not own is missing")
	}
	// Rocky's advisories say nothing of a package that CentOS built.
	inv = inventory(t, []lt.Entry{lt.File("etc/os-release", "ID=rocky\nVERSION_ID=9\n"), db, metadata(at, "setuptools")})
	if one(inv, "setuptools").Name == "" {
		t.Error("a package of Python that is in another's rpm is missing")
	}
	inv = inventory(t, []lt.Entry{release, db}, []lt.Entry{metadata(at, "setuptools")})
	if one(inv, "setuptools").Name == "" {
		t.Error("a package that a later layer put in place is missing")
	}
}

// TestRPMLayers: a package belongs to the layer that installed it, though every
// layer has the whole database.
func TestRPMLayers(t *testing.T) {
	release := lt.File("etc/os-release", "ID=rocky\nVERSION_ID=9\n")
	inv, ds := withLayers(t,
		[]lt.Entry{release, lt.Symlink("var/lib/rpm", "../../usr/lib/sysimage/rpm"), lt.File("usr/lib/sysimage/rpm/rpmdb.sqlite", rpmDatabase(t, "fedora35/rpmdb.sqlite"))},
		[]lt.Entry{lt.File("var/lib/rpm/rpmdb.sqlite", rpmDatabase(t, "fedora35-plus-mongo/rpmdb.sqlite"))})
	by := map[string]int{}
	for _, p := range inv.Packages {
		by[p.LayerDigest]++
	}
	if by[ds[0].Digest] < 3 || by[ds[1].Digest] < 3 || len(by) != 2 {
		t.Errorf("packages by layer: %v", by)
	}
}
