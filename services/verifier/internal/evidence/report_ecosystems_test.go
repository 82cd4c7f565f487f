package evidence

import (
	"slices"
	"testing"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
)

// A package of an ecosystem without advisories has no findings because nobody looked:
// such a report must not let the image pass.
func TestFromReport_EcosystemWithoutAdvisories(t *testing.T) {
	for name, c := range map[string]struct {
		packages, snapshot, want []string
	}{
		"all known":              {[]string{"Go", "Debian:12"}, []string{"Debian:12", "Go"}, nil},
		"known for all releases": {[]string{"Debian:12"}, []string{"Debian"}, nil},
		"other release":          {[]string{"Debian:12"}, []string{"Debian:11"}, []string{"Debian:12"}},
		"none at all":            {[]string{"npm", "Go", "npm"}, nil, []string{"Go", "npm"}},
		"no ecosystem":           {[]string{""}, nil, nil},
		"no packages":            {nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := &scannerv1.Report{Snapshot: &scannerv1.SnapshotInfo{Ecosystems: c.snapshot}}
			for _, e := range c.packages {
				m.Packages = append(m.Packages, &scannerv1.Package{Ecosystem: e})
			}
			if got := unknownEcosystems(m); !slices.Equal(got, c.want) {
				t.Errorf("unknown ecosystems: %v, want %v", got, c.want)
			}
			if got := fromReport(m).Incomplete; got != (len(c.want) > 0) {
				t.Errorf("incomplete: %v", got)
			}
		})
	}
}
