package sigstoretest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// ctPrefix is the name of the log in its address.
const ctPrefix = "ct"

// startCTLog starts a log at an address, which takes in what the chain's root certifies.
func startCTLog(t *testing.T, dir, at string, chain []*x509.Certificate) *root.TransparencyLog {
	t.Helper()
	tmp := t.TempDir()
	private, log := newCTLog(t, at)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, roots := filepath.Join(tmp, "log.pem"), filepath.Join(tmp, "roots.pem")
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	write(t, roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[len(chain)-1].Raw}))
	where, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	run(t, filepath.Join(dir, "ctlog"), "-listen", where.Host, "-key", key, "-roots", roots)
	await(t, at+"/ct/v1/get-sth")
	return log
}

// newCTLog makes a log's key, and what a trusted root says of it.
func newCTLog(tb testing.TB, at string) (*ecdsa.PrivateKey, *root.TransparencyLog) {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		tb.Fatal(err)
	}
	id := sha256.Sum256(public)
	return private, &root.TransparencyLog{
		BaseURL: at, ID: id[:], HashFunc: crypto.SHA256, PublicKey: private.Public(), SignatureHashFunc: crypto.SHA256,
	}
}

// Certificates is how many the certificate transparency log has in its tree by now.
func (s *Sigstore) Certificates(t *testing.T) int {
	t.Helper()
	var head struct {
		Size int `json:"tree_size"`
	}
	raw, err := get(s.ctURL + "/ct/v1/get-sth")
	if err == nil {
		err = json.Unmarshal(raw, &head)
	}
	if err != nil {
		t.Fatal(err)
	}
	return head.Size
}

// NameStrangersCTLog is a trusted root like TrustedRoot, but for the certificate
// transparency log: it names one that has none of the certificates.
func (s *Sigstore) NameStrangersCTLog(tb testing.TB) (trustedRoot string) {
	tb.Helper()
	other := s.at
	_, other.ctLog = newCTLog(tb, "https://ct.stranger.test")
	_, trustedRoot = other.describe(tb)
	return trustedRoot
}
