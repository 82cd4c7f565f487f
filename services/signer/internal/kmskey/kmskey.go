// Package kmskey signs with keys that a KMS holds. The signer carries the client
// of none: Sigstore's plugin programs, sigstore-kms-<scheme>, do, one start for
// each call.
package kmskey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// Errors of this package, for errors.Is.
var (
	// ErrNoPlugin: there is no program for the URI's scheme.
	ErrNoPlugin = errors.New("no plugin for the KMS")
	// ErrUnsupported: the KMS holds a kind of key that readers do not take.
	ErrUnsupported = errors.New("unsupported kind of key")
	// ErrRevoked: the URI leads to a key that was revoked.
	ErrRevoked = errors.New("the key in the KMS is revoked")
)

// fresh is for how long the public key is taken to be that of the URI: a KMS may
// rotate what is behind it.
const fresh = 5 * time.Minute

// large is a message that may be too large for a KMS, in bytes: no plugin says which
// errors are about that. AWS documents 4 KiB as its limit.
const large = 4 << 10

// minRSA is the smallest RSA key that is taken, in bits.
const minRSA = 2048

// Store keeps the public keys that ever signed, and which of them are revoked: it is a
// keyring.DurableKeys.
type Store interface {
	AddKey(ctx context.Context, k store.SigningKey) error
	Keys(ctx context.Context) ([]store.SigningKey, error)
}

// Keys are the keys behind one URI, as identity.Keyed wants them. They are safe
// for concurrent use.
type Keys struct {
	name, uri string
	store     Store
	guard     *guard.Guard
	now       func() time.Time

	mu      sync.Mutex
	current *held
	until   time.Time
}

// New returns the keys behind a URI, for example awskms:///alias/signer, of the
// identity with a name. It asks the KMS nothing.
func New(name, uri string, s Store, l guard.Limits, now func() time.Time) *Keys {
	return &Keys{name: name, uri: uri, store: s, guard: guard.New("KMS", l, now), now: now}
}

// Current returns the key to sign with: ErrRevoked if it is revoked. The revocations are
// read each time.
func (k *Keys) Current(ctx context.Context) (keystore.Identity, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found, err := k.find(ctx)
	if err != nil {
		return nil, err
	}
	all, err := k.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, row := range all {
		if row.ID == found.id && !row.RevokeTime.IsZero() {
			// The KMS is asked again, because it may have another key by then.
			k.current = nil
			return nil, fmt.Errorf("%w: %s leads to %s: rotate the key in the KMS", ErrRevoked, k.uri, found.id)
		}
	}
	return found, nil
}

// find asks the KMS for the key of the URI, unless it did so lately. It needs k.mu.
func (k *Keys) find(ctx context.Context) (*held, error) {
	if k.current != nil && k.now().Before(k.until) {
		return k.current, nil
	}
	var pub crypto.PublicKey
	err := k.do(ctx, crypto.SHA256, func(ctx context.Context, sv kms.SignerVerifier) (err error) {
		pub, err = sv.PublicKey(options.WithContext(ctx))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("public key of %s: %w", k.uri, err)
	}
	if err := check(pub); err != nil {
		return nil, fmt.Errorf("%s: %w", k.uri, err)
	}
	text, err := cryptoutils.MarshalPublicKeyToPEM(pub)
	if err != nil {
		return nil, fmt.Errorf("public key of %s: %w", k.uri, err)
	}
	found := &held{keys: k, public: pub, pem: string(text), id: attest.KeyID(pub)}
	// Readers have to know the key before anything that it signed. Since when it has
	// been signing elsewhere nobody knows.
	if err := k.store.AddKey(ctx, store.SigningKey{ID: found.id, PublicPEM: found.pem, SeenTime: k.now(), Identity: k.name}); err != nil {
		return nil, err
	}
	k.current, k.until = found, k.now().Add(fresh)
	return found, nil
}

// Trusted are all keys that the URI ever led to.
func (k *Keys) Trusted(ctx context.Context) ([]attest.TrustedKey, error) {
	all, err := k.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	var out []attest.TrustedKey
	for _, row := range all {
		if row.Identity != k.name {
			continue
		}
		pub, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(row.PublicPEM))
		if err != nil {
			return nil, fmt.Errorf("key %s in the database: %w", row.ID, err)
		}
		out = append(out, attest.TrustedKey{Key: pub, ID: row.ID, NotBefore: row.StartTime, NotAfter: row.EndTime, Revoked: row.RevokeTime})
	}
	return out, nil
}

// do calls the KMS. The plugin is given the deadline, so each attempt loads it anew.
func (k *Keys) do(ctx context.Context, hash crypto.Hash, call func(context.Context, kms.SignerVerifier) error) error {
	return k.guard.Do(ctx, func(ctx context.Context) error {
		sv, err := kms.Get(ctx, k.uri, hash)
		if notFound := new(kms.ProviderNotFoundError); errors.As(err, &notFound) {
			return guard.Permanent(fmt.Errorf("%w: put the program sigstore-kms-SCHEME for %s into the PATH of the signer: %w", ErrNoPlugin, k.uri, err))
		}
		if err != nil {
			return err
		}
		return call(ctx, sv)
	})
}

// check refuses keys whose signatures cosign does not verify, see attest.Sign.
func check(pub crypto.PublicKey) error {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve == elliptic.P256() {
			return nil
		}
	case *rsa.PublicKey:
		if pub.N.BitLen() >= minRSA {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("%w: want ECDSA P-256, Ed25519 or RSA of at least %d bits", ErrUnsupported, minRSA)
}

// held is a key in the KMS.
type held struct {
	keys    *Keys
	public  crypto.PublicKey
	pem, id string
}

// KeyID implements keystore.Identity.
func (h *held) KeyID() string { return h.id }

// Public implements keystore.Identity.
func (h *held) Public() crypto.PublicKey { return h.public }

// PublicPEM implements keystore.Identity.
func (h *held) PublicPEM() string { return h.pem }

// Signer implements keystore.Identity.
func (h *held) Signer() signature.Signer { return h }

// PublicKey implements signature.Signer.
func (h *held) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return h.public, nil
}

// SignMessage implements signature.Signer; the context is among the options.
func (h *held) SignMessage(message io.Reader, opts ...signature.SignOption) ([]byte, error) {
	ctx := context.Background()
	for _, o := range opts {
		o.ApplyContext(&ctx)
	}
	raw, err := io.ReadAll(message)
	if err != nil {
		return nil, err
	}
	return h.sign(ctx, h.hash(), raw)
}

// hash is that of the messages which the key signs: an Ed25519 key signs them as they are.
func (h *held) hash() crypto.Hash {
	if _, ok := h.public.(ed25519.PublicKey); ok {
		return 0
	}
	return crypto.SHA256
}

// SignDigest implements attest.DigestSigner: a large message need not be sent.
func (h *held) SignDigest(ctx context.Context, sum []byte) ([]byte, error) {
	return h.sign(ctx, crypto.SHA256, nil, options.WithDigest(sum), options.WithCryptoSignerOpts(crypto.SHA256))
}

func (h *held) sign(ctx context.Context, hash crypto.Hash, message []byte, opts ...signature.SignOption) ([]byte, error) {
	var sig []byte
	err := h.keys.do(ctx, hash, func(ctx context.Context, sv kms.SignerVerifier) (err error) {
		sig, err = sv.SignMessage(bytes.NewReader(message), append(opts, options.WithContext(ctx))...)
		return err
	})
	if err != nil && len(message) > large {
		err = fmt.Errorf("%w (the KMS was sent all %d bytes that an Ed25519 key signs: raise what it takes in one request, "+
			"or use an ECDSA P-256 or RSA key, of which it is sent the digest)", err, len(message))
	}
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", h.keys.uri, err)
	}
	return sig, nil
}
