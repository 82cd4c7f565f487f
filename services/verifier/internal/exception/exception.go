// Package exception reads exceptions to rules, from files and from the API, by
// the same checks.
//
// A document is YAML of apiVersion seaworthy.dev/v1 and kind Exception; a file may
// hold several. Reading is strict, and nothing of a faulty set is used.
package exception

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/purl"
)

// Limits of exceptions.
const (
	// MaxExceptions there can be at a time.
	MaxExceptions = 10_000
	// MaxText is the length of a reason, a ticket or a target, in bytes.
	MaxText = 500
	// MaxOwner is the length of an owner, in bytes.
	MaxOwner = 200
)

var (
	namePattern          = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	vulnerabilityPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{1,127}$`)
	purlPattern          = regexp.MustCompile(`^[!-~]{1,450}$`)
)

// Justifications are OpenVEX's words for why a vulnerability does not affect an image.
var Justifications = []string{
	"component_not_present",
	"vulnerable_code_not_present",
	"vulnerable_code_not_in_execute_path",
	"vulnerable_code_cannot_be_controlled_by_adversary",
	"inline_mitigations_already_exist",
}

// Exception is the content of an exception: what is written, and nothing that the
// service adds. Its JSON is what is kept and digested.
type Exception struct {
	Name         string    `json:"name"`
	Target       string    `json:"target"`
	Repositories string    `json:"repositories,omitempty"`
	ImageDigest  string    `json:"image_digest,omitempty"`
	Purl         string    `json:"purl,omitempty"`
	Owner        string    `json:"owner"`
	Reason       string    `json:"reason"`
	Ticket       string    `json:"ticket,omitempty"`
	ExpireTime   time.Time `json:"expire_time"`
	// Justification is one of Justifications, or empty if the risk is accepted.
	Justification string `json:"justification,omitempty"`
}

// Fault is what is wrong with one field.
type Fault struct{ Field, Problem string }

// Check lists what is wrong. It does not mind an end in the past: whoever creates
// an exception does.
func (e *Exception) Check() []Fault {
	var out []Fault
	fault := func(field, format string, a ...any) { out = append(out, Fault{field, fmt.Sprintf(format, a...)}) }
	if !namePattern.MatchString(e.Name) {
		fault("name", "must be 1 to 63 lower-case letters, digits and dashes")
	}
	_, _, isRule, ok := e.target()
	if !ok {
		fault("target", "must be a vulnerability's id, rule:NAME or rule:POLICY/NAME")
	}
	switch {
	case e.Repositories == "" && e.ImageDigest == "":
		fault("repositories", "a glob of repositories or an image's digest is needed")
	case e.Repositories != "" && e.ImageDigest != "":
		fault("image_digest", "repositories or image_digest, not both")
	case e.Repositories != "":
		if _, err := policy.Glob(e.Repositories); err != nil {
			fault("repositories", "%v", err)
		}
	default:
		if err := imageref.CheckDigest(e.ImageDigest); err != nil {
			fault("image_digest", "%v", err)
		}
	}
	if e.Purl != "" {
		if problem := checkPurl(e.Purl); problem != "" {
			fault("purl", "%s", problem)
		}
	}
	if e.Purl != "" && isRule {
		fault("purl", "an exception from a rule is for all packages")
	}
	switch {
	case e.Justification == "":
	case isRule:
		fault("justification", "an exception from a rule has none: it is about a vulnerability")
	case !slices.Contains(Justifications, e.Justification):
		fault("justification", "must be empty or one of %s", strings.Join(Justifications, ", "))
	}
	for _, t := range []struct {
		field, value string
		least, most  int
	}{{"owner", e.Owner, 1, MaxOwner}, {"reason", e.Reason, 1, MaxText}, {"ticket", e.Ticket, 0, MaxText}} {
		if n := len(strings.TrimSpace(t.value)); n < t.least || len(t.value) > t.most || strings.ToValidUTF8(t.value, "") != t.value {
			fault(t.field, "must have %d to %d bytes of text", t.least, t.most)
		}
	}
	switch {
	case e.ExpireTime.IsZero():
		fault("expire_time", "every exception needs an end")
	case e.ExpireTime.Year() > 9999 || e.ExpireTime.Year() < 1:
		fault("expire_time", "must be before the year 10000")
	}
	return out
}

// checkPurl says why a package URL cannot be that of a package with a finding; empty if
// it can.
func checkPurl(s string) string {
	p, err := purl.Parse(s)
	switch {
	case err != nil || !purlPattern.MatchString(s):
		return "must be a package URL of at most 450 bytes, for example pkg:golang/golang.org/x/text@v0.3.7"
	case p.IsImage():
		return "names an image, and an exception is for the packages in one: use repositories or image_digest"
	}
	if err := p.Unmatchable(); err != nil {
		return "can match no package: " + err.Error()
	}
	return ""
}

// target takes the target apart. For a vulnerability rule is its id.
func (e *Exception) target() (policyName, rule string, isRule, ok bool) {
	rest, isRule := strings.CutPrefix(e.Target, "rule:")
	if !isRule {
		return "", e.Target, false, vulnerabilityPattern.MatchString(e.Target)
	}
	policyName, rule, both := strings.Cut(rest, "/")
	if !both {
		policyName, rule = "", rest
	}
	return policyName, rule, true, namePattern.MatchString(rule) && (!both || namePattern.MatchString(policyName))
}

// Encode returns the canonical form and its digest.
func (e *Exception) Encode() (body []byte, digest string, err error) {
	c := *e
	c.ExpireTime = c.ExpireTime.UTC()
	body, err = json.Marshal(c)
	if err != nil {
		return nil, "", fmt.Errorf("encode exception: %w", err)
	}
	sum := sha256.Sum256(body)
	return body, "sha256:" + hex.EncodeToString(sum[:]), nil
}

// Decode reads the canonical form.
func Decode(body []byte) (Exception, error) {
	var e Exception
	if err := json.Unmarshal(body, &e); err != nil {
		return Exception{}, fmt.Errorf("decode exception: %w", err)
	}
	return e, nil
}

// DecodeStrict reads the canonical form for judging. What this release does not know could
// narrow the exception, so an unknown field is an error.
func DecodeStrict(body []byte) (Exception, error) {
	var e Exception
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return Exception{}, fmt.Errorf("decode exception: %w", err)
	}
	return e, nil
}

// Core returns the part that judges use. The exception must have no faults.
func (e *Exception) Core() (core.Exception, error) {
	_, digest, err := e.Encode()
	if err != nil {
		return core.Exception{}, err
	}
	out := core.Exception{
		Name: e.Name, Digest: digest, Target: e.Target, Purl: e.Purl, Owner: e.Owner, Reason: e.Reason,
		Justification: e.Justification, Ticket: e.Ticket, ExpireTime: e.ExpireTime.UTC(),
	}
	policyName, rule, isRule, ok := e.target()
	if !ok {
		return core.Exception{}, fmt.Errorf("exception %s: target %q", e.Name, e.Target)
	}
	if isRule {
		out.Policy, out.Rule = policyName, rule
	} else {
		out.Vulnerability = rule
	}
	if e.ImageDigest != "" {
		out.Matches = func(image imageref.Ref, platformDigest string) bool {
			return image.Digest == e.ImageDigest || platformDigest == e.ImageDigest
		}
		return out, nil
	}
	match, err := policy.Glob(e.Repositories)
	if err != nil {
		return core.Exception{}, fmt.Errorf("exception %s: %w", e.Name, err)
	}
	out.Matches = func(image imageref.Ref, _ string) bool { return match(image.Name()) }
	return out, nil
}
