package extract

import (
	"container/list"
	"sync"
)

// knownLayers holds the outcomes of the layers that were used last, decoded, so that
// images that share them do not decode them again. What it holds is not changed.
type knownLayers struct {
	// max bounds the bytes that it holds, as layerResult.memory counts them.
	max int64

	mu       sync.Mutex
	held     int64
	byDigest map[string]*list.Element
	// order has the one that was used last in front.
	order *list.List
}

type knownLayer struct {
	result *layerResult
	memory int64
}

// newKnownLayers returns nil, which holds nothing, if nothing may be held.
func newKnownLayers(limit int64) *knownLayers {
	if limit <= 0 {
		return nil
	}
	return &knownLayers{max: limit, byDigest: map[string]*list.Element{}, order: list.New()}
}

// get returns the outcome of a layer, or nil.
func (k *knownLayers) get(digest string) *layerResult {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.byDigest[digest]
	if e == nil {
		return nil
	}
	k.order.MoveToFront(e)
	return e.Value.(knownLayer).result //nolint:forcetypeassert // nothing else is put in
}

// put holds an outcome in place of what there is of the layer, and lets go of what was
// not used for the longest time.
func (k *knownLayers) put(r *layerResult) {
	if k == nil {
		return
	}
	l := knownLayer{result: r, memory: r.memory()}
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.byDigest[r.digest]; e != nil {
		k.remove(e)
	}
	if l.memory > k.max {
		return
	}
	for k.held+l.memory > k.max {
		k.remove(k.order.Back())
	}
	k.held += l.memory
	k.byDigest[r.digest] = k.order.PushFront(l)
}

func (k *knownLayers) remove(e *list.Element) {
	l := k.order.Remove(e).(knownLayer) //nolint:forcetypeassert // nothing else is put in
	delete(k.byDigest, l.result.digest)
	k.held -= l.memory
}

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
			n += 2*packageMemory + len(f.osRelease) + len(f.problem)
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
