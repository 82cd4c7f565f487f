package core

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/purl"
)

// Statuses of a VEX statement, in OpenVEX's words.
const (
	VexNotAffected        = "not_affected"
	VexAffected           = "affected"
	VexFixed              = "fixed"
	VexUnderInvestigation = "under_investigation"
)

const (
	// MaxVexUses bounds the findings that a verdict names as not affecting.
	MaxVexUses = 100
	// MaxVexMismatches bounds the statements that an explanation names.
	MaxVexMismatches = 200
)

// VexDocument is what a trusted author says about vulnerabilities. Its JSON is what
// is recorded.
type VexDocument struct {
	// Digest of the attestation's manifest, or of the imported document.
	Digest string
	// Author as the verifier's configuration names them.
	Author string
	// Attached is set for an attestation on the image: it is about the image.
	Attached bool `json:",omitempty"`
	// KeyID of an attestation, and the time that it states.
	KeyID        string    `json:",omitempty"`
	DocumentTime time.Time `json:",omitzero"`
	// Unreadable says why an attached document cannot be read. It has no statements then,
	// and DocumentTime is zero if its time cannot be read either.
	Unreadable string `json:",omitempty"`
	Statements []VexStatement
}

// VexStatement is one statement.
type VexStatement struct {
	// Vulnerabilities are the name and the aliases.
	Vulnerabilities []string
	Status          string
	Justification   string `json:",omitempty"`
	Impact          string `json:",omitempty"`
	Time            time.Time
	Products        []VexProduct `json:",omitempty"`
}

// VexProduct is what a statement is about.
type VexProduct struct {
	VexComponent
	Subcomponents []VexComponent `json:",omitempty"`
}

// VexComponent names software by package URL or by digest.
type VexComponent struct {
	// ID as it is written, for people.
	ID   string
	Purl string `json:",omitempty"`
	// Digests as `sha256:` and hex; all of them have to match.
	Digests []string `json:",omitempty"`
	// Unmatched is what the component says that cannot be compared with anything, so that
	// it matches nothing. Empty for most.
	Unmatched string `json:",omitempty"`
}

// VexUse is a finding that a statement says does not affect the image.
type VexUse struct {
	Vulnerability, Purl           string
	Status, Justification, Impact string
	Author, Document              string
	Time                          time.Time
}

// VexMismatch is a statement about a vulnerability that was found which had no
// effect on the finding, and why.
type VexMismatch struct {
	Vulnerability, Purl      string
	Status, Author, Document string
	Time                     time.Time
	PlatformDigest           string
	Why                      string
}

// VexIndex finds the statements about a vulnerability. The zero value has none.
type VexIndex struct {
	documents       []VexDocument
	byVulnerability map[string][]vexRef
}

type vexRef struct{ document, statement int }

// NewVexIndex returns the index of documents.
func NewVexIndex(documents []VexDocument) VexIndex {
	// In one order, so that the same documents give the same verdict.
	documents = slices.Clone(documents)
	slices.SortStableFunc(documents, func(a, b VexDocument) int { return strings.Compare(a.Digest, b.Digest) })
	x := VexIndex{documents: documents, byVulnerability: map[string][]vexRef{}}
	for d := range documents {
		for s := range documents[d].Statements {
			for _, v := range documents[d].Statements[s].Vulnerabilities {
				x.byVulnerability[vulnerabilityKey(v)] = append(x.byVulnerability[vulnerabilityKey(v)], vexRef{d, s})
			}
		}
	}
	return x
}

// vulnerabilityKey is the same for spellings of one vulnerability's id, which differ in
// case only.
func vulnerabilityKey(id string) string { return strings.ToUpper(id) }

// saying is one statement with its document.
type saying struct {
	*VexDocument
	*VexStatement
}

// about lists what is said about a finding.
func (x *VexIndex) about(f *Finding) []saying {
	var refs []vexRef
	refs = append(refs, x.byVulnerability[vulnerabilityKey(f.ID)]...)
	for _, a := range f.Aliases {
		if a != f.ID {
			refs = append(refs, x.byVulnerability[vulnerabilityKey(a)]...)
		}
	}
	slices.SortFunc(refs, func(a, b vexRef) int { return cmp.Or(a.document-b.document, a.statement-b.statement) })
	refs = slices.Compact(refs)
	out := make([]saying, 0, len(refs))
	for _, r := range refs {
		out = append(out, saying{&x.documents[r.document], &x.documents[r.document].Statements[r.statement]})
	}
	return out
}

// vexer applies statements to the findings of one platform manifest.
type vexer struct {
	about purl.Image
	now   time.Time
	// imported and attached are the statements there are.
	imported, attached *VexIndex
	// unread says why there may be attached documents that were not read.
	unread string
	ends   *deadline
	// used collects the digests of imported documents that say something about any
	// finding: the others cannot change anything.
	used map[string]bool
	uses []VexUse
	// mismatch, which may be nil, is told of every statement without effect.
	mismatch func(f *Finding, s saying, why string)
}

// apply tells findings that still affect the image from those that do not.
func (x *vexer) apply(findings []Finding) (affecting, suppressed []Finding) {
	if len(x.imported.documents) == 0 && len(x.attached.documents) == 0 {
		return findings, nil
	}
	affecting = make([]Finding, 0, len(findings))
	for _, f := range findings {
		s, ok := x.decide(&f)
		if !ok {
			affecting = append(affecting, f)
			continue
		}
		f.VexStatus = s.Status
		if !s.suppresses() {
			affecting = append(affecting, f)
			continue
		}
		suppressed = append(suppressed, f)
		x.uses = append(x.uses, VexUse{
			Vulnerability: f.ID, Purl: f.Purl, Status: s.Status, Justification: s.Justification, Impact: Truncate(s.Impact),
			Author: s.Author, Document: s.Digest, Time: s.Time,
		})
	}
	return affecting, suppressed
}

func (s saying) suppresses() bool { return s.Status == VexNotAffected || s.Status == VexFixed }

// decide returns the newest statement about a finding. Of two of one time the one
// that leaves the finding in counts. A statement that takes the finding out has no effect
// if a newer one may have taken it back, see withdrawn.
func (x *vexer) decide(f *Finding) (newest saying, ok bool) {
	var matched, missed []saying
	for _, s := range slices.Concat(x.imported.about(f), x.attached.about(f)) {
		if !s.Attached {
			x.used[s.Digest] = true
		}
		if why := x.misses(f, s); why != "" {
			x.tell(f, s, why)
			missed = append(missed, s)
			continue
		}
		matched = append(matched, s)
	}
	for _, s := range matched {
		if why := x.withdrawn(f, s, missed); why != "" {
			x.tell(f, s, why)
			continue
		}
		if !ok || s.Time.After(newest.Time) || s.Time.Equal(newest.Time) && newest.suppresses() && !s.suppresses() {
			if ok {
				x.tell(f, newest, "a newer statement of "+s.Author+" says "+s.Status)
			}
			newest, ok = s, true
			continue
		}
		x.tell(f, s, "a newer statement of "+newest.Author+" says "+newest.Status)
	}
	return newest, ok
}

// withdrawn says why a statement that would take the finding out has no effect although
// it matches; empty if it has. Its author may have taken it back: in a document that
// cannot be read, in one that was not read, or in a statement among those missed that
// cannot be compared with the finding.
func (x *vexer) withdrawn(f *Finding, s saying, missed []saying) string {
	if !s.suppresses() {
		return ""
	}
	if x.unread != "" {
		return "there may be a newer document: " + x.unread
	}
	for i := range x.attached.documents {
		d := &x.attached.documents[i]
		if d.Unreadable != "" && d.Author == s.Author && (d.DocumentTime.IsZero() || !d.DocumentTime.Before(s.Time)) {
			return "a newer document of " + s.Author + " cannot be read: " + d.Unreadable
		}
	}
	for _, m := range missed {
		if m.Author == s.Author && !m.suppresses() && m.Time.After(s.Time) && !m.Time.After(x.now) && x.mayConcern(f, m) {
			return "a newer statement of " + s.Author + " says " + m.Status + " and cannot be compared with the finding"
		}
	}
	return ""
}

func (x *vexer) tell(f *Finding, s saying, why string) {
	if x.mismatch != nil {
		x.mismatch(f, s, why)
	}
}

// misses says why a statement is not about a finding of this image; empty if it is.
func (x *vexer) misses(f *Finding, s saying) string {
	if s.Time.After(x.now) {
		x.ends.add(s.Time)
		return "it is of the future, " + s.Time.UTC().Format(time.RFC3339)
	}
	if s.Status == VexNotAffected && s.Justification == "" && s.Impact == "" {
		return "it gives no reason: not_affected needs a justification or an impact statement"
	}
	if len(s.Products) == 0 {
		if s.Attached {
			return ""
		}
		return "it names no product"
	}
	var why []string
	for i := range s.Products {
		p := &s.Products[i]
		w := x.productMisses(f, s, p)
		if w == "" {
			return ""
		}
		if len(why) < 3 {
			why = append(why, w)
		}
	}
	text := strings.Join(why, "; ")
	if more := len(s.Products) - len(why); more > 0 {
		text += fmt.Sprintf("; and %d more products", more)
	}
	return text
}

func (x *vexer) productMisses(f *Finding, s saying, p *VexProduct) string {
	whyImage := x.imageMisses(&p.VexComponent, s.Attached)
	if whyImage == "" {
		if len(p.Subcomponents) == 0 {
			return ""
		}
		for i := range p.Subcomponents {
			if packageMisses(f, &p.Subcomponents[i]) == "" {
				return ""
			}
		}
		return fmt.Sprintf("none of the %d subcomponents of %s is %s", len(p.Subcomponents), p.ID, f.Purl)
	}
	whyPackage := packageMisses(f, &p.VexComponent)
	switch {
	case whyPackage != "" && whyImage == notImage:
		return whyPackage
	case whyPackage != "":
		return whyImage
	case len(p.Subcomponents) > 0:
		return p.ID + " is a package and no image: which of its subcomponents the finding is in is not known"
	case s.Status == VexFixed && !versioned(p.Purl):
		return p.ID + " has no version: what it is fixed in is not known"
	default:
		return ""
	}
}

// applyVex takes what does not affect the manifest out of the facts, and returns the
// digests of the imported documents that had a say.
func (j *platformJudge) applyVex(facts *Facts) []string {
	attached := NewVexIndex(j.evidence.VEX)
	x := vexer{
		about: purl.Image{
			Registry: j.in.Image.Registry, Repository: j.in.Image.Repository, Digests: []string{j.in.Image.Digest, j.evidence.Digest},
			Architecture: j.evidence.Platform.Architecture, Variant: j.evidence.Platform.Variant,
		},
		now: j.in.Now, imported: &j.in.VEX, attached: &attached, unread: j.evidence.Unread, ends: j.ends, used: map[string]bool{},
	}
	if j.in.OnVexMismatch != nil {
		x.mismatch = func(f *Finding, s saying, why string) {
			j.in.OnVexMismatch(VexMismatch{
				Vulnerability: f.ID, Purl: f.Purl, Status: s.Status, Author: s.Author, Document: s.Digest, Time: s.Time,
				PlatformDigest: j.evidence.Digest, Why: Truncate(why),
			})
		}
	}
	facts.Findings, facts.Suppressed = x.apply(facts.Findings)
	j.vex = x.uses
	return slices.Sorted(maps.Keys(x.used))
}

// vexUses orders the uses of all platforms and names each once.
func vexUses(all []VexUse) ([]VexUse, int) {
	slices.SortFunc(all, func(a, b VexUse) int {
		return cmp.Or(strings.Compare(a.Vulnerability, b.Vulnerability), strings.Compare(a.Purl, b.Purl), strings.Compare(a.Document, b.Document))
	})
	all = slices.CompactFunc(all, func(a, b VexUse) bool {
		return a.Vulnerability == b.Vulnerability && a.Purl == b.Purl && a.Document == b.Document
	})
	return all[:min(len(all), MaxVexUses)], len(all)
}
