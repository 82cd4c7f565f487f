package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// A section of rows is three tables and the rows: texts (count, lengths, then all
// bytes), lists of texts (count, then length and texts of each), times (count, then
// length and bytes of each), the number of rows plus 1 or 0 for no list at all, and the
// numbers of each row. Rows name texts by their place in the table; lists and times by
// their place plus 1, and 0 is none. All numbers are varints.
const (
	// maxTexts bounds the texts of a section, and the texts of all its lists.
	maxTexts = 1_000_000
	// maxTimes bounds the times of a section.
	maxTimes = 100_000
)

var errTables = errors.New("the tables or rows are cut off, or name what is not there")

type writer struct {
	texts     map[string]uint64
	lengths   []byte
	blob      []byte
	lists     map[string]uint64
	listBytes []byte
	listTexts int
	times     map[string]uint64
	timeBytes []byte
	rows      []byte
}

func newWriter() *writer {
	return &writer{texts: map[string]uint64{}, lists: map[string]uint64{}, times: map[string]uint64{}}
}

func (w *writer) place(s string) uint64 {
	n, ok := w.texts[s]
	if !ok {
		n = uint64(len(w.texts))
		w.texts[s] = n
		w.lengths = binary.AppendUvarint(w.lengths, uint64(len(s)))
		w.blob = append(w.blob, s...)
	}
	return n
}

func (w *writer) number(n uint64) { w.rows = binary.AppendUvarint(w.rows, n) }
func (w *writer) signed(n int64)  { w.rows = binary.AppendVarint(w.rows, n) }
func (w *writer) float(f float64) { w.number(packFloat(f)) }
func (w *writer) text(s string)   { w.number(w.place(s)) }
func (w *writer) list(all []string) {
	if all == nil {
		w.number(0)
		return
	}
	key := binary.AppendUvarint(nil, uint64(len(all)))
	for _, s := range all {
		key = binary.AppendUvarint(key, w.place(s))
	}
	n, ok := w.lists[string(key)]
	if !ok {
		n = uint64(len(w.lists))
		w.lists[string(key)] = n
		w.listBytes = append(w.listBytes, key...)
		w.listTexts += len(all)
	}
	w.number(n + 1)
}

func (w *writer) time(t time.Time) {
	if t.IsZero() {
		w.number(0)
		return
	}
	b, err := t.MarshalBinary()
	if err != nil {
		b = nil // it is read back as no time, which whoever records finds out
	}
	n, ok := w.times[string(b)]
	if !ok {
		n = uint64(len(w.times))
		w.times[string(b)] = n
		w.timeBytes = append(binary.AppendUvarint(w.timeBytes, uint64(len(b))), b...)
	}
	w.number(n + 1)
}

// finish returns the section; false if it is beyond what readers take.
func (w *writer) finish(rows int, none bool) ([]byte, bool) {
	if len(w.texts) > maxTexts || w.listTexts > maxTexts || len(w.lists) > maxTexts || len(w.times) > maxTimes {
		return nil, false
	}
	count := uint64(rows) + 1
	if none {
		count = 0
	}
	var out []byte
	out = binary.AppendUvarint(out, uint64(len(w.texts)))
	out = append(append(out, w.lengths...), w.blob...)
	out = append(binary.AppendUvarint(out, uint64(len(w.lists))), w.listBytes...)
	out = append(binary.AppendUvarint(out, uint64(len(w.times))), w.timeBytes...)
	out = append(binary.AppendUvarint(out, count), w.rows...)
	return out, true
}

// reader reads a section. After a fault it gives nothing but zeros, and end says so.
type reader struct {
	b []byte
	// at is what of it was read. Cutting b instead would write a pointer for each number,
	// of which a garbage collection at work takes note.
	at    int
	bad   bool
	texts []string
	lists [][]string
	times []time.Time
}

// newReader reads the tables and the number of rows, -1 for no list at all.
func newReader(b []byte, limit, numbers int) (r *reader, rows int, err error) {
	r = &reader{b: b}
	r.readTexts()
	r.readLists()
	r.readTimes()
	n := r.number()
	if r.bad || n > uint64(limit)+1 || n > 0 && (n-1)*uint64(numbers) > uint64(r.left()) {
		return nil, 0, errTables
	}
	return r, int(n) - 1, nil
}

// count is a number of things that have at least one byte each.
func (r *reader) count(limit uint64) int {
	n := r.number()
	if n > limit || n > uint64(r.left()) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) readTexts() {
	n := r.count(maxTexts)
	lengths := *r
	total := uint64(0)
	for range n {
		l := r.number()
		if l > maxSection {
			r.fail()
			return
		}
		total += l
	}
	if r.bad || total > uint64(r.left()) {
		r.fail()
		return
	}
	// All texts are parts of one.
	blob := string(r.b[r.at : r.at+int(total)])
	r.at += int(total)
	r.texts = make([]string, n)
	for i := range r.texts {
		l := lengths.number()
		r.texts[i], blob = blob[:l], blob[l:]
	}
}

func (r *reader) readLists() {
	n := r.count(maxTexts)
	r.lists = make([][]string, n)
	// All lists are parts of one, which has as many texts as there are bytes at most.
	look := *r
	total := 0
	for range n {
		l := look.count(maxTexts)
		for range l {
			look.number()
		}
		if total += l; look.bad || total > maxTexts {
			r.fail()
			return
		}
	}
	all := make([]string, total)
	for i := range r.lists {
		l := int(r.number())
		for k := range l {
			all[k] = r.text()
		}
		r.lists[i], all = all[:l:l], all[l:]
	}
}

func (r *reader) readTimes() {
	n := r.count(maxTimes)
	r.times = make([]time.Time, n)
	for i := range r.times {
		l := r.count(maxSection)
		if r.bad || r.times[i].UnmarshalBinary(r.b[r.at:r.at+l]) != nil {
			r.fail()
			return
		}
		r.at += l
	}
}

func (r *reader) fail() { r.bad, r.at = true, len(r.b) }

func (r *reader) left() int { return len(r.b) - r.at }

func (r *reader) number() uint64 {
	if r.at < len(r.b) {
		if n := r.b[r.at]; n < 0x80 {
			r.at++
			return uint64(n)
		}
	}
	n, size := binary.Uvarint(r.b[r.at:])
	if size <= 0 {
		r.fail()
		return 0
	}
	r.at += size
	return n
}

func (r *reader) signed() int64 {
	n := r.number()
	return int64(n>>1) ^ -int64(n&1)
}

func (r *reader) float() float64 { return unpackFloat(r.number()) }

func (r *reader) text() string {
	n := r.number()
	if n >= uint64(len(r.texts)) {
		r.fail()
		return ""
	}
	return r.texts[n]
}

func (r *reader) list() []string {
	n := r.number()
	if n == 0 {
		return nil
	}
	if n > uint64(len(r.lists)) {
		r.fail()
		return nil
	}
	return r.lists[n-1]
}

func (r *reader) time() time.Time {
	n := r.number()
	if n == 0 {
		return time.Time{}
	}
	if n > uint64(len(r.times)) {
		r.fail()
		return time.Time{}
	}
	return r.times[n-1]
}

// end tells whether all was there and nothing is left.
func (r *reader) end() error {
	if r.bad {
		return errTables
	}
	if r.left() > 0 {
		return fmt.Errorf("%d bytes after the rows", r.left())
	}
	return nil
}
