package core

import "slices"

// Trust says whose signatures count for a policy. It narrows the verifier's trust
// roots and never adds to them: what does not verify by the roots is no evidence for
// any policy.
type Trust struct {
	Signers []Signer
}

// Signer is somebody whose signatures count.
type Signer struct {
	// Name is what requirements call it.
	Name string
	// KeyIDs are ids of public keys.
	KeyIDs []string
	// Covers tells whether a certificate's issuer and subject are the signer's.
	Covers func(issuer, subject string) bool
}

// signed tells whether an attestation is by the signer.
func (s *Signer) signed(a *Attestation) bool {
	if a.Identity == "" && a.Issuer == "" {
		return slices.Contains(s.KeyIDs, a.KeyID)
	}
	return s.Covers != nil && s.Covers(a.Issuer, a.Identity)
}

// counts tells whether an attestation counts: by any signer, or by the one of a name.
func (t *Trust) counts(a *Attestation, signer string) bool {
	if t == nil {
		return signer == ""
	}
	return slices.ContainsFunc(t.Signers, func(s Signer) bool { return (signer == "" || s.Name == signer) && s.signed(a) })
}

// by names who signed an attestation, for people.
func by(a *Attestation) string {
	if a.Identity != "" {
		return a.Identity + " (" + a.Issuer + ")"
	}
	return a.KeyID
}
