package core

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/purl"
)

// maxNarrowing bounds the evaluations that find out which exceptions a rule needs.
const maxNarrowing = 50

// MaxExceptionPurls bounds the packages that the use of an exception names.
const MaxExceptionPurls = 1000

// Exception lets an image pass in spite of a vulnerability or a rule, for a time.
type Exception struct {
	Name string
	// Digest is the SHA-256 of its content.
	Digest string
	// Target as it is written, for people.
	Target string
	// Vulnerability is an id or alias; empty if the exception is from a rule.
	Vulnerability string
	// Purl of the package; what it leaves out can be anything. Empty for all packages.
	Purl string
	// Policy and Rule name a rule; an empty policy is every policy.
	Policy, Rule  string
	Owner, Reason string
	// Justification in OpenVEX's words: the vulnerability does not affect the image.
	// Empty if the risk is accepted.
	Justification string
	// Ticket is a link, may be empty.
	Ticket     string
	ExpireTime time.Time
	// Matches tells whether it is for a platform manifest of an image.
	Matches func(image imageref.Ref, platformDigest string) bool
}

// ExceptionUse is an exception that a verdict rests on.
type ExceptionUse struct {
	Exception
	// Purls of the packages with findings that it covers, sorted, at most
	// MaxExceptionPurls; none for an exception from a rule.
	Purls []string
}

// inForce lists the exceptions for a platform manifest, ordered by name.
func inForce(all []Exception, image imageref.Ref, platformDigest string, now time.Time) []Exception {
	var out []Exception
	for _, e := range all {
		if now.Before(e.ExpireTime) && e.Matches(image, platformDigest) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Exception) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// lasting orders exceptions so that the one that lasts longest is used first.
func lasting(all []Exception) []Exception {
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(a, b Exception) int {
		return cmp.Or(b.ExpireTime.Compare(a.ExpireTime), strings.Compare(a.Name, b.Name))
	})
	return out
}

// covers tells whether the exception is for a finding.
func (e *Exception) covers(f *Finding) bool {
	named := func(id string) bool { return vulnerabilityKey(id) == vulnerabilityKey(e.Vulnerability) }
	if e.Vulnerability == "" || !named(f.ID) && !slices.ContainsFunc(f.Aliases, named) {
		return false
	}
	if e.Purl == "" {
		return true
	}
	want, err := purl.Parse(e.Purl)
	if err != nil {
		return false
	}
	have, err := purl.Parse(f.Purl)
	return err == nil && want.Misses(&have) == ""
}

// excepted returns the exceptions without which a rule that does not hold would
// break the image; none if it is broken all the same.
func (j *platformJudge) excepted(ctx context.Context, policy string, r *Rule, facts *Facts) []Exception {
	all := lasting(j.exceptions)
	for _, e := range all {
		if e.Rule == r.Name && (e.Policy == "" || e.Policy == policy) {
			return []Exception{e}
		}
	}
	// The first that covers a finding is enough for it.
	var used []Exception
	for _, e := range all {
		if slices.ContainsFunc(facts.Findings, func(f Finding) bool { return e.covers(&f) && !coveredBy(used, &f) }) {
			used = append(used, e)
		}
	}
	if len(used) == 0 || !holdsWithout(ctx, r, facts, used) {
		return nil
	}
	// Those about findings that this rule does not mind are not used.
	if len(used) <= maxNarrowing {
		for i := len(used) - 1; i >= 0 && len(used) > 1; i-- {
			less := slices.Delete(slices.Clone(used), i, i+1)
			if holdsWithout(ctx, r, facts, less) {
				used = less
			}
		}
	}
	slices.SortFunc(used, func(a, b Exception) int { return strings.Compare(a.Name, b.Name) })
	return used
}

func coveredBy(used []Exception, f *Finding) bool {
	return slices.ContainsFunc(used, func(e Exception) bool { return e.covers(f) })
}

// holdsWithout tells whether a rule holds once the findings that the exceptions
// cover are left out.
func holdsWithout(ctx context.Context, r *Rule, facts *Facts, used []Exception) bool {
	less := *facts
	less.Findings = make([]Finding, 0, len(facts.Findings))
	for i := range facts.Findings {
		if !coveredBy(used, &facts.Findings[i]) {
			less.Findings = append(less.Findings, facts.Findings[i])
		}
	}
	holds, _, err := r.Check.Evaluate(ctx, &less)
	return err == nil && holds
}

// use notes that the verdict rests on exceptions and says so.
func (j *platformJudge) use(used []Exception, policy string, r *Rule, facts *Facts, what string) (names []string) {
	var by []string
	for _, e := range used {
		names = append(names, e.Name)
		by = append(by, fmt.Sprintf("%s (%s) until %s", e.Name, e.Owner, e.ExpireTime.UTC().Format(time.RFC3339)))
		j.ends.add(e.ExpireTime)
		j.used[e.Name] = ExceptionUse{Exception: e, Purls: j.used[e.Name].with(&e, facts.Findings)}
	}
	would := "would be FAIL"
	if r.Warn {
		would = "would be a warning"
	}
	j.because(CodeRuleExcepted, policy, r.Name, would+": "+what+"; excepted by "+strings.Join(by, ", "))
	return names
}

// with are the purls of the use and of the findings that the exception covers.
func (u ExceptionUse) with(e *Exception, findings []Finding) []string {
	purls := u.Purls
	for i := range findings {
		if p := findings[i].Purl; p != "" && e.covers(&findings[i]) {
			purls = append(purls, p)
		}
	}
	slices.Sort(purls)
	purls = slices.Compact(purls)
	return purls[:min(len(purls), MaxExceptionPurls)]
}
