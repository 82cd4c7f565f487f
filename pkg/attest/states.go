package attest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"
)

// SignerStates are the predicate types that the signer writes. Whoever may state them
// decides verdicts.
func SignerStates() []string {
	return []string{
		PredicateCosignVuln, PredicateVulnsV02, PredicateSPDX, PredicateCycloneDX,
		PredicateVSA, PredicateOpenVEX, PredicateReference,
	}
}

// BuilderStates are the predicate types of those who build images and sign them. None
// of them says anything about vulnerabilities.
func BuilderStates() []string {
	return []string{PredicateSLSAProvenance, PredicateSLSAProvenanceV02, PredicateCosignSign}
}

// AuthorStates are the predicate types of authors of VEX documents.
func AuthorStates() []string { return []string{PredicateOpenVEX} }

// Stating returns the roots with all keys and identities limited to predicate types.
func (r TrustRoots) Stating(types []string) TrustRoots {
	r.Keys, r.Identities = slices.Clone(r.Keys), slices.Clone(r.Identities)
	for i := range r.Keys {
		r.Keys[i].States = types
	}
	for i := range r.Identities {
		r.Identities[i].States = types
	}
	return r
}

// Fingerprint is equal for roots that believe the same, whatever their order and their
// time of verification.
func (r TrustRoots) Fingerprint() string {
	type key struct {
		ID, Key                      string
		States                       []string
		NotBefore, NotAfter, Revoked time.Time
		Log, Timestamp               bool
	}
	type identity struct {
		ID, Rule string
		States   []string
	}
	var lines []string
	add := func(v any) {
		// Nothing in it fails to encode.
		line, _ := json.Marshal(v) //nolint:errchkjson // see above
		lines = append(lines, string(line))
	}
	for _, k := range r.Keys {
		add(key{
			ID: k.id(), Key: KeyID(k.Key), States: k.States, NotBefore: k.NotBefore.UTC(), NotAfter: k.NotAfter.UTC(), Revoked: k.Revoked.UTC(),
			Log: k.RequireLog, Timestamp: k.RequireTimestamp,
		})
	}
	for _, i := range r.Identities {
		add(identity{ID: i.id(), Rule: i.Rule(r.Sigstore), States: i.States})
	}
	add(r.Sigstore.Digest())
	slices.Sort(lines)
	h := sha256.New()
	for _, l := range lines {
		h.Write([]byte(l + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil))
}
