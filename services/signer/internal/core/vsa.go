package core

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// Verdict is a verdict of the verifier about one image.
type Verdict struct {
	// Digest is the digest of its canonical form.
	Digest string
	// ImageDigest is the digest of the image, of an index if it is one.
	ImageDigest string
	// Outcome of the image as a whole.
	Outcome Outcome
	// EvaluateTime is the verifier's time of evaluation.
	EvaluateTime time.Time
	// Platforms are the verdicts of its manifests.
	Platforms []PlatformVerdict
	// Exceptions are those that it rests on.
	Exceptions []Exception
}

// PlatformVerdict is the verdict of one platform manifest.
type PlatformVerdict struct {
	Digest   string
	Outcome  Outcome
	Policies []Policy
	// Inputs are the digests of the attestations it was made from.
	Inputs []string
	// Exceptions are the names of those that it rests on.
	Exceptions []string
}

// Policy names one version of a policy.
type Policy struct {
	Name string `json:"name"`
	// Digest is "sha256:<hex>" of the policy document.
	Digest string `json:"digest"`
}

// Outcome is what a verdict says.
type Outcome int

// Outcomes. Only Pass and Fail are ever signed.
const (
	Unknown Outcome = iota
	Pass
	Fail
)

// SubjectPredicate is a claim about one manifest.
type SubjectPredicate struct {
	// Digest of the manifest or index the claim is about.
	Digest string
	Predicate
}

// The field names are those of slsa-framework/slsa spec/verification_summary.md.
type (
	vsaPredicate struct {
		Verifier           vsaID       `json:"verifier"`
		TimeVerified       string      `json:"timeVerified"`
		ResourceURI        string      `json:"resourceUri"`
		Policy             vsaResource `json:"policy"`
		InputAttestations  []vsaInput  `json:"inputAttestations,omitempty"`
		VerificationResult string      `json:"verificationResult"`
		VerifiedLevels     []string    `json:"verifiedLevels"`
		SLSAVersion        string      `json:"slsaVersion"`
		// The specification wants fields of others to be named by a URI.
		Extension vsaSeaworthy `json:"https://seaworthy.dev/vsa/v1"`
	}
	vsaID struct {
		ID string `json:"id"`
	}
	vsaResource struct {
		URI    string            `json:"uri"`
		Digest map[string]string `json:"digest,omitempty"`
	}
	vsaInput struct {
		Digest map[string]string `json:"digest"`
	}
	vsaSeaworthy struct {
		VerdictDigest string   `json:"verdictDigest"`
		ImageDigest   string   `json:"imageDigest"`
		Policies      []Policy `json:"policies"`
	}
)

// VSAs builds the verification summaries of a verdict: one for the image, and
// one for each platform manifest of an index with a sound verdict of its own.
// name is "registry/repository"; verifierID is the URI of the verifier. It is an
// error to ask for the summaries of a verdict that is neither Pass nor Fail.
func VSAs(v Verdict, name, verifierID string) ([]SubjectPredicate, error) {
	if v.Outcome != Pass && v.Outcome != Fail {
		return nil, errors.New("only PASS and FAIL can be signed")
	}
	if len(v.Platforms) == 0 {
		return nil, errors.New("the verdict has no platforms")
	}
	whole := PlatformVerdict{Digest: v.ImageDigest, Outcome: v.Outcome}
	for _, p := range v.Platforms {
		whole.Policies = append(whole.Policies, p.Policies...)
		whole.Inputs = append(whole.Inputs, p.Inputs...)
	}
	subjects := []PlatformVerdict{whole}
	for _, p := range v.Platforms {
		if p.Digest != v.ImageDigest && (p.Outcome == Pass || p.Outcome == Fail) {
			subjects = append(subjects, p)
		}
	}
	var out []SubjectPredicate
	for _, s := range subjects {
		j, err := vsa(v, s, name, verifierID)
		if err != nil {
			return nil, fmt.Errorf("verification summary of %s: %w", s.Digest, err)
		}
		out = append(out, SubjectPredicate{
			Digest:    s.Digest,
			Predicate: Predicate{Type: PredicateVSA, ContentKey: v.Digest, Time: v.EvaluateTime, JSON: j},
		})
	}
	return out, nil
}

func vsa(v Verdict, s PlatformVerdict, name, verifierID string) (json.RawMessage, error) {
	policies := slices.Clone(s.Policies)
	slices.SortFunc(policies, func(a, b Policy) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Digest, b.Digest))
	})
	policies = slices.Compact(policies)
	if len(policies) == 0 {
		return nil, errors.New("no policy was evaluated")
	}
	inputs := slices.Clone(s.Inputs)
	slices.Sort(inputs)
	p := vsaPredicate{
		Verifier:     vsaID{ID: verifierID},
		TimeVerified: timestamp(v.EvaluateTime),
		ResourceURI:  imageref.PURL(name, s.Digest),
		Policy:       policyResource(verifierID, policies),
		SLSAVersion:  "1.1",
		Extension:    vsaSeaworthy{VerdictDigest: v.Digest, ImageDigest: v.ImageDigest, Policies: policies},
	}
	for _, d := range slices.Compact(inputs) {
		p.InputAttestations = append(p.InputAttestations, vsaInput{Digest: digestSet(d)})
	}
	if s.Outcome == Pass {
		p.VerificationResult = "PASSED"
		// The policies say nothing of SLSA build levels, so neither do we; the
		// second value is ours, outside the reserved SLSA_ names.
		p.VerifiedLevels = []string{"SLSA_BUILD_LEVEL_UNEVALUATED", "SEAWORTHY_POLICY_PASSED"}
	} else {
		p.VerificationResult = "FAILED"
		p.VerifiedLevels = []string{"FAILED"}
	}
	return marshal(p)
}

// policyResource names the policy, or the set of policies by the digest of the
// sorted list of names and digests.
func policyResource(verifierID string, policies []Policy) vsaResource {
	base := strings.TrimRight(verifierID, "/") + "/policies"
	if len(policies) == 1 {
		return vsaResource{
			URI:    base + "/" + url.PathEscape(policies[0].Name),
			Digest: digestSet(policies[0].Digest),
		}
	}
	var list strings.Builder
	for _, p := range policies {
		fmt.Fprintf(&list, "%s %s\n", p.Digest, p.Name)
	}
	return vsaResource{URI: base, Digest: digestSet(Digest([]byte(list.String())))}
}

func digestSet(d string) map[string]string {
	hex := strings.TrimPrefix(d, "sha256:")
	if hex == "" {
		return nil
	}
	return map[string]string{"sha256": hex}
}
