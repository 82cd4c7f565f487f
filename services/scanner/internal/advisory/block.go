package advisory

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sort"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Flags of a record's block.
const (
	recordKEV = 1 << iota
	recordEPSS
	recordScored
)

// appendRecord writes the block of a record: all of it but what is affected, which
// is in the blocks of the packages.
func appendRecord(w *writer, r *Record, packages []int) {
	w.u64(uint64(r.Modified.Unix()))
	w.u32(uint32(r.Modified.Nanosecond()))
	flags := byte(0)
	if r.KEV {
		flags |= recordKEV
	}
	if r.EPSS != 0 {
		flags |= recordEPSS
	}
	if r.Vector != "" {
		flags |= recordScored
	}
	w.byte(flags)
	w.byte(byte(r.Severity))
	if r.EPSS != 0 {
		w.f64(r.EPSS)
	}
	if r.Vector != "" {
		w.f64(r.Score)
		w.str(r.Vector)
	}
	w.strs(r.Aliases)
	w.strs(r.Upstream)
	w.str(r.Summary)
	w.uint(len(packages))
	for _, p := range packages {
		w.uint(p)
	}
}

// readRecord reads the block of a record; what it affects are the numbers of
// packages.
func readRecord(b []byte, id string) (rec *Record, packages []int, err error) {
	r := reader{b: b}
	rec = &Record{ID: id}
	seconds := int64(r.u64())
	rec.Modified = time.Unix(seconds, int64(r.u32())).UTC()
	flags := r.byte()
	rec.KEV = flags&recordKEV != 0
	rec.Severity = core.Severity(r.byte())
	if flags&recordEPSS != 0 {
		rec.EPSS = r.f64()
	}
	if flags&recordScored != 0 {
		rec.Score, rec.Vector = r.f64(), r.str()
	}
	rec.Aliases, rec.Upstream, rec.Summary = r.strs(), r.strs(), r.str()
	n := r.count()
	packages = make([]int, 0, n)
	for range n {
		packages = append(packages, r.uint())
	}
	if r.bad || len(r.b) > 0 {
		return nil, nil, corrupt("record %s", id)
	}
	return rec, packages, nil
}

// Kinds of events; the number of a version stands beside it. eventAlways is an
// introduction before every version and has none.
const (
	eventAlways = iota
	eventIntroduced
	eventFixed
	eventLastAffected
	eventLimit
	eventKinds
)

// Flags of an entry in a package's block.
const (
	entryScored = 1 << iota
	entryStream
)

// entry is what one record says about a package.
type entry struct {
	record   int
	affected *Affected
}

// appendPackage writes the block of a package. Its versions are sorted by the rules
// of the ecosystem, so that matching compares a version with a few of them and all
// else is a comparison of numbers.
func appendPackage(w *writer, ecosystem string, entries []entry) {
	t := newVersionTable(ecosystem, entries)
	w.byte(t.flags())
	w.u32(uint32(len(t.ordered)))
	w.u32(uint32(len(t.loose)))
	end := uint32(0)
	for _, v := range t.all {
		end += uint32(len(v))
		w.u32(end)
	}
	for _, v := range t.all {
		w.b = append(w.b, v...)
	}
	w.uint(len(entries))
	for _, e := range entries {
		t.appendEntry(w, e)
	}
}

func (t *versionTable) appendEntry(w *writer, e entry) {
	a := e.affected
	w.uint(e.record)
	flags := byte(0)
	if a.Vector != "" {
		flags |= entryScored
	}
	if a.Stream != "" {
		flags |= entryStream
	}
	w.byte(flags)
	w.byte(byte(a.Severity))
	if a.Vector != "" {
		w.f64(a.Score)
		w.str(a.Vector)
	}
	if a.Stream != "" {
		w.str(a.Stream)
	}
	w.uint(len(a.Ranges))
	for _, events := range a.Ranges {
		w.uint(len(events))
		for _, ev := range events {
			kind := ev.kind()
			if kind == eventAlways {
				w.uint(kind)
				continue
			}
			w.uint(t.number[ev.version()]*eventKinds + kind)
		}
	}
	// A list is passed over at once where no version of it is the package's.
	var list writer
	numbers := make([]int, len(a.Versions))
	for i, v := range a.Versions {
		numbers[i] = t.number[v]
	}
	slices.Sort(numbers)
	last := 0
	for _, n := range numbers {
		list.uint(n - last)
		last = n
	}
	w.uint(len(list.b))
	w.b = append(w.b, list.b...)
}

// versionTable numbers the versions that records name of a package.
type versionTable struct {
	// ordered can be compared and are sorted so; loose can only be equal, and are
	// sorted by their bytes.
	ordered, loose, all []string
	number              map[string]int
	// unordered: there is no order, so ranges cannot be evaluated.
	unordered bool
}

const tableUnordered = 1

func (t *versionTable) flags() byte {
	if t.unordered {
		return tableUnordered
	}
	return 0
}

func newVersionTable(ecosystem string, entries []entry) *versionTable {
	t := &versionTable{number: map[string]int{}}
	seen := map[string]bool{}
	var ps []*order
	add := func(v string) {
		if seen[v] {
			return
		}
		seen[v] = true
		o, err := newOrder(ecosystem, v)
		if err != nil {
			t.loose = append(t.loose, v)
			return
		}
		ps = append(ps, o)
	}
	for _, e := range entries {
		for _, events := range e.affected.Ranges {
			for _, ev := range events {
				if ev.kind() != eventAlways {
					add(ev.version())
				}
			}
		}
		for _, v := range e.affected.Versions {
			add(v)
		}
	}
	t.unordered = !supported(ecosystem)
	slices.SortFunc(ps, func(a, b *order) int {
		c, err := a.with(b)
		if err != nil {
			t.unordered = true
		}
		return cmp.Or(c, cmp.Compare(a.version, b.version))
	})
	for _, p := range ps {
		if t.unordered {
			t.loose = append(t.loose, p.version)
		} else {
			t.ordered = append(t.ordered, p.version)
		}
	}
	slices.Sort(t.loose)
	t.all = slices.Concat(t.ordered, t.loose)
	for i, v := range t.all {
		t.number[v] = i
	}
	return t
}

// versions is a version table as it lies in a block.
type versions struct {
	ordered, loose int
	ends, heap     []byte
	unordered      bool
}

// readVersions reads the head of a package's block.
func readVersions(r *reader) versions {
	var v versions
	v.unordered = r.byte()&tableUnordered != 0
	v.ordered, v.loose = int(r.u32()), int(r.u32())
	if v.ordered > len(r.b) || v.loose > len(r.b) {
		r.bad = true
		return versions{}
	}
	v.ends = r.take(4 * (v.ordered + v.loose))
	if n := len(v.ends); n > 0 {
		v.heap = r.take(int(binary.LittleEndian.Uint32(v.ends[n-4:])))
	}
	return v
}

// at returns a version by its number; nil beyond the table.
func (v *versions) at(i int) []byte {
	if i < 0 || i >= v.ordered+v.loose {
		return nil
	}
	start := 0
	if i > 0 {
		start = int(binary.LittleEndian.Uint32(v.ends[4*i-4:]))
	}
	end := int(binary.LittleEndian.Uint32(v.ends[4*i:]))
	if start > end || end > len(v.heap) {
		return nil
	}
	return v.heap[start:end]
}

// place is where a version stands among those of a table: the numbers in [low, high)
// are equal to it, those below are lower and those above higher.
type place struct{ low, high int }

// compare is the order of the placed version and the one with the number.
func (p place) compare(number int) int {
	switch {
	case number < p.low:
		return 1
	case number < p.high:
		return 0
	}
	return -1
}

// find places a version.
func (v *versions) find(version *order) (place, error) {
	var failed error
	compare := func(i int) int {
		c, err := version.compare(string(v.at(i)))
		if err != nil {
			failed = err
		}
		return c
	}
	low, equal := sort.Find(v.ordered, compare)
	high := low
	if equal {
		for high++; high < v.ordered && compare(high) == 0; high++ {
		}
	}
	return place{low, high}, failed
}

// loosely places a version that is written as one of those without order.
func (v *versions) loosely(version string) place {
	i, ok := sort.Find(v.loose, func(i int) int { return cmp.Compare(version, string(v.at(v.ordered+i))) })
	if !ok {
		return place{}
	}
	return place{v.ordered + i, v.ordered + i + 1}
}
