package extract_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

func wheel(path, name, version string) lt.Entry {
	return lt.File(path, "Metadata-Version: 2.1\nName: "+name+"\nVersion: "+version+"\n")
}

// TestOwnership: what an OS package brought is reported under it only.
func TestOwnership(t *testing.T) {
	const (
		dist   = "usr/lib/python3/dist-packages/"
		status = "Package: python3-yaml\nStatus: install ok installed\nArchitecture: amd64\nVersion: 6.0-3\n\n"
		list   = "/.\n/usr\n/" + dist + "PyYAML-6.0.dist-info/METADATA\n"
	)
	debian := []lt.Entry{
		lt.File("etc/os-release", debianRelease), lt.File("var/lib/dpkg/status", status),
		wheel(dist+"PyYAML-6.0.dist-info/METADATA", "PyYAML", "6.0"),
		wheel(dist+"own-1.0.dist-info/METADATA", "own", "1.0"),
	}
	apk := []lt.Entry{
		lt.File("etc/os-release", alpineRelease), lt.Symlink("lib", "usr/lib"),
		lt.File("usr/lib/apk/db/installed", "P:npm\nV:10-r0\nA:x86_64\nF:lib/node_modules/npm\nR:package.json\na:0:0:644\nZ:Q1x\n\nP:other\nV:1-r0\nA:x86_64\n\n"),
		npm("usr/lib/node_modules/npm", "npm", "10.0.0"), npm("usr/lib/node_modules/mine", "mine", "1.0.0"),
	}
	for _, c := range []struct {
		name   string
		layers [][]lt.Entry
		want   string
	}{
		{"dpkg", [][]lt.Entry{append(debian, lt.File("var/lib/dpkg/info/python3-yaml.list", list))}, "python3-yaml own"},
		{"dpkg with an architecture", [][]lt.Entry{append(debian, lt.File("var/lib/dpkg/info/python3-yaml:amd64.list", list))}, "python3-yaml own"},
		{"list of no installed package", [][]lt.Entry{append(debian, lt.File("var/lib/dpkg/info/ghost.list", list))}, "python3-yaml own PyYAML"},
		{
			"distroless", [][]lt.Entry{append(debian[2:], debian[0], lt.File("var/lib/dpkg/status.d/python3-yaml", status),
				lt.File("var/lib/dpkg/status.d/python3-yaml.md5sums", strings.Repeat("0", 32)+"  "+dist+"PyYAML-6.0.dist-info/METADATA\n"))},
			"python3-yaml own",
		},
		{
			"replaced by a later layer", [][]lt.Entry{
				append(debian, lt.File("var/lib/dpkg/info/python3-yaml.list", list)), {wheel(dist+"PyYAML-6.0.dist-info/METADATA", "PyYAML", "6.0")},
			}, "python3-yaml own PyYAML",
		},
		{
			"package removed by a later layer", [][]lt.Entry{
				append(debian, lt.File("var/lib/dpkg/info/python3-yaml.list", list)), {lt.File("var/lib/dpkg/status", "\n"), lt.File("var/lib/dpkg/info/.wh.python3-yaml.list", "")},
			}, "own PyYAML",
		},
		{"apk over a linked directory", [][]lt.Entry{apk}, "npm other mine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, p := range inventory(t, c.layers...).Packages {
				got = append(got, p.Name)
			}
			want := map[string]bool{}
			for _, n := range strings.Fields(c.want) {
				want[n] = true
			}
			have := map[string]bool{}
			for _, n := range got {
				have[n] = true
			}
			if diff := cmp.Diff(want, have); diff != "" || len(got) != len(want) {
				t.Errorf("packages %v (-want +got):\n%s", got, diff)
			}
		})
	}
}
