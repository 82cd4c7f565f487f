// Package keyless signs without a key of its own: for each signature it makes one,
// has a certificate authority certify whose it is, by an identity token, and
// throws it away. That it was used while the certificate lasted, a timestamp
// authority or a transparency log proves.
package keyless

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstore"
)

// Config is a keyless identity.
type Config struct {
	// Name is the identity's name.
	Name string
	// Issuer and Subject are what the certificate must say; what differs
	// is not attached.
	Issuer, Subject string
	// Token is where the identity token is read, each time.
	Token config.Secret
	// Log and Timestamp say what is added to the signature.
	Log, Timestamp bool
}

// Identity is an identity.Identity.
type Identity struct {
	cfg    Config
	client *sigstore.Client
	now    func() time.Time
}

// New returns an identity that has its certificates from the client's services.
func New(cfg Config, client *sigstore.Client, now func() time.Time) *Identity {
	return &Identity{cfg: cfg, client: client, now: now}
}

// Name implements identity.Identity.
func (i *Identity) Name() string { return i.cfg.Name }

// Trusted implements identity.Identity.
func (i *Identity) Trusted(context.Context) (attest.TrustRoots, error) {
	return attest.TrustRoots{Identities: []attest.TrustedIdentity{i.Identity()}, Sigstore: i.client.Root()}, nil
}

// Identity is whom readers have to trust. Sigstore's own readers ask for a certificate
// that stands in a transparency log of the trusted root unless they are told not to.
func (i *Identity) Identity() attest.TrustedIdentity {
	return attest.TrustedIdentity{
		ID: i.cfg.Subject, Issuer: i.cfg.Issuer, Subject: i.cfg.Subject,
		RequireLog: i.cfg.Log, RequireTimestamp: i.cfg.Timestamp, RequireSCT: i.client.Root().HasCTLogs(),
	}
}

// Sign implements identity.Identity.
func (i *Identity) Sign(ctx context.Context, p attest.Payload) (identity.Signed, error) {
	signed, err := i.sign(ctx, p)
	if err != nil {
		return identity.Signed{}, fmt.Errorf("sign as %s: %w", i.cfg.Subject, err)
	}
	return signed, nil
}

func (i *Identity) sign(ctx context.Context, p attest.Payload) (identity.Signed, error) {
	text, err := token(i.cfg.Token, i.now())
	if err != nil {
		return identity.Signed{}, err
	}
	key, err := newEphemeral()
	if err != nil {
		return identity.Signed{}, err
	}
	der, err := i.client.Certificate(ctx, key, text)
	if err != nil {
		return identity.Signed{}, err
	}
	if _, err := x509.ParseCertificate(der); err != nil {
		return identity.Signed{}, fmt.Errorf("certificate of the certificate authority: %w", err)
	}
	bare, err := attest.SignPayload(ctx, key.signer, key.GetPublicKey(), p)
	if err != nil {
		return identity.Signed{}, err
	}
	roots, err := i.Trusted(ctx)
	if err != nil {
		return identity.Signed{}, err
	}
	witness := i.client.Witness(i.cfg.Log, i.cfg.Timestamp)
	signed, err := identity.Witnessed(ctx, witness, bare, identity.By{Certificate: der}, p.Subject(), roots)
	switch {
	case errors.Is(err, attest.ErrUntrustedIdentity):
		err = fmt.Errorf("%w: the token must be of the issuer and the subject that are configured, "+
			"and sigstore.trusted_root must name the certificate authority", err)
	case errors.Is(err, attest.ErrNoSCT):
		err = fmt.Errorf("%w: the certificate is in none of the certificate transparency logs that sigstore.trusted_root names: "+
			"have Fulcio write to one of them (--ct-log-url), name the one it writes to, or name none if there is none", err)
	}
	return signed, err
}
