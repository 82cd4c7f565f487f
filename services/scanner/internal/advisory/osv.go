package advisory

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/osv-scalibr/semantic"
)

// MaxRecord is the size of the largest record, in bytes.
const MaxRecord = 4 << 20

// Limits on one record; real ones stay far below.
const (
	maxAffected = 20_000
	maxIDs      = 1_000
	maxSummary  = 300
)

// errWithdrawn marks a record that its source took back.
var errWithdrawn = errors.New("withdrawn")

// osvRecord is the part of the OSV schema that is read.
type osvRecord struct {
	ID               string           `json:"id"`
	Modified         time.Time        `json:"modified"`
	Withdrawn        *time.Time       `json:"withdrawn"`
	Aliases          []string         `json:"aliases"`
	Upstream         []string         `json:"upstream"`
	Summary          string           `json:"summary"`
	Details          string           `json:"details"`
	Severity         []osvSeverity    `json:"severity"`
	Affected         []osvAffected    `json:"affected"`
	DatabaseSpecific databaseSpecific `json:"database_specific"`
}

type osvSeverity struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

type osvAffected struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Severity          []osvSeverity    `json:"severity"`
	Ranges            []osvRange       `json:"ranges"`
	Versions          []string         `json:"versions"`
	EcosystemSpecific severitySpecific `json:"ecosystem_specific"`
	DatabaseSpecific  severitySpecific `json:"database_specific"`
}

type osvRange struct {
	Type   string `json:"type"`
	Events []struct {
		Introduced   string `json:"introduced"`
		Fixed        string `json:"fixed"`
		LastAffected string `json:"last_affected"`
		Limit        string `json:"limit"`
	} `json:"events"`
}

// events are the turns of the range. A limit of `*` is none, and takes the others
// away: a version has to be below one of them only.
func (r *osvRange) events() []Event {
	var out []Event
	unlimited := false
	for _, e := range r.Events {
		unlimited = unlimited || e.Limit == "*"
		for _, one := range []Event{{Introduced: e.Introduced}, {Fixed: e.Fixed}, {LastAffected: e.LastAffected}, {Limit: e.Limit}} {
			if one != (Event{}) {
				out = append(out, one)
			}
		}
	}
	return slices.DeleteFunc(out, func(e Event) bool { return unlimited && e.Limit != "" })
}

// severitySpecific reads the severities that databases write in words. The
// members belong to the databases, so another type there is no error.
type severitySpecific struct{ word string }

// UnmarshalJSON takes the members that are known and ignores all others.
func (s *severitySpecific) UnmarshalJSON(b []byte) error {
	var m map[string]json.RawMessage
	if json.Unmarshal(b, &m) != nil {
		return nil //nolint:nilerr // another shape is allowed
	}
	for _, key := range []string{"severity", "urgency"} {
		var word string
		if json.Unmarshal(m[key], &word) == nil && word != "" {
			s.word = word
			return nil
		}
	}
	return nil
}

// databaseSpecific reads GitHub's severity and our own `kev` and `epss`.
type databaseSpecific struct {
	severitySpecific
	kev  bool
	epss float64
	// statesKEV and statesEPSS tell that the members are there.
	statesKEV, statesEPSS bool
}

// UnmarshalJSON takes the members that are known and ignores all others.
func (d *databaseSpecific) UnmarshalJSON(b []byte) error {
	if err := d.severitySpecific.UnmarshalJSON(b); err != nil {
		return err
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(b, &m) != nil {
		return nil //nolint:nilerr // another shape is allowed
	}
	d.statesKEV = json.Unmarshal(m["kev"], &d.kev) == nil && string(m["kev"]) != "null"
	if !d.statesKEV {
		d.kev = false
	}
	d.statesEPSS = json.Unmarshal(m["epss"], &d.epss) == nil && string(m["epss"]) != "null" && d.epss >= 0 && d.epss <= 1
	if !d.statesEPSS {
		d.epss = 0
	}
	return nil
}

// parseRecord reads one OSV record. It returns errWithdrawn for one that was
// taken back, with the record's id and time so that it replaces older versions.
func parseRecord(content []byte) (*Record, error) {
	if len(content) > MaxRecord {
		return nil, fmt.Errorf("larger than %d bytes", MaxRecord)
	}
	var o osvRecord
	if err := json.Unmarshal(content, &o); err != nil {
		return nil, fmt.Errorf("not an OSV record: %w", err)
	}
	if o.ID == "" || len(o.ID) > 200 {
		return nil, errors.New("no usable id")
	}
	if o.Modified.IsZero() {
		return nil, errors.New("no modified time")
	}
	r := &Record{ID: o.ID, Modified: o.Modified.UTC()}
	if o.Withdrawn != nil {
		return r, errWithdrawn
	}
	if len(o.Aliases) > maxIDs || len(o.Upstream) > maxIDs {
		return nil, fmt.Errorf("more than %d aliases", maxIDs)
	}
	if len(o.Affected) > maxAffected {
		return nil, fmt.Errorf("more than %d affected packages", maxAffected)
	}
	r.Aliases, r.Upstream = sortedIDs(o.Aliases), sortedIDs(o.Upstream)
	r.Summary = summary(o.Summary, o.Details)
	r.Score, r.Vector = score(o.Severity)
	r.Severity = cmp.Or(severityWord(o.DatabaseSpecific.word), statedSeverity(o.Severity), summarySeverity(r.ID, r.Summary))
	r.KEV, r.EPSS = o.DatabaseSpecific.kev, o.DatabaseSpecific.epss
	r.statesKEV, r.statesEPSS = o.DatabaseSpecific.statesKEV, o.DatabaseSpecific.statesEPSS
	commits := false
	for i := range o.Affected {
		a, err := o.Affected[i].affected(r.Summary)
		if err != nil {
			return nil, err
		}
		if a != nil {
			r.Affected = append(r.Affected, *a)
		}
		commits = commits || slices.ContainsFunc(o.Affected[i].Ranges, func(g osvRange) bool { return g.Type == "GIT" })
	}
	switch {
	case len(r.Affected) > 0:
		return r, nil
	case commits:
		return nil, errors.New("has ranges of commits only, and no package in an image tells its commit")
	}
	return nil, errors.New("names no package with versions")
}

// affected returns nil for an entry that names no package or no versions, such as
// one of GIT ranges only. The summary may name a module's stream.
func (o *osvAffected) affected(summary string) (*Affected, error) {
	if o.Package.Ecosystem == "" || o.Package.Name == "" {
		return nil, nil //nolint:nilnil // nothing to match, and no error
	}
	base := baseEcosystem(o.Package.Ecosystem)
	a := &Affected{
		Ecosystem: o.Package.Ecosystem,
		Name:      normalizeName(base, o.Package.Name),
		Versions:  o.Versions,
	}
	if strings.ContainsRune(a.Ecosystem, 0) || strings.ContainsRune(a.Name, 0) {
		return nil, errors.New("a package's name has a zero byte")
	}
	slices.Sort(a.Versions)
	a.Versions = slices.Compact(a.Versions)
	a.Score, a.Vector = score(o.Severity)
	a.Severity = severityWord(o.EcosystemSpecific.word)
	if a.Severity == 0 {
		a.Severity = cmp.Or(severityWord(o.DatabaseSpecific.word), statedSeverity(o.Severity))
	}
	for _, r := range o.Ranges {
		if r.Type != "SEMVER" && r.Type != "ECOSYSTEM" {
			continue
		}
		events := r.events()
		if len(events) == 0 {
			continue
		}
		sorted, err := sortEvents(a.Ecosystem, events)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", a.Name, err)
		}
		a.Ranges = append(a.Ranges, sorted)
	}
	if isRPM(base) {
		a.Stream = a.moduleStream(summary)
	}
	if len(a.Ranges) == 0 && len(a.Versions) == 0 {
		return nil, nil //nolint:nilnil // nothing to match, and no error
	}
	return a, nil
}

// sortEvents orders the events of a range by version, as the evaluation algorithm
// wants. Ranges of an ecosystem whose versions nobody can compare are kept as they
// are and never match.
func sortEvents(ecosystem string, events []Event) ([]Event, error) {
	type parsed struct {
		event Event
		order *order
	}
	ps := make([]parsed, 0, len(events))
	for _, e := range events {
		o, err := newOrder(ecosystem, e.version())
		if errors.Is(err, semantic.ErrUnsupportedEcosystem) {
			return events, nil
		}
		if err != nil {
			return nil, fmt.Errorf("version %q: %w", e.version(), err)
		}
		ps = append(ps, parsed{event: e, order: o})
	}
	var failed error
	slices.SortStableFunc(ps, func(a, b parsed) int {
		switch {
		case a.event.Introduced == "0" && b.event.Introduced == "0":
			return 0
		case a.event.Introduced == "0":
			return -1
		case b.event.Introduced == "0":
			return 1
		}
		c, err := a.order.with(b.order)
		if err != nil {
			failed = err
		}
		return c
	})
	if failed != nil {
		return nil, failed
	}
	for i := range ps {
		events[i] = ps[i].event
	}
	return events, nil
}

func sortedIDs(ids []string) []string {
	out := slices.DeleteFunc(slices.Clone(ids), func(s string) bool { return s == "" || len(s) > 200 })
	slices.Sort(out)
	return slices.Compact(out)
}

// summary is the record's, or the first line of its details, bounded.
func summary(s, details string) string {
	if s == "" {
		s, _, _ = strings.Cut(strings.TrimSpace(details), "\n")
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	if len(s) > maxSummary {
		s = strings.ToValidUTF8(s[:maxSummary], "") + "…"
	}
	return s
}
