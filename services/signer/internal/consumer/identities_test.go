package consumer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keyless"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

// key is the one key of a signer.
type key struct{ *keystore.Key }

func (k key) Current(context.Context) (keystore.Identity, error) { return k.Key, nil }

func (k key) Trusted(context.Context) ([]attest.TrustedKey, error) {
	return []attest.TrustedKey{{Key: k.Public(), ID: k.KeyID()}}, nil
}

// kind is an identity: what signs, and after it its witnesses, with + between them.
type kind string

const (
	ecdsaKey kind = "ecdsa-p256"
	edKey    kind = "ed25519"
	noKey    kind = "keyless"

	stamped kind = "+timestamp"
	// logged needs the real servers, for nothing else here is a Rekor v2.
	logged kind = "+log"
)

func newIdentity(tb testing.TB, k kind) identity.Identity {
	tb.Helper()
	by, witnesses, _ := strings.Cut(string(k), "+")
	if witnesses == "" {
		return identity.NewKeyed("", newKey(tb, kind(by)), nil)
	}
	timestamp, log := strings.Contains(string(k), string(stamped)), strings.Contains(string(k), string(logged))
	var at *sigstoretest.Sigstore
	if t, ok := tb.(*testing.T); ok && log {
		at = sigstoretest.Real(t)
	} else {
		at = sigstoretest.Small(tb)
	}
	l := guard.Limits{Timeout: 20 * time.Second, Attempts: 1, MaxFailures: 3, Cooldown: time.Hour}
	client, err := sigstore.Open(sigstore.Config{SigningConfig: at.SigningConfig, TrustedRoot: at.TrustedRoot, Fulcio: l, Rekor: l, Timestamp: l}, time.Now)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	if kind(by) != noKey {
		return identity.NewKeyed("", newKey(tb, kind(by)), client.Witness(log, timestamp))
	}
	const subject = "signer@seaworthy.test"
	token := config.Secret{File: at.TokenFile(tb, subject, time.Minute)}
	return keyless.New(keyless.Config{Issuer: at.URL, Subject: subject, Token: token, Log: log, Timestamp: timestamp}, client, time.Now)
}

func newKey(tb testing.TB, by kind) key {
	tb.Helper()
	var private crypto.Signer
	var err error
	if by == edKey {
		_, private, err = ed25519.GenerateKey(rand.Reader)
	} else {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		tb.Fatal(err)
	}
	k, err := keystore.New(private)
	if err != nil {
		tb.Fatal(err)
	}
	return key{k}
}
