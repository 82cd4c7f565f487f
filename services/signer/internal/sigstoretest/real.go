package sigstoretest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/seaworthy-dev/seaworthy/pkg/testkit/ports"
)

// programs names the directory of the servers' programs.
const programs = "SEAWORTHY_SIGSTORE"

// logName is the name of the log, which its checkpoints carry.
const logName = "rekor.test.local"

// HasReal says whether Real has what it needs.
func HasReal() bool { return os.Getenv(programs) != "" }

// Real starts the real Fulcio, Rekor v2, timestamp authority and certificate
// transparency log. It skips the test if SEAWORTHY_SIGSTORE does not say where they are.
func Real(t *testing.T) *Sigstore {
	t.Helper()
	return start(t, true)
}

// RealWithoutCTLog is the same without the certificate transparency log: the
// certificates are in none.
func RealWithoutCTLog(t *testing.T) *Sigstore {
	t.Helper()
	return start(t, false)
}

func start(t *testing.T, ctLog bool) *Sigstore {
	t.Helper()
	dir := os.Getenv(programs)
	if dir == "" {
		t.Skip(programs + " is not set; `make test-interop-keyless` builds the servers and sets it")
	}
	s := &Sigstore{Issuer: NewIssuer(t)}
	at := &s.at
	if ctLog {
		s.ctURL = "http://127.0.0.1:" + freePort(t) + "/" + ctPrefix
	}
	at.fulcio, at.fulcioChain = startFulcio(t, dir, s.URL, s.ctURL)
	if ctLog {
		at.ctLog = startCTLog(t, dir, s.ctURL, at.fulcioChain)
	}
	at.timestamp, at.timestampChain = startTimestamps(t, dir)
	s.rekorFiles = t.TempDir()
	at.rekor, at.log, s.Rekor = startRekor(t, dir, s.rekorFiles)
	s.SigningConfig, s.TrustedRoot = at.describe(t)
	return s
}

func startFulcio(t *testing.T, dir, issuer, ctLog string) (url string, chain []*x509.Certificate) {
	t.Helper()
	tmp := t.TempDir()
	config := filepath.Join(tmp, "fulcio.yaml")
	write(t, config, fmt.Appendf(nil, "oidc-issuers:\n  %s:\n    issuer-url: %s\n    client-id: %s\n    type: email\n", issuer, issuer, audience))
	port := freePort(t)
	url = "http://127.0.0.1:" + port
	run(t, filepath.Join(dir, "fulcio"), "serve", "--ca", "ephemeralca", "--ct-log-url", ctLog, "--config-path", config,
		"--host", "127.0.0.1", "--port", port, "--grpc-host", "127.0.0.1", "--grpc-port", freePort(t), "--metrics-port", freePort(t),
		"--legacy-unix-domain-socket", filepath.Join(tmp, "legacy.sock"))
	var bundle struct {
		Chains []struct {
			Certificates []string `json:"certificates"`
		} `json:"chains"`
	}
	if err := json.Unmarshal(await(t, url+"/api/v2/trustBundle"), &bundle); err != nil || len(bundle.Chains) == 0 {
		t.Fatalf("trust bundle of Fulcio: %v", err)
	}
	return url, certificates(t, strings.Join(bundle.Chains[0].Certificates, "\n"))
}

func startTimestamps(t *testing.T, dir string) (url string, chain []*x509.Certificate) {
	t.Helper()
	takeTurns(t, "seaworthy-timestamp-server.lock")
	port := freePort(t)
	url = "http://127.0.0.1:" + port + "/api/v1/timestamp"
	run(t, filepath.Join(dir, "timestamp-server"), "serve", "--host", "127.0.0.1", "--port", port,
		"--timestamp-signer", "memory", "--disable-ntp-monitoring")
	return url, certificates(t, string(await(t, url+"/certchain")))
}

func startRekor(t *testing.T, dir, files string) (url string, log *root.TransparencyLog, p *Process) {
	t.Helper()
	tmp := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(tmp, "log.pem")
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	port := freePort(t)
	url = "http://127.0.0.1:" + port
	p = run(t, filepath.Join(dir, "posix"), "serve", "--hostname", logName, "--http-port", port, "--grpc-port", freePort(t),
		"--http-metrics-port", freePort(t), "--storage-dir", files, "--signer-filepath", key, "--checkpoint-interval", "1s")
	await(t, url+"/healthz")
	_, id, err := note.KeyHash(logName, public)
	if err != nil {
		t.Fatal(err)
	}
	return url, &root.TransparencyLog{
		// The address is the log's name, not where it listens: checkpoints are
		// verified with it.
		BaseURL: "https://" + logName, ID: id, HashFunc: crypto.SHA256, PublicKey: public, SignatureHashFunc: crypto.SHA256,
	}, p
}

func certificates(t *testing.T, text string) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	return strconv.Itoa(ports.Free(t))
}

func get(url string) ([]byte, error) {
	resp, err := http.Get(url) //nolint:noctx,gosec // of a server that the test started
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, hex.EncodeToString(raw[:min(len(raw), 40)]))
	}
	return raw, err
}
