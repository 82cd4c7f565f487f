package kmskey_test

import (
	"context"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/kmskey"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/kmstest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

func TestMain(m *testing.M) {
	kmstest.Main()
	goleak.VerifyTestMain(m)
}

// rows are the keys in memory.
type rows []store.SigningKey

func (r *rows) AddKey(_ context.Context, k store.SigningKey) error {
	*r = append(*r, k)
	return nil
}

func (r *rows) Keys(context.Context) ([]store.SigningKey, error) { return *r, nil }

func payload(t *testing.T) attest.Payload {
	t.Helper()
	p, err := attest.NewPayload(statement())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func statement() attest.Statement {
	return attest.Statement{
		Subject:       []attest.Subject{{Name: "registry.example/app", SHA256: strings.Repeat("ab", 32)}},
		PredicateType: attest.PredicateVulnsV02, Predicate: json.RawMessage(`{"scanner":{"result":[]}}`),
	}
}

func limits() guard.Limits {
	return guard.Limits{Timeout: time.Minute, Attempts: 1, MaxFailures: 2, Cooldown: time.Hour}
}

func TestSign(t *testing.T) {
	s := kmstest.New(t)
	known := &rows{{ID: "of the key store", PublicPEM: "unused"}}
	clock := time.Now()
	id := identity.NewKeyed("hardware", kmskey.New("hardware", kmstest.URI, known, limits(), func() time.Time { return clock }), nil)
	verify := func(b *attest.Bundle) error {
		raw, err := b.Bytes()
		if err != nil {
			return err
		}
		roots, err := id.Trusted(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = attest.Verify(raw, "sha256:"+statement().Subject[0].SHA256, roots)
		return err
	}
	first, err := id.Sign(t.Context(), payload(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(first.Bundle); err != nil {
		t.Error(err)
	}
	// Another key behind the same URI: what it signs is no good until its public key
	// is known, and then both are.
	pub := s.Rotate(t, elliptic.P256())
	if _, err := id.Sign(t.Context(), payload(t)); !errors.Is(err, attest.ErrBadSignature) {
		t.Error(err)
	}
	clock = clock.Add(6 * time.Minute)
	second, err := id.Sign(t.Context(), payload(t))
	if err != nil || second.KeyID != attest.KeyID(pub) {
		t.Fatalf("%v, %v", second.KeyID, err)
	}
	for _, b := range []*attest.Bundle{first.Bundle, second.Bundle} {
		if err := verify(b); err != nil {
			t.Error(err)
		}
	}
}

func TestFailures(t *testing.T) {
	s := kmstest.New(t)
	for name, tc := range map[string]struct {
		uri   string
		spoil func()
		want  error
		says  string
	}{
		"no plugin": {"otherkms://signer", func() {}, kmskey.ErrNoPlugin, "sigstore-kms-"},
		"denied":    {kmstest.URI, func() { s.Deny(t) }, nil, "access denied by the test"},
		"hangs":     {kmstest.URI, func() { s.Hang(t) }, context.DeadlineExceeded, "KMS: no answer within 2s"},
		"P-384":     {kmstest.URI, func() { s.Rotate(t, elliptic.P384()) }, kmskey.ErrUnsupported, "ECDSA P-256"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.spoil()
			l := limits()
			if name == "hangs" {
				l.Timeout = 2 * time.Second
			}
			known := &rows{}
			start := time.Now()
			_, err := kmskey.New("hardware", tc.uri, known, l, time.Now).Current(t.Context())
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Error(err)
			}
			if len(*known) != 0 {
				t.Errorf("stored: %v", *known)
			}
			if name == "hangs" && time.Since(start) > 30*time.Second {
				t.Errorf("it took %v", time.Since(start))
			}
		})
	}
}
