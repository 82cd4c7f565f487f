package advisory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Rejected is an input record that could not be used.
type Rejected struct {
	// Name tells where the record came from.
	Name    string
	Message string
}

// maxRejectedListed is how many rejected records a builder remembers by name.
const maxRejectedListed = 100

// Builder makes a snapshot of OSV records. The order of the records does not
// matter: of two versions of a record the one modified last counts.
type Builder struct {
	records   map[string]versioned
	rejected  int64
	listed    []Rejected
	intern    interner
	maxRecord int
	// kev and epss are nil until they are set.
	kev  map[string]bool
	epss map[string]float64
	// kevTime and epssTime are when the lists were made; zero if they do not say.
	kevTime, epssTime time.Time
	// kevGiven and epssGiven tell that the lists were set, not inherited.
	kevGiven, epssGiven bool
	// inherited has the bits of what an older snapshot knew of those records and lists that
	// were taken from it.
	inherited byte
}

type versioned struct {
	record    *Record
	withdrawn bool
}

// NewBuilder returns a builder for at most maxRecords records.
func NewBuilder(maxRecords int) *Builder {
	return &Builder{records: map[string]versioned{}, intern: interner{}, maxRecord: maxRecords}
}

// ErrTooManyRecords says that a builder is full.
var ErrTooManyRecords = errors.New("too many records")

// Add reads one record. A record that cannot be used is counted and listed; the
// only error is ErrTooManyRecords.
func (b *Builder) Add(name string, content []byte) error {
	r, err := parseRecord(content)
	if err != nil && !errors.Is(err, errWithdrawn) {
		b.Reject(name, err)
		return nil
	}
	v := versioned{record: r, withdrawn: err != nil}
	old, known := b.records[r.ID]
	if !known && len(b.records) >= b.maxRecord {
		return fmt.Errorf("%w: more than %d", ErrTooManyRecords, b.maxRecord)
	}
	if known && !v.newer(old) {
		return nil
	}
	b.intern.record(r)
	b.records[r.ID] = v
	return nil
}

// Reject counts and lists a record that could not be used.
func (b *Builder) Reject(name string, err error) {
	b.rejected++
	if len(b.listed) < maxRejectedListed {
		b.listed = append(b.listed, Rejected{Name: name, Message: err.Error()})
	}
}

// newer decides between two versions of a record. The last step only makes the
// choice independent of the order.
func (v versioned) newer(old versioned) bool {
	if c := v.record.Modified.Compare(old.record.Modified); c != 0 {
		return c > 0
	}
	if v.withdrawn != old.withdrawn {
		return v.withdrawn
	}
	a, _ := json.Marshal(v.record)
	b, _ := json.Marshal(old.record)
	return bytes.Compare(a, b) > 0
}

// Rejected returns the first records that could not be used.
func (b *Builder) Rejected() []Rejected { return b.listed }

// ErrEmpty says that no record could be used.
var ErrEmpty = errors.New("no usable advisory")

// Build returns the snapshot.
func (b *Builder) Build() (*Snapshot, error) {
	records := make([]*Record, 0, len(b.records))
	for _, v := range b.records {
		if !v.withdrawn {
			records = append(records, v.record)
		}
	}
	if len(records) == 0 {
		return nil, ErrEmpty
	}
	content, err := encode(records, b.scores(), b.rejected, b.known(records))
	if err != nil {
		return nil, err
	}
	return newSnapshot(content, "")
}

// interner keeps one copy of strings that many records share.
type interner map[string]string

func (in interner) str(s string) string {
	if s == "" {
		return s
	}
	if have, ok := in[s]; ok {
		return have
	}
	in[s] = s
	return s
}

func (in interner) record(r *Record) {
	for i := range r.Affected {
		a := &r.Affected[i]
		a.Ecosystem, a.Name, a.Vector = in.str(a.Ecosystem), in.str(a.Name), in.str(a.Vector)
		for j := range a.Versions {
			a.Versions[j] = in.str(a.Versions[j])
		}
		for _, events := range a.Ranges {
			for j := range events {
				e := &events[j]
				e.Introduced, e.Fixed, e.LastAffected, e.Limit = in.str(e.Introduced), in.str(e.Fixed), in.str(e.LastAffected), in.str(e.Limit)
			}
		}
	}
	r.Vector = in.str(r.Vector)
}

// known tells what the snapshot knows of exploitation: what a list says, or each record
// itself.
func (b *Builder) known(records []*Record) byte {
	known := b.inherited
	if b.kevGiven || !slices.ContainsFunc(records, func(r *Record) bool { return !r.statesKEV }) {
		known |= metaExploited
	}
	if b.epssGiven || !slices.ContainsFunc(records, func(r *Record) bool { return !r.statesEPSS }) {
		known |= metaScores
	}
	return known
}
