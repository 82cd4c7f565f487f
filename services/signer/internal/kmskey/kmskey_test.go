package kmskey_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"
	"github.com/sigstore/sigstore/pkg/signature/kms/fake"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/kmskey"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// asPlugin makes this program the plugin: its value is the file of the key.
const asPlugin = "SEAWORTHY_TEST_KMS"

func TestMain(m *testing.M) {
	if file := os.Getenv(asPlugin); file != "" {
		os.Exit(plugin(file))
	}
	goleak.VerifyTestMain(m)
}

// plugin is a real plugin program with Sigstore's fake KMS behind it.
func plugin(file string) int {
	der, err := os.ReadFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	switch string(der) {
	case "hang":
		time.Sleep(time.Hour)
	case "deny":
		_ = handler.WriteErrorResponse(os.Stdout, errors.New("access denied by the test"))
		return 1
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	call, err := handler.GetPluginArgs(os.Args)
	if err != nil || call.InitOptions.KeyResourceID != "signer" {
		fmt.Fprintln(os.Stderr, "bad call", err)
		return 1
	}
	sv, err := kms.Get(context.WithValue(context.Background(), fake.KmsCtxKey{}, key), "fakekms://signer", call.InitOptions.HashFunc)
	if err == nil {
		_, err = handler.Dispatch(os.Stdout, os.Stdin, call, sv)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// service is a KMS with a plugin in the PATH.
type service struct{ file string }

func newService(t *testing.T) *service {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &service{file: filepath.Join(dir, "key")}
	script := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s' \"$@\"\n", asPlugin, s.file, self)
	if err := os.WriteFile(filepath.Join(dir, "sigstore-kms-testkms"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	s.rotate(t, elliptic.P256())
	return s
}

func (s *service) rotate(t *testing.T, curve elliptic.Curve) crypto.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.answer(t, string(der))
	return key.Public()
}

func (s *service) answer(t *testing.T, content string) {
	t.Helper()
	if err := os.WriteFile(s.file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
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
	s := newService(t)
	known := &rows{{ID: "of the key store", PublicPEM: "unused"}}
	clock := time.Now()
	id := identity.NewKeyed("hardware", kmskey.New("hardware", "testkms://signer", known, limits(), func() time.Time { return clock }), nil)
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
	pub := s.rotate(t, elliptic.P256())
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
	s := newService(t)
	for name, tc := range map[string]struct {
		uri   string
		spoil func()
		want  error
		says  string
	}{
		"no plugin": {"otherkms://signer", func() {}, kmskey.ErrNoPlugin, "sigstore-kms-"},
		"denied":    {"testkms://signer", func() { s.answer(t, "deny") }, nil, "access denied by the test"},
		"hangs":     {"testkms://signer", func() { s.answer(t, "hang") }, context.DeadlineExceeded, "KMS: no answer within 2s"},
		"P-384":     {"testkms://signer", func() { s.rotate(t, elliptic.P384()) }, kmskey.ErrUnsupported, "ECDSA P-256"},
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
