package trust

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKey(tb testing.TB) (id, pemText string) {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return attest.KeyID(k.Public()), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func bundle(tb testing.TB, n int) *signerv1.GetTrustBundleResponse {
	tb.Helper()
	m := &signerv1.GetTrustBundleResponse{}
	for range n {
		id, text := newKey(tb)
		m.Keys = append(m.Keys, &signerv1.TrustedKey{KeyId: id, PublicKeyPem: text, StartTime: timestamppb.New(time.Unix(1, 0))})
	}
	return m
}

// signer answers with what it has.
type signer struct {
	mu     sync.Mutex
	bundle *signerv1.GetTrustBundleResponse
	err    error
	calls  int
}

func (s *signer) GetTrustBundle(context.Context) (*signerv1.GetTrustBundleResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return s.bundle, s.err
}

func (s *signer) set(b *signerv1.GetTrustBundleResponse, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bundle, s.err = b, err
}

// memory is a cache of bundles.
type memory struct {
	mu     sync.Mutex
	bodies map[string][]byte
	full   bool
}

func (m *memory) SaveTrust(_ context.Context, source string, body []byte, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return errors.New("full")
	}
	if m.bodies == nil {
		m.bodies = map[string][]byte{}
	}
	m.bodies[source] = body
	return nil
}

func (m *memory) LoadTrust(_ context.Context, source string) ([]byte, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	body, ok := m.bodies[source]
	if !ok {
		return nil, time.Time{}, store.ErrNotFound
	}
	return body, time.Time{}, nil
}

// parseAlone reads a bundle as a source without a configuration does.
func parseAlone(body []byte) (attest.TrustRoots, error) {
	signer, root, err := parse(body)
	if err != nil {
		return attest.TrustRoots{}, err
	}
	return (&Source{}).with(signer, root)
}

func newSource(t *testing.T, o Options) *Source {
	t.Helper()
	o.Log, o.Now = slog.New(slog.DiscardHandler), time.Now
	if o.Refresh == 0 {
		o.Refresh = 5 * time.Minute
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBackgroundRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sign, kept := &signer{err: errors.New("down")}, &memory{}
		var known error
		s := newSource(t, Options{Bundles: sign, Cache: kept, Report: func(err error) { known = err }})
		if _, _, err := s.Roots(); !errors.Is(err, ErrNoTrust) || !errors.Is(known, ErrNoTrust) {
			t.Errorf("at first: %v, readiness %v", err, known)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()

		time.Sleep(10 * time.Second)
		sign.set(bundle(t, 1), nil)
		time.Sleep(retryLast)
		synctest.Wait()
		roots, first, err := s.Roots()
		if err != nil || len(roots.Keys) != 1 || known != nil || roots.Keys[0].NotBefore.IsZero() {
			t.Fatalf("after the signer came: %v, %v, readiness %v", roots, err, known)
		}
		sign.set(&signerv1.GetTrustBundleResponse{}, nil) // no keys: kept out
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if roots, version, err := s.Roots(); err != nil || len(roots.Keys) != 1 || version != first {
			t.Errorf("after an empty bundle: %v, %d, %v", roots, version, err)
		}
		sign.set(bundle(t, 2), nil)
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if roots, version, err := s.Roots(); err != nil || len(roots.Keys) != 2 || version == first {
			t.Errorf("after a rotation: %v, %d, %v", roots, version, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		// A restart without the signer still knows the last good bundle.
		again := newSource(t, Options{Bundles: &signer{err: errors.New("down")}, Cache: kept})
		if roots, _, err := again.Roots(); err != nil || len(roots.Keys) != 2 {
			t.Errorf("after a restart: %v, %v", roots, err)
		}
	})
}

func TestRefreshOnDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sign := &signer{bundle: bundle(t, 1)}
		s := newSource(t, Options{Bundles: sign, Cache: &memory{}})
		time.Sleep(askAgain)
		if !s.Refresh(t.Context()) {
			t.Error("the first bundle is no change")
		}
		sign.set(bundle(t, 2), nil)
		if s.Refresh(t.Context()) || sign.calls != 1 {
			t.Errorf("asked again at once: %d calls", sign.calls)
		}
		time.Sleep(askAgain)
		if !s.Refresh(t.Context()) || sign.calls != 2 {
			t.Errorf("not asked again: %d calls", sign.calls)
		}
		if newSource(t, Options{Cache: &memory{}}).Refresh(t.Context()) {
			t.Error("a change without a signer")
		}
	})
}

func TestParseBundleRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*signerv1.GetTrustBundleResponse){
		"no keys":  func(m *signerv1.GetTrustBundleResponse) { m.Keys = nil },
		"wrong id": func(m *signerv1.GetTrustBundleResponse) { m.Keys[0].KeyId = strings.Repeat("a", 64) },
		"no PEM":   func(m *signerv1.GetTrustBundleResponse) { m.Keys[0].PublicKeyPem = "key" },
		"private key": func(m *signerv1.GetTrustBundleResponse) {
			m.Keys[0].PublicKeyPem = strings.ReplaceAll(m.Keys[0].PublicKeyPem, "PUBLIC", "PRIVATE")
		},
		"identity of nobody": func(m *signerv1.GetTrustBundleResponse) {
			m.Identities = []*signerv1.TrustedIdentity{{Issuer: "https://i.example"}}
		},
		"bad root":        func(m *signerv1.GetTrustBundleResponse) { m.TrustedRootJson = "{" },
		"one of two only": func(m *signerv1.GetTrustBundleResponse) { m.Keys[1].PublicKeyPem = "" },
		"too many keys": func(m *signerv1.GetTrustBundleResponse) {
			for len(m.Keys) <= attest.MaxTrustedKeys {
				m.Keys = append(m.Keys, m.Keys[0])
			}
		},
	} {
		m := bundle(t, 2)
		change(m)
		body, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if roots, err := parseAlone(body); err == nil {
			t.Errorf("%s: accepted %d keys", name, len(roots.Keys))
		}
	}
	if _, err := parseAlone([]byte("\xff")); err == nil {
		t.Error("garbage was accepted")
	}
}

// TestKeylessBundle has a signer without keys, and a root of the configuration beside
// the signer's.
func TestKeylessBundle(t *testing.T) {
	t.Parallel()
	own, signers := evidencetest.NewSigstore(t), evidencetest.NewSigstore(t)
	sign := &signer{bundle: &signerv1.GetTrustBundleResponse{
		Identities:      []*signerv1.TrustedIdentity{{Name: "signer", Issuer: "https://i.example", Subject: "signer@i.example", Timestamp: true, Sct: true}},
		TrustedRootJson: string(signers.Root()),
	}}
	s := newSource(t, Options{
		Bundles: sign, Cache: &memory{}, Sigstore: own.Root(),
		Fixed: attest.TrustRoots{Identities: []attest.TrustedIdentity{{Issuer: "https://ci.example", Subject: "ci"}}}.Stating(attest.BuilderStates()),
	})
	roots, version, err := s.Roots()
	if err != nil || len(roots.Identities) != 1 {
		t.Fatalf("of the configuration: %+v, %v", roots, err)
	}
	if !s.Refresh(t.Context()) {
		t.Fatal("the bundle is no change")
	}
	roots, after, err := s.Roots()
	if err != nil || after == version || len(roots.Identities) != 2 || !roots.Identities[1].RequireTimestamp || !roots.Identities[1].RequireSCT || len(roots.Keys) != 0 {
		t.Errorf("with the signer's: %+v, %v", roots, err)
	}
	if certificate, timestamp, logs := roots.Sigstore.Authorities(); certificate != 2 || timestamp != 2 || logs != 2 {
		t.Errorf("authorities of both: %d, %d, %d", certificate, timestamp, logs)
	}
}

func TestReadKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	_, one := newKey(t)
	_, two := newKey(t)
	keys, err := ReadKeys([]string{write("two.pem", one+two), write("one.pem", one)})
	if err != nil || len(keys) != 3 || keys[0].ID == "" || keys[0].ID != keys[2].ID {
		t.Errorf("keys %v, %v", keys, err)
	}
	for name, file := range map[string]string{
		"missing": filepath.Join(dir, "none.pem"), "empty": write("empty.pem", ""), "text": write("text.pem", "hello"),
		"certificate": write("cert.pem", strings.ReplaceAll(one, "PUBLIC KEY", "CERTIFICATE")),
		"too large":   write("large.pem", strings.Repeat(" ", MaxKeyFile+1)),
	} {
		if _, err := ReadKeys([]string{file}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	body, err := proto.Marshal(bundle(f, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, data []byte) {
		roots, err := parseAlone(data)
		if empty(roots) == (err == nil) {
			t.Errorf("%d keys, error %v", len(roots.Keys), err)
		}
	})
}
