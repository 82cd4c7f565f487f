// Package vsa verifies verdicts without the verifier: the signed verification summary
// (SLSA VSA) that the signer attaches to every image with a verdict of PASS or FAIL.
// It needs the image's registry and the trust bundle of the signer, and is apart from
// package verdict so that clients of the verifier do not carry the Sigstore libraries.
//
// It fails closed: without a summary that verifies, is young enough and is about the
// policies asked for there is an error. A summary is a verdict of the past: it does not
// end when an exception does, and whoever may delete from the repository can take the
// newest one away. MaxAge bounds both; ask the verifier where that is not enough.
package vsa

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// DefaultVerifierID is the `verifier.id` of summaries unless the signer's configuration
// says otherwise.
const DefaultVerifierID = "https://seaworthy.dev/verifier"

// The kinds of failure; test with errors.Is. Each means that the image must not run.
var (
	// ErrNone: no summary about the image verifies.
	ErrNone = errors.New("no verification summary of the image can be trusted")
	// ErrStale: the newest summary is older than MaxAge.
	ErrStale = errors.New("the verification summary is too old")
	// ErrPolicies: the newest summary is not about all the policies asked for.
	ErrPolicies = errors.New("the verification summary is not about the policies asked for")
	// ErrFailed: the newest summary says FAILED.
	ErrFailed = errors.New("the policies refuse the image")
)

// Policy is a policy that a summary has to be about.
type Policy struct {
	Name string
	// Digest is `sha256:` and the hex SHA-256 of the policy document; empty for any
	// version.
	Digest string
}

// Verifier verifies summaries. It is safe for concurrent use; its fields must not
// change.
type Verifier struct {
	// Registry reads attestations; it needs the right to pull.
	Registry *registry.Client
	// Roots are whose signatures count, as trustbundle.Roots gives them.
	Roots attest.TrustRoots
	// VerifierID is the `verifier.id` that counts; empty means DefaultVerifierID.
	VerifierID string
	// Policies are those that the summary has to be about; at least these.
	Policies []Policy
	// MaxAge is the greatest time since the verdict was evaluated. It is needed.
	MaxAge time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Summary is a verified summary.
type Summary struct {
	// Passed tells what it says; it is true unless the error is ErrFailed.
	Passed bool
	// TimeVerified is when the verdict was evaluated.
	TimeVerified time.Time
	// VerdictDigest names the verdict at the verifier; empty if the summary does not.
	VerdictDigest string
	// Policies that were evaluated.
	Policies []Policy
	// ManifestDigest names the attestation in the registry.
	ManifestDigest string
	// Signer is the key or the identity that signed.
	Signer string
}

// predicate is what is read of https://slsa.dev/verification_summary/v1.
type predicate struct {
	Verifier struct {
		ID string `json:"id"`
	} `json:"verifier"`
	TimeVerified       time.Time `json:"timeVerified"`
	ResourceURI        string    `json:"resourceUri"`
	VerificationResult string    `json:"verificationResult"`
	Extension          struct {
		VerdictDigest string `json:"verdictDigest"`
		Policies      []struct {
			Name   string `json:"name"`
			Digest string `json:"digest"`
		} `json:"policies"`
	} `json:"https://seaworthy.dev/vsa/v1"`
}

// Verify returns the newest summary of an image, which is named by digest: of its index
// or of one manifest. It is an error of the kinds above, or of the registry, unless the
// image passed.
func (v *Verifier) Verify(ctx context.Context, image imageref.Ref) (Summary, error) {
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	switch {
	case v.MaxAge <= 0:
		return Summary{}, errors.New("vsa: MaxAge is needed")
	case image.Digest == "":
		return Summary{}, errors.New("vsa: an image is verified by its digest; a tag can move")
	}
	referred, err := attest.Fetch(ctx, v.Registry, image, attest.Limits{
		// Summaries are small, and an image gets one with each change of its verdict.
		MaxReferrers: 1000, MaxBundle: 1 << 20, MaxTotal: 64 << 20, PredicateTypes: []string{attest.PredicateVSA},
	})
	if err != nil {
		return Summary{}, fmt.Errorf("vsa: %w", err)
	}
	roots := v.Roots
	roots.At = now()
	var (
		newest   *Summary
		rejected []error
	)
	for i := range referred {
		s, err := v.read(&referred[i], image, roots)
		if err != nil {
			if registry.Temporary(err) {
				// The newest one may be the one that was not read.
				return Summary{}, fmt.Errorf("vsa: %w", err)
			}
			if len(rejected) < 3 {
				rejected = append(rejected, fmt.Errorf("%s: %w", referred[i].Digest, err))
			}
			continue
		}
		if s.TimeVerified.After(roots.At) {
			continue
		}
		// Of two of one time the one that refuses counts.
		if newest == nil || s.TimeVerified.After(newest.TimeVerified) || s.TimeVerified.Equal(newest.TimeVerified) && !s.Passed {
			newest = &s
		}
	}
	switch {
	case newest == nil:
		return Summary{}, errors.Join(append([]error{fmt.Errorf("vsa: %w", ErrNone)}, rejected...)...)
	case roots.At.Sub(newest.TimeVerified) > v.MaxAge:
		return Summary{}, fmt.Errorf("vsa: %w: it is of %s", ErrStale, newest.TimeVerified.Format(time.RFC3339))
	}
	for _, p := range v.Policies {
		if !slices.ContainsFunc(newest.Policies, func(have Policy) bool { return have.Name == p.Name && (p.Digest == "" || p.Digest == have.Digest) }) {
			return Summary{}, fmt.Errorf("vsa: %w: %s %s is not among them", ErrPolicies, p.Name, p.Digest)
		}
	}
	if !newest.Passed {
		return *newest, fmt.Errorf("vsa: %w", ErrFailed)
	}
	return *newest, nil
}

// read verifies one summary.
func (v *Verifier) read(r *attest.Referred, image imageref.Ref, roots attest.TrustRoots) (Summary, error) {
	verified, err := r.Verify(image.Digest, roots)
	if err != nil {
		return Summary{}, err
	}
	if verified.PredicateType != attest.PredicateVSA {
		return Summary{}, fmt.Errorf("it is a %.100q", verified.PredicateType)
	}
	var p predicate
	if err := strictjson.Unmarshal(verified.Predicate, &p); err != nil {
		return Summary{}, fmt.Errorf("its predicate: %w", err)
	}
	id := v.VerifierID
	if id == "" {
		id = DefaultVerifierID
	}
	switch {
	case p.Verifier.ID != id:
		return Summary{}, fmt.Errorf("it is of the verifier %.200q", p.Verifier.ID)
	case !imageref.SamePURL(p.ResourceURI, image.Name(), image.Digest):
		return Summary{}, fmt.Errorf("it is about %.200q", p.ResourceURI)
	case p.TimeVerified.IsZero():
		return Summary{}, errors.New("it states no time")
	case p.VerificationResult != "PASSED" && p.VerificationResult != "FAILED":
		return Summary{}, fmt.Errorf("its result is %.100q", p.VerificationResult)
	}
	s := Summary{
		Passed: p.VerificationResult == "PASSED", TimeVerified: p.TimeVerified.UTC(), VerdictDigest: p.Extension.VerdictDigest,
		ManifestDigest: verified.ManifestDigest, Signer: verified.KeyID,
	}
	if verified.Identity != "" {
		s.Signer = verified.Identity
	}
	for _, have := range p.Extension.Policies {
		s.Policies = append(s.Policies, Policy{Name: have.Name, Digest: have.Digest})
	}
	return s, nil
}
