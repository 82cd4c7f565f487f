package vex

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/exception"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/purl"
)

// Limits of a document.
const (
	// MaxDocument is the size in bytes.
	MaxDocument = 8 << 20
	// MaxDocuments that are imported, and MaxBytes of all of them with their bundles.
	MaxDocuments = 500
	MaxBytes     = 128 << 20
	// MaxStatements of a document.
	MaxStatements = 20_000
	// MaxProducts of a statement, and subcomponents of a product.
	MaxProducts = 10_000
	// maxTotal bounds the products and subcomponents of a document.
	maxTotal = 100_000
	// maxText is the length of a name, an id or an impact statement, in bytes.
	maxText = 4096
	// maxAliases of a vulnerability.
	maxAliases = 100
	// maxIdentifiers of a product, and hashes of it.
	maxIdentifiers = 20
)

// ErrMalformed says that a document is not OpenVEX, or not one that is taken.
var ErrMalformed = errors.New("not an OpenVEX document that is accepted")

// ErrUnmatchable says that a statement of a document can match nothing.
var ErrUnmatchable = fmt.Errorf("%w: a product cannot be matched", ErrMalformed)

// Document is what a document says.
type Document struct {
	// ID and Author as the document states them; nothing vouches for either.
	ID, Author string
	Time       time.Time
	Statements []core.VexStatement
}

type documentJSON struct {
	Context     string          `json:"@context"`
	ID          string          `json:"@id"`
	Author      string          `json:"author"`
	Timestamp   time.Time       `json:"timestamp"`
	LastUpdated time.Time       `json:"last_updated"`
	Statements  []statementJSON `json:"statements"`
}

type statementJSON struct {
	Vulnerability   vulnerabilityJSON `json:"vulnerability"`
	Timestamp       time.Time         `json:"timestamp"`
	LastUpdated     time.Time         `json:"last_updated"`
	Products        []productJSON     `json:"products"`
	Subcomponents   []componentJSON   `json:"subcomponents"`
	Status          string            `json:"status"`
	Justification   string            `json:"justification"`
	ImpactStatement string            `json:"impact_statement"`
}

// vulnerabilityJSON is an object, or in old documents a name.
type vulnerabilityJSON struct {
	Name    string   `json:"name"`
	Aliases []string `json:"aliases"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *vulnerabilityJSON) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return strictjson.Unmarshal(b, &v.Name)
	}
	type plain vulnerabilityJSON
	return strictjson.Unmarshal(b, (*plain)(v))
}

type componentFields struct {
	ID          string            `json:"@id"`
	Identifiers map[string]string `json:"identifiers"`
	Hashes      map[string]string `json:"hashes"`
}

// componentJSON is an object, or in old documents an identifier.
type componentJSON struct{ componentFields }

// UnmarshalJSON implements json.Unmarshaler.
func (c *componentJSON) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return strictjson.Unmarshal(b, &c.ID)
	}
	return strictjson.Unmarshal(b, &c.componentFields)
}

// productJSON is a component with others in it, which have none: each level with an
// UnmarshalJSON of its own reads all that is below it once more.
type productJSON struct {
	componentFields
	Subcomponents []componentJSON `json:"subcomponents"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *productJSON) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return strictjson.Unmarshal(b, &p.ID)
	}
	type plain productJSON
	return strictjson.Unmarshal(b, (*plain)(p))
}

// Parse reads a document. Errors wrap ErrMalformed; of a faulty document nothing is
// taken.
func Parse(raw []byte) (Document, error) {
	if len(raw) > MaxDocument {
		return Document{}, fmt.Errorf("%w: %d bytes exceeds the limit of %d", ErrMalformed, len(raw), MaxDocument)
	}
	var d documentJSON
	if err := strictjson.Unmarshal(raw, &d); err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !strings.HasPrefix(d.Context, "https://openvex.dev/ns") {
		return Document{}, fmt.Errorf("%w: its @context is %.100q", ErrMalformed, d.Context)
	}
	if len(d.Statements) > MaxStatements {
		return Document{}, fmt.Errorf("%w: %d statements, the limit is %d", ErrMalformed, len(d.Statements), MaxStatements)
	}
	out := Document{ID: d.ID, Author: d.Author, Time: later(d.Timestamp, d.LastUpdated)}
	if err := checkTexts(d.ID, d.Author); err != nil {
		return Document{}, err
	}
	left := maxTotal
	for i := range d.Statements {
		s, err := d.Statements[i].read(out.Time, &left)
		if err != nil {
			return Document{}, fmt.Errorf("statement %d: %w", i+1, err)
		}
		out.Statements = append(out.Statements, s)
	}
	return out, nil
}

// NotAfter brings times that are later than the proven time of the signature down to it.
// It is zero if nothing is proven.
func (d *Document) NotAfter(signed time.Time) {
	if signed.IsZero() {
		return
	}
	if d.Time.After(signed) {
		d.Time = signed
	}
	for i := range d.Statements {
		if d.Statements[i].Time.After(signed) {
			d.Statements[i].Time = signed
		}
	}
}

// latest is the latest time in it.
func (d *Document) latest() time.Time {
	out := d.Time
	for i := range d.Statements {
		out = later(out, d.Statements[i].Time)
	}
	return out
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		a = b
	}
	return a.UTC()
}

func checkTexts(texts ...string) error {
	for _, t := range texts {
		if len(t) > maxText || strings.ToValidUTF8(t, "") != t {
			return fmt.Errorf("%w: a text has more than %d bytes or is not UTF-8", ErrMalformed, maxText)
		}
	}
	return nil
}

func (s *statementJSON) read(document time.Time, left *int) (core.VexStatement, error) {
	out := core.VexStatement{
		Status: s.Status, Justification: s.Justification, Impact: core.Truncate(s.ImpactStatement), Time: later(s.Timestamp, s.LastUpdated),
	}
	if out.Time.IsZero() {
		out.Time = document
	}
	switch {
	case out.Time.IsZero() || out.Time.Year() < 1970 || out.Time.Year() > 2200:
		return out, fmt.Errorf("%w: neither it nor the document has a usable timestamp", ErrMalformed)
	case s.Vulnerability.Name == "":
		return out, fmt.Errorf("%w: it names no vulnerability", ErrMalformed)
	case len(s.Vulnerability.Aliases) > maxAliases:
		return out, fmt.Errorf("%w: %d aliases, the limit is %d", ErrMalformed, len(s.Vulnerability.Aliases), maxAliases)
	case !slices.Contains([]string{core.VexNotAffected, core.VexAffected, core.VexFixed, core.VexUnderInvestigation}, s.Status):
		return out, fmt.Errorf("%w: there is no status %.100q", ErrMalformed, s.Status)
	case s.Justification != "" && !slices.Contains(exception.Justifications, s.Justification):
		return out, fmt.Errorf("%w: there is no justification %.100q", ErrMalformed, s.Justification)
	}
	out.Vulnerabilities = append([]string{s.Vulnerability.Name}, s.Vulnerability.Aliases...)
	if err := checkTexts(out.Vulnerabilities...); err != nil {
		return out, err
	}
	if len(s.Products) > MaxProducts {
		return out, fmt.Errorf("%w: %d products, the limit is %d", ErrMalformed, len(s.Products), MaxProducts)
	}
	for i := range s.Products {
		p := &s.Products[i]
		component, err := p.component(left)
		if err != nil {
			return out, err
		}
		product := core.VexProduct{VexComponent: component}
		// Old documents name the subcomponents of all products together.
		subs := slices.Concat(p.Subcomponents, s.Subcomponents)
		if len(subs) > MaxProducts {
			return out, fmt.Errorf("%w: %d subcomponents, the limit is %d", ErrMalformed, len(subs), MaxProducts)
		}
		for n := range subs {
			sub, err := subs[n].component(left)
			if err != nil {
				return out, err
			}
			product.Subcomponents = append(product.Subcomponents, sub)
		}
		out.Products = append(out.Products, product)
	}
	return out, nil
}

func (p *componentFields) component(left *int) (core.VexComponent, error) {
	if *left--; *left < 0 {
		return core.VexComponent{}, fmt.Errorf("%w: more than %d products and subcomponents", ErrMalformed, maxTotal)
	}
	if len(p.Identifiers) > maxIdentifiers || len(p.Hashes) > maxIdentifiers {
		return core.VexComponent{}, fmt.Errorf("%w: a product has more than %d identifiers or hashes", ErrMalformed, maxIdentifiers)
	}
	out := core.VexComponent{ID: p.ID, Purl: p.Identifiers["purl"]}
	if isPurl := len(p.ID) > 4 && strings.EqualFold(p.ID[:4], "pkg:"); isPurl && out.Purl == "" {
		out.Purl = p.ID
	} else if isPurl && !samePurl(p.ID, out.Purl) {
		out.Unmatched = "is not the package URL that its identifiers have"
	}
	if out.ID == "" {
		out.ID = out.Purl
	}
	for _, algorithm := range []string{"sha-256", "sha256"} {
		if sum := p.Hashes[algorithm]; sum != "" {
			out.Digests = append(out.Digests, "sha256:"+strings.ToLower(sum))
		}
	}
	if strings.HasPrefix(p.ID, "sha256:") {
		out.Digests = append(out.Digests, strings.ToLower(p.ID))
	}
	// What is named by its SHA-256 is the same whatever else is said of it. Everything else
	// has to match all that is said.
	if len(out.Digests) == 0 {
		for _, kind := range slices.Sorted(maps.Keys(p.Identifiers)) {
			if kind != "purl" && p.Identifiers[kind] != "" {
				out.Unmatched = cmp.Or(out.Unmatched, fmt.Sprintf("has the identifier %.20s, which cannot be compared", kind))
			}
		}
		for _, algorithm := range slices.Sorted(maps.Keys(p.Hashes)) {
			if p.Hashes[algorithm] != "" {
				out.Unmatched = cmp.Or(out.Unmatched, fmt.Sprintf("has the hash %.20s, and only SHA-256 can be compared", algorithm))
			}
		}
	}
	if out.ID == "" && len(out.Digests) == 0 {
		return out, fmt.Errorf("%w: a product without an identifier", ErrMalformed)
	}
	return out, checkTexts(append(out.Digests, out.ID, out.Purl, out.Unmatched)...)
}

func samePurl(a, b string) bool {
	x, err := purl.Parse(a)
	if err != nil {
		return false
	}
	y, err := purl.Parse(b)
	return err == nil && x.Equal(&y)
}

// unmatchable says of the first product that names an image by a tag what is wrong with
// it: its author may believe that the statement counts. Attached documents are taken all
// the same, and so are ranges of versions, which real documents of vendors have: such a
// statement has no effect, and explanations say so.
func (d *Document) unmatchable() error {
	check := func(statement int, c *core.VexComponent) error {
		if c.Purl == "" {
			return nil
		}
		p, err := purl.Parse(c.Purl)
		if err != nil || !p.IsImage() {
			return nil //nolint:nilerr // it matches nothing, and explanations say so
		}
		if err := p.Unmatchable(); err != nil {
			return fmt.Errorf("%w: statement %d: %.200q can match nothing: %w", ErrUnmatchable, statement, c.Purl, err)
		}
		return nil
	}
	for i := range d.Statements {
		for _, p := range d.Statements[i].Products {
			if err := check(i+1, &p.VexComponent); err != nil {
				return err
			}
			for n := range p.Subcomponents {
				if err := check(i+1, &p.Subcomponents[n]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Digest names a document by its content.
func Digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}
