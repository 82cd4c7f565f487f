// Package trustbundle reads the trust bundle of a signer: whose signatures are
// Seaworthy's, and who vouches for them.
package trustbundle

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// ParsePublicKey reads one PEM block of the type PUBLIC KEY.
func ParsePublicKey(block *pem.Block) (crypto.PublicKey, error) {
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("PEM block %.64q instead of PUBLIC KEY", block.Type)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse public key: %w", err)
	}
	return key, nil
}

// Roots returns the keys and identities of a bundle, which may state what the signer
// writes and nothing else. It checks that every key is what it is called and that there
// is something to trust; the caller sets the time.
func Roots(bundle *signerv1.GetTrustBundleResponse) (attest.TrustRoots, error) {
	var out attest.TrustRoots
	for _, k := range bundle.GetKeys() {
		block, _ := pem.Decode([]byte(k.GetPublicKeyPem()))
		key, err := ParsePublicKey(block)
		if err != nil {
			return attest.TrustRoots{}, fmt.Errorf("key %.64q of the trust bundle: %w", k.GetKeyId(), err)
		}
		if id := attest.KeyID(key); id != k.GetKeyId() {
			return attest.TrustRoots{}, fmt.Errorf("key %.64q of the trust bundle is %s", k.GetKeyId(), id)
		}
		t := attest.TrustedKey{Key: key, ID: k.GetKeyId()}
		if s := k.GetStartTime(); s != nil {
			t.NotBefore = s.AsTime()
		}
		if e := k.GetEndTime(); e != nil {
			t.NotAfter = e.AsTime()
		}
		if r := k.GetRevokeTime(); r != nil {
			t.Revoked = r.AsTime()
		}
		out.Keys = append(out.Keys, t)
	}
	for _, i := range bundle.GetIdentities() {
		t := attest.TrustedIdentity{
			Issuer: i.GetIssuer(), Subject: i.GetSubject(),
			RequireLog: i.GetLog(), RequireTimestamp: i.GetTimestamp(), RequireSCT: i.GetSct(),
		}
		if err := t.Validate(); err != nil {
			return attest.TrustRoots{}, fmt.Errorf("identity %.64q of the trust bundle: %w", i.GetName(), err)
		}
		out.Identities = append(out.Identities, t)
	}
	switch {
	case len(out.Keys)+len(out.Identities) == 0:
		return attest.TrustRoots{}, errors.New("the trust bundle has neither a key nor an identity")
	case len(out.Keys) > attest.MaxTrustedKeys || len(out.Identities) > attest.MaxTrustedIdentities:
		return attest.TrustRoots{}, fmt.Errorf("the trust bundle has %d keys and %d identities, the limits are %d and %d",
			len(out.Keys), len(out.Identities), attest.MaxTrustedKeys, attest.MaxTrustedIdentities)
	}
	if root := bundle.GetTrustedRootJson(); root != "" {
		var err error
		if out.Sigstore, err = attest.ParseSigstoreRoot([]byte(root)); err != nil {
			return attest.TrustRoots{}, fmt.Errorf("trust bundle: %w", err)
		}
	}
	return out.Stating(attest.SignerStates()), nil
}
