package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// Policy is a policy with the document it was read from.
type Policy struct {
	core.Policy
	// Document is the YAML as it is written.
	Document string
	// Repositories are the globs of spec.match.
	Repositories []string
}

// Loader compiles policies. It is safe for concurrent use.
type Loader struct{ env *cel.Env }

// NewLoader returns a loader.
func NewLoader() (*Loader, error) {
	env, err := newEnv()
	if err != nil {
		return nil, err
	}
	return &Loader{env: env}, nil
}

// Parse reads the policies of one file. The error joins every fault found, each a
// *strictyaml.Fault as `name:line:column: path: message` or `name: line N: message`.
func (l *Loader) Parse(name string, data []byte) ([]Policy, error) {
	parts, err := split(data)
	if err != nil {
		return nil, prefix(name, err)
	}
	if len(parts) == 0 {
		return nil, prefix(name, errors.New("the file holds no policy"))
	}
	var (
		out    []Policy
		faults []error
	)
	for _, part := range parts {
		p, errs := l.parseOne(part)
		for _, e := range errs {
			faults = append(faults, prefix(name, e))
		}
		if len(errs) == 0 {
			out = append(out, *p)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return out, nil
}

// prefix names the file in front of an error that begins with a place.
func prefix(name string, err error) error {
	if name == "" {
		return err
	}
	if s := err.Error(); s != "" && s[0] >= '0' && s[0] <= '9' {
		return fmt.Errorf("%s:%w", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

func (l *Loader) parseOne(r raw) (*Policy, []error) {
	d, faults := decode(r)
	if len(faults) > 0 {
		return nil, faults
	}
	b := builder{compiler: newCompiler(l.env, r), line: r.line + 1}
	p := b.build(d)
	globs := make([]string, 0, len(d.Spec.Match.Repositories))
	for _, g := range d.Spec.Match.Repositories {
		globs = append(globs, g.Value)
	}
	sum := sha256.Sum256(r.text)
	p.Digest = "sha256:" + hex.EncodeToString(sum[:])
	return &Policy{Policy: p, Document: string(r.text), Repositories: globs}, b.faults
}

// builder checks a document field by field and keeps every fault.
type builder struct {
	*compiler
	line   int
	faults []error
	// sees are the variables that any rule names.
	sees variable
}

func (b *builder) fault(t text, format string, args ...any) {
	if t.Line == 0 {
		t.Line, t.Column = b.line, 1
	}
	b.faults = append(b.faults, at(t, format, args...))
}

func (b *builder) build(d *document) core.Policy {
	if d.APIVersion.Value != apiVersion {
		b.fault(d.APIVersion, "must be %s", apiVersion)
	}
	if d.Kind.Value != kind {
		b.fault(d.Kind, "must be %s", kind)
	}
	p := core.Policy{Name: d.Metadata.Name.Value}
	if !namePattern.MatchString(p.Name) {
		b.fault(d.Metadata.Name, "must be 1 to 63 lower-case letters, digits and dashes")
	}
	b.match(&p, d.Spec.Match)
	b.environments(&p, d.Spec.Environments)
	if d.Spec.Trust != nil {
		p.Trust = b.trust(d.Spec.Trust)
	}
	b.require(&p, d.Spec)
	if d.Spec.Default.Line > 0 {
		if _, ok := severities[d.Spec.Default.Value]; !ok {
			b.fault(d.Spec.Default, "must be deny or warn: the severity of rules that name none")
		}
	}
	b.rules(&p, d.Spec)
	p.Unseen = b.sees.unseen()
	return p
}

func (b *builder) match(p *core.Policy, m match) {
	globs := make([]string, 0, len(m.Repositories))
	where := text{Path: "spec.match.repositories"}
	for _, g := range m.Repositories {
		globs = append(globs, g.Value)
		if _, err := Glob(g.Value); err != nil {
			b.fault(g, "%v", err)
			return
		}
		where.Line, where.Column = m.Repositories[0].Line, m.Repositories[0].Column
	}
	var err error
	if p.Matches, err = compileGlobs(globs); err != nil {
		b.fault(where, "%v", err)
	}
}

func (b *builder) require(p *core.Policy, s spec) {
	if len(s.Require) > MaxRequirements {
		b.fault(under(s.Require[0].PredicateType, "spec.require"), "%d entries, more than %d", len(s.Require), MaxRequirements)
		return
	}
	for _, r := range s.Require {
		req := core.Requirement{PredicateType: r.PredicateType.Value}
		if req.PredicateType == "" || len(req.PredicateType) > MaxMessage {
			b.fault(r.PredicateType, "must be a URI of at most %d bytes", MaxMessage)
		}
		if r.Signer.Line > 0 {
			req.Signer = r.Signer.Value
			if p.Trust == nil || !slices.ContainsFunc(p.Trust.Signers, func(s core.Signer) bool { return s.Name == req.Signer }) {
				b.fault(r.Signer, "there is no signer %q in spec.trust.signers", req.Signer)
			}
		}
		if r.MaxAge.Line > 0 {
			d, err := duration(r.MaxAge.Value)
			if err != nil {
				b.fault(r.MaxAge, "%v", err)
			}
			req.MaxAge = d
		}
		p.Require = append(p.Require, req)
	}
	if age := s.Advisories.MaxAge; age.Line > 0 {
		d, err := duration(age.Value)
		if err != nil {
			b.fault(age, "%v", err)
		}
		p.AdvisoryMaxAge = d
	}
}

func (b *builder) rules(p *core.Policy, s spec) {
	rules := s.Rules
	if len(rules) == 0 || len(rules) > MaxRules {
		b.fault(text{Path: "spec.rules"}, "1 to %d rules are needed", MaxRules)
		return
	}
	seen := map[string]bool{}
	for _, r := range rules {
		if !namePattern.MatchString(r.Name.Value) {
			b.fault(r.Name, "must be 1 to 63 lower-case letters, digits and dashes")
		} else if seen[r.Name.Value] {
			b.fault(r.Name, "the name %q is used by another rule of this policy", r.Name.Value)
		}
		seen[r.Name.Value] = true
		p.Rules = append(p.Rules, b.rule(r, s.Default))
	}
}

// severities are what a rule does that does not hold: whether it only warns.
var severities = map[string]bool{"deny": false, "warn": true}

func (b *builder) rule(r rule, byDefault text) core.Rule {
	out := core.Rule{Name: r.Name.Value, Message: r.Message.Value, Control: r.Control.Value}
	if out.Message == "" || len(out.Message) > MaxMessage {
		b.fault(orAt(r.Message, r.Name), "rule %q: must have 1 to %d bytes", out.Name, MaxMessage)
	}
	if len(out.Control) > MaxMessage {
		b.fault(r.Control, "rule %q: must have at most %d bytes", out.Name, MaxMessage)
	}
	severity := r.Severity.Value
	if r.Severity.Line == 0 {
		severity = byDefault.Value
	}
	var ok bool
	if out.Warn, ok = severities[severity]; !ok && (r.Severity.Line > 0 || byDefault.Line == 0) {
		b.fault(orAt(r.Severity, r.Name), "rule %q: must be deny or warn", out.Name)
	}
	c := &check{}
	var err error
	if c.holds, err = b.compile(orAt(r.Expression, r.Name), cel.BoolType); err != nil {
		b.faults = append(b.faults, err)
	}
	if r.Items.Line > 0 {
		if c.items, err = b.compile(r.Items, cel.ListType(cel.StringType)); err != nil {
			b.faults = append(b.faults, err)
		}
	}
	for _, p := range []*program{c.holds, c.items} {
		if p != nil {
			b.sees |= p.sees
		}
	}
	out.Check = c
	return out
}

// orAt gives a text that is missing the place of another.
func orAt(t, place text) text {
	if t.Line == 0 {
		t.Line, t.Column = place.Line, place.Column
	}
	return t
}

// under is the place of a text, for a fault of what it is part of.
func under(t text, path string) text {
	t.Path = path
	return t
}

// ParseOne reads a document that holds one policy. The faults are as in Parse, each
// without a name in front.
func (l *Loader) ParseOne(document string) (Policy, []error) {
	set, err := l.Parse("", []byte(document))
	if err != nil {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			return Policy{}, joined.Unwrap()
		}
		return Policy{}, []error{err}
	}
	if len(set) != 1 {
		return Policy{}, []error{fmt.Errorf("one policy is expected, there are %d", len(set))}
	}
	return set[0], nil
}

// ParseFiles reads files into one set with unique names, ordered by name.
func (l *Loader) ParseFiles(files []File) ([]Policy, error) {
	var (
		sets   []Policy
		faults []error
	)
	for _, f := range files {
		set, err := l.Parse(f.Name, f.Data)
		if err != nil {
			faults = append(faults, err)
		}
		sets = append(sets, set...)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return Merge(sets)
}

// Merge orders policies by name and refuses a name that two of them have.
func Merge(sets ...[]Policy) ([]Policy, error) {
	all := slices.Concat(sets...)
	if len(all) > MaxPolicies {
		return nil, fmt.Errorf("%d policies, more than %d", len(all), MaxPolicies)
	}
	slices.SortStableFunc(all, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(all); i++ {
		if all[i].Name == all[i-1].Name {
			return nil, fmt.Errorf("two policies have the name %q", all[i].Name)
		}
	}
	return all, nil
}

// Core returns the evaluable part of policies.
func Core(policies []Policy) []core.Policy {
	out := make([]core.Policy, 0, len(policies))
	for _, p := range policies {
		out = append(out, p.Policy)
	}
	return out
}
