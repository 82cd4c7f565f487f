package attest

import "slices"

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
