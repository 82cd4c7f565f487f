package extract

import "github.com/seaworthy-dev/seaworthy/pkg/lru"

// knownLayers holds the outcomes of the layers that were used last, decoded, so that
// images that share them do not decode them again. What it holds is not changed.
type knownLayers = lru.Cache[string, *layerResult]

const (
	// eventMemory and packageMemory are what an entry and a package of a layer take
	// beside their texts; a package also has its form in reports, which repeats them.
	eventMemory   = 80
	packageMemory = 500
)

// memory is about how many bytes the outcome takes.
func (r *layerResult) memory() int64 {
	n := len(r.digest) + len(r.diffID)
	for i := range r.events {
		e := &r.events[i]
		n += eventMemory + len(e.path) + len(e.target) + 8*len(e.wanted)
		if f := e.file; f != nil {
			n += 2*packageMemory + len(f.osRelease) + len(f.passwd) + len(f.problem)
			for j := range f.packages {
				n += packageMemory + f.packages[j].text()
			}
			for j := range f.owners {
				for _, p := range f.owners[j].Paths {
					n += 16 + len(p)
				}
			}
		}
	}
	return int64(n)
}

// text is the length of the texts of a package, and of those in reports.
func (f *found) text() int {
	n := len(f.name) + len(f.version) + len(f.sourceName) + len(f.sourceVersion) + len(f.arch) + len(f.module) + len(f.as)
	for _, l := range f.licenses {
		n += 16 + len(l)
	}
	return 3 * n
}
