package core

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// Exception is an exception that a verdict rests on.
type Exception struct {
	// Name of it, and the vulnerability that it is for, or `rule:…`.
	Name, Target string
	// PURLs of the packages that it was used for.
	PURLs []string
	// Owner answers for it; Reason is why it is right, Ticket where more stands.
	Owner, Reason, Ticket string
	// Justification in OpenVEX's words; empty if the risk is accepted.
	Justification string
	// ExpireTime is when it ends.
	ExpireTime time.Time
}

// The field names are those of openvex/spec OPENVEX-SPEC.md 0.2.0.
type (
	vexDocument struct {
		Context    string         `json:"@context"`
		ID         string         `json:"@id"`
		Author     string         `json:"author"`
		Role       string         `json:"role"`
		Timestamp  string         `json:"timestamp"`
		Version    int            `json:"version"`
		Tooling    string         `json:"tooling"`
		Statements []vexStatement `json:"statements"`
	}
	vexStatement struct {
		Vulnerability vexVulnerability `json:"vulnerability"`
		// Timestamp is set in statements that say that an earlier one does not hold
		// any more, and only there; all others are as old as the document.
		Timestamp       string       `json:"timestamp,omitempty"`
		Products        []vexProduct `json:"products"`
		Status          string       `json:"status"`
		StatusNotes     string       `json:"status_notes,omitempty"`
		Justification   string       `json:"justification,omitempty"`
		ImpactStatement string       `json:"impact_statement,omitempty"`
		ActionStatement string       `json:"action_statement,omitempty"`
	}
	vexVulnerability struct {
		Name string `json:"name"`
	}
	vexProduct struct {
		vexComponent
		Hashes        map[string]string `json:"hashes"`
		Subcomponents []vexComponent    `json:"subcomponents"`
	}
	vexComponent struct {
		ID          string            `json:"@id"`
		Identifiers map[string]string `json:"identifiers"`
	}
)

const (
	vexContext = "https://openvex.dev/ns/v0.2.0"
	// vexTooling is how the verifier recognises what was made of its own verdicts.
	vexTooling     = "https://seaworthy.dev/signer"
	vexAffected    = "affected"
	vexNotAffected = "not_affected"
	// maxEnded bounds the statements about what ended; the oldest are left out.
	maxEnded = 1000
)

// vexJustifications are all that OpenVEX knows.
var vexJustifications = []string{
	"component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
	"vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist",
}

// VEXs builds the OpenVEX documents of a verdict: one for the image and one for
// each platform manifest of an index with a sound verdict of its own, of the
// exceptions from vulnerabilities that each rests on. Exceptions from rules say
// nothing about vulnerabilities and give no statement.
//
// What an earlier document of ours says and the verdict rests on no longer is
// taken back by an `affected` statement: readers that keep several documents go
// by the latest statement, not by its absence. Without exceptions and without an
// earlier document there is none.
func VEXs(v Verdict, name, author string) []SubjectPredicate {
	var all []string
	for _, e := range v.Exceptions {
		all = append(all, e.Name)
	}
	subjects := []PlatformVerdict{{Digest: v.ImageDigest, Outcome: v.Outcome, Exceptions: all}}
	for _, p := range v.Platforms {
		if p.Digest != v.ImageDigest {
			subjects = append(subjects, p)
		}
	}
	var out []SubjectPredicate
	for _, s := range subjects {
		if s.Outcome != Pass && s.Outcome != Fail {
			continue
		}
		d := vexDocument{
			Context: vexContext, Author: author, Role: "Policy verifier", Timestamp: timestamp(v.EvaluateTime), Version: 1,
			Tooling: vexTooling, Statements: vexStatements(v.Exceptions, s, name),
		}
		out = append(out, SubjectPredicate{Digest: s.Digest, Predicate: Predicate{
			Type: PredicateOpenVEX, Time: v.EvaluateTime,
			Revise: func(before json.RawMessage) (Predicate, bool, error) { return d.revise(before, v.EvaluateTime) },
		}})
	}
	return out
}

// vexStatements are those of the exceptions in force for s, of each package and
// vulnerability one. Of two that contradict each other the one counts that makes
// nothing look better than it is.
func vexStatements(exceptions []Exception, s PlatformVerdict, name string) []vexStatement {
	sorted := slices.Clone(exceptions)
	slices.SortFunc(sorted, func(a, b Exception) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), compareBool(a.notAffected(), b.notAffected()), cmp.Compare(a.Name, b.Name))
	})
	said := vexSaid{}
	var out []vexStatement
	for _, e := range sorted {
		if strings.HasPrefix(e.Target, "rule:") || !slices.Contains(s.Exceptions, e.Name) {
			continue
		}
		// An exception that names no package was written down by a verifier that did
		// not record them: nothing can be said then.
		if purls := said.rest(e.Target, e.PURLs); len(purls) > 0 {
			said.add(e.Target, purls)
			out = append(out, e.statement(vexImage(name, s.Digest, purls)))
		}
	}
	return out
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// notAffected reports whether the exception says why the vulnerability does no harm.
func (e Exception) notAffected() bool { return slices.Contains(vexJustifications, e.Justification) }

func (e Exception) statement(p vexProduct) vexStatement {
	until := timestamp(e.ExpireTime)
	ticket := ""
	if e.Ticket != "" {
		ticket = ", " + e.Ticket
	}
	st := vexStatement{Vulnerability: vexVulnerability{Name: e.Target}, Products: []vexProduct{p}, StatusNotes: "exception " + e.Name}
	if e.notAffected() {
		st.Status, st.Justification, st.ImpactStatement = vexNotAffected, e.Justification, e.Reason
		st.StatusNotes += fmt.Sprintf(" of %s until %s%s", e.Owner, until, ticket)
		return st
	}
	st.Status = vexAffected
	st.ActionStatement = fmt.Sprintf("Accepted by %s until %s: %s%s", e.Owner, until, e.Reason, ticket)
	return st
}

func vexImage(name, digest string, purls []string) vexProduct {
	p := vexProduct{vexComponent: vexPURL(imageref.PURL(name, digest)), Hashes: map[string]string{"sha-256": digestSet(digest)["sha256"]}}
	for _, purl := range purls {
		p.Subcomponents = append(p.Subcomponents, vexPURL(purl))
	}
	return p
}

func vexPURL(purl string) vexComponent {
	return vexComponent{ID: purl, Identifiers: map[string]string{"purl": purl}}
}

// revise adds to the document what takes back the statements of the one before.
func (d vexDocument) revise(before json.RawMessage, at time.Time) (Predicate, bool, error) {
	var old vexDocument
	if before != nil {
		if err := strictjson.Unmarshal(before, &old); err != nil {
			return Predicate{}, false, fmt.Errorf("OpenVEX document in force: %w", err)
		}
	}
	inForce := len(d.Statements)
	d.Statements = append(slices.Clip(d.Statements), d.ended(old)...)
	if len(d.Statements) == 0 {
		return Predicate{}, false, nil
	}
	t, err := time.Parse(time.RFC3339Nano, old.Timestamp)
	if err == nil && inForce == 0 && !at.Before(t) && reflect.DeepEqual(d.Statements, old.Statements) {
		// All is taken back already. That does not have to be said anew every day.
		d.Timestamp, at = old.Timestamp, t
	}
	statements, err := marshal(d.Statements)
	if err != nil {
		return Predicate{}, false, err
	}
	content, err := marshal(d)
	if err != nil {
		return Predicate{}, false, err
	}
	d.ID = strings.TrimRight(d.Author, "/") + "/openvex/" + strings.Replace(Digest(content), ":", "-", 1)
	doc, err := marshal(d)
	return Predicate{Type: PredicateOpenVEX, ContentKey: Digest(statements), Time: at, JSON: doc}, true, err
}

// ended are the statements that take back what old says and d does not.
func (d vexDocument) ended(old vexDocument) []vexStatement {
	said := vexSaid{}
	for _, st := range d.Statements {
		said.add(st.Vulnerability.Name, st.purls())
	}
	var out []vexStatement
	for _, st := range old.Statements {
		rest := said.rest(st.Vulnerability.Name, st.purls())
		if len(rest) == 0 {
			continue
		}
		said.add(st.Vulnerability.Name, rest)
		p := st.Products[0]
		p.Subcomponents = nil
		for _, purl := range rest {
			p.Subcomponents = append(p.Subcomponents, vexPURL(purl))
		}
		if st.Timestamp == "" {
			st = vexStatement{
				Vulnerability: st.Vulnerability, Timestamp: d.Timestamp, Status: vexAffected, StatusNotes: st.StatusNotes,
				ActionStatement: "The verdict of " + d.Timestamp + " rests on this exception no longer: what was said because of it does not hold any more. Update the package or decide anew.",
			}
		}
		st.Products = []vexProduct{p}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b vexStatement) int {
		return cmp.Or(cmp.Compare(b.Timestamp, a.Timestamp), cmp.Compare(a.Vulnerability.Name, b.Vulnerability.Name), cmp.Compare(a.StatusNotes, b.StatusNotes))
	})
	return out[:min(len(out), maxEnded)]
}

func (st vexStatement) purls() []string {
	var out []string
	for _, p := range st.Products {
		for _, c := range p.Subcomponents {
			out = append(out, c.ID)
		}
	}
	return out
}

// vexSaid is which packages something was said about, by vulnerability.
type vexSaid map[string]map[string]bool

func (s vexSaid) add(vulnerability string, purls []string) {
	if s[vulnerability] == nil {
		s[vulnerability] = map[string]bool{}
	}
	for _, p := range purls {
		s[vulnerability][p] = true
	}
}

// rest are the packages that nothing was said about yet, each once, sorted.
func (s vexSaid) rest(vulnerability string, purls []string) []string {
	left := map[string]bool{}
	for _, p := range purls {
		left[p] = !s[vulnerability][p]
	}
	maps.DeleteFunc(left, func(_ string, want bool) bool { return !want })
	return slices.Sorted(maps.Keys(left))
}
