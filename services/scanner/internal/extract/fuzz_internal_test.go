package extract

import (
	"bytes"
	"testing"
)

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
