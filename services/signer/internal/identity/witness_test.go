package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	prototrustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keys are one key.
type keys struct{ *keystore.Key }

func (k keys) Current(context.Context) (keystore.Identity, error) { return k.Key, nil }

func (k keys) Trusted(context.Context) ([]attest.TrustedKey, error) {
	return []attest.TrustedKey{{Key: k.Public(), ID: k.KeyID()}}, nil
}

// document is a predicate of any size that is nowhere.
type document int64

func (d document) Size() int64 { return int64(d) }

func (d document) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		switch at := off + int64(i); {
		case at == 0:
			p[i] = '{'
		case at == int64(d)-1:
			p[i] = '}'
		case at >= int64(d):
			return i, io.EOF
		default:
			p[i] = ' '
		}
	}
	return len(p), nil
}

// asked is how many bytes a log was sent.
type asked struct{ atomic.Int64 }

// client is of one log, of a version, that answers all with a status.
func client(t *testing.T, version uint32, status int) (*sigstore.Client, *asked) {
	t.Helper()
	sent := &asked{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		sent.Add(n)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"code":413,"message":"Request Entity Too Large"}`))
	}))
	t.Cleanup(server.Close)
	either := root.ServiceConfiguration{Selector: prototrustroot.ServiceSelector_ANY}
	signing, err := root.NewSigningConfig(root.SigningConfigMediaType02, nil, nil, []root.Service{
		{URL: server.URL, MajorAPIVersion: version, ValidityPeriodStart: time.Now().Add(-time.Hour), Operator: "test"},
	}, either, nil, either)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := attest.KeyedTrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(signing)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	limits := guard.Limits{Timeout: 20 * time.Second, Attempts: 2, MaxFailures: 3, Cooldown: time.Hour}
	cfg := sigstore.Config{SigningConfig: filepath.Join(dir, "signing_config.json"), TrustedRoot: filepath.Join(dir, "trusted_root.json"), Rekor: limits}
	for path, raw := range map[string][]byte{cfg.SigningConfig: config, cfg.TrustedRoot: trusted} {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := sigstore.Open(cfg, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, sent
}

func newKey(t *testing.T) keys {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := keystore.New(private)
	if err != nil {
		t.Fatal(err)
	}
	return keys{k}
}

func payload(t *testing.T, size int64) attest.Payload {
	t.Helper()
	st := attest.Statement{Subject: []attest.Subject{{SHA256: strings.Repeat("ab", 32)}}, PredicateType: attest.PredicateSPDX}
	p, err := attest.NewDocumentPayload(st, document(size))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestKeyed_LogThatTakesDigests: a Rekor v2 is sent no more for a large document than for
// a small one.
func TestKeyed_LogThatTakesDigests(t *testing.T) {
	for _, size := range []int64{2, attest.MaxStatement + 1} {
		c, sent := client(t, 2, http.StatusBadRequest)
		if _, err := identity.NewKeyed("", newKey(t), c.Witness(true, false)).Sign(t.Context(), payload(t, size)); err == nil {
			t.Error("signed without an entry in the log")
		}
		if n := sent.Load(); n == 0 || n > 2<<10 {
			t.Errorf("the log was sent %d bytes for a document of %d", n, size)
		}
	}
}

// TestKeyed_LogThatTakesWholeStatements: what is too large for a Rekor v1, in our eyes or
// in its own, is refused for good and the error says what to do.
func TestKeyed_LogThatTakesWholeStatements(t *testing.T) {
	k := newKey(t)
	for name, tc := range map[string]struct {
		size int64
		says []string
	}{
		"ours":    {attest.MaxStatement, []string{"Rekor v1", "sigstore.signing_config", "witnesses"}},
		"its own": {1 << 10, []string{"Rekor v1", "max_request_body_size", "sigstore.signing_config", "witnesses", "413"}},
	} {
		c, _ := client(t, 1, http.StatusRequestEntityTooLarge)
		signed, err := identity.NewKeyed("", k, c.Witness(true, false)).Sign(t.Context(), payload(t, tc.size))
		if !errors.Is(err, attest.ErrTooLarge) || signed.Bundle != nil {
			t.Errorf("%s: %+v, %v", name, signed, err)
			continue
		}
		for _, want := range tc.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in: %v", name, want, err)
			}
		}
	}
}

// TestWitness_TakesWhole: only an identity with a Rekor v1 needs the whole.
func TestWitness_TakesWhole(t *testing.T) {
	v1, _ := client(t, 1, http.StatusOK)
	v2, _ := client(t, 2, http.StatusOK)
	for name, tc := range map[string]struct {
		witness *sigstore.Witness
		want    bool
	}{
		"Rekor v1": {v1.Witness(true, false), true}, "no log": {v1.Witness(false, true), false}, "Rekor v2": {v2.Witness(true, true), false},
	} {
		if got := tc.witness.TakesWhole(); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
