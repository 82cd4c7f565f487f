package sigstore_test

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	prototrustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstore"
)

const (
	subject = "signer@seaworthy.test"
	issuer  = "https://issuer.seaworthy.test"
)

// log is Rekor v1 as far as its client asks, with real entries. It has everything
// already: each new entry is a conflict.
type log struct {
	*ca.VirtualSigstore
	leaf  *leaf
	other bool // gives out the entry of another signature
	entry map[string]any
}

type leaf struct {
	der []byte
	key crypto.PrivateKey
	add func(*dsse.Envelope, []byte) (*tlog.Entry, error)
}

func (l *leaf) sign(e dsse.Envelope) ([]byte, error) {
	payload, err := e.DecodeB64Payload()
	if err != nil {
		return nil, err
	}
	signer, err := signature.LoadSigner(l.key, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return signer.SignMessage(bytes.NewReader(dsse.PAE(e.PayloadType, payload)))
}

func (l *log) create(w http.ResponseWriter, r *http.Request) {
	var proposed struct {
		Spec struct {
			ProposedContent struct {
				Envelope string `json:"envelope"`
			} `json:"proposedContent"`
		} `json:"spec"`
	}
	var envelope dsse.Envelope
	err := json.NewDecoder(r.Body).Decode(&proposed)
	if err == nil {
		err = json.Unmarshal([]byte(proposed.Spec.ProposedContent.Envelope), &envelope)
	}
	var sig []byte
	if err == nil {
		sig, err = base64.StdEncoding.DecodeString(envelope.Signatures[0].Sig)
	}
	if err == nil && l.other {
		// The same statement by the same key: each signature is another one.
		sig, err = l.leaf.sign(envelope)
		envelope.Signatures[0].Sig = base64.StdEncoding.EncodeToString(sig)
	}
	var e *tlog.Entry
	if err == nil {
		e, err = l.leaf.add(&envelope, sig)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	tle := e.TransparencyLogEntry()
	body, logID := base64.StdEncoding.EncodeToString(tle.GetCanonicalizedBody()), hex.EncodeToString(tle.GetLogId().GetKeyId())
	promise, err := l.RekorSignPayload(tlog.RekorPayload{Body: body, IntegratedTime: tle.GetIntegratedTime(), LogIndex: tle.GetLogIndex(), LogID: logID})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	proof := tle.GetInclusionProof()
	l.entry = map[string]any{
		"body": body, "integratedTime": tle.GetIntegratedTime(), "logID": logID, "logIndex": tle.GetLogIndex(),
		"verification": map[string]any{
			"signedEntryTimestamp": base64.StdEncoding.EncodeToString(promise),
			"inclusionProof": map[string]any{
				"checkpoint": proof.GetCheckpoint().GetEnvelope(), "hashes": []string{}, "logIndex": proof.GetLogIndex(),
				"rootHash": hex.EncodeToString(proof.GetRootHash()), "treeSize": proof.GetTreeSize(),
			},
		},
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", "/api/v1/log/entries/"+uuid)
	w.WriteHeader(http.StatusConflict)
	_, _ = w.Write([]byte(`{"code":409,"message":"an equivalent entry already exists"}`))
}

var uuid = strings.Repeat("a", 64)

func (l *log) get(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{uuid: l.entry})
}

// start serves the log and opens a client of it.
func (l *log) start(t *testing.T) *sigstore.Client {
	t.Helper()
	var err error
	if l.VirtualSigstore, err = ca.NewVirtualSigstore(); err != nil {
		t.Fatal(err)
	}
	cert, key, err := l.GenerateLeafCert(subject, issuer)
	if err != nil {
		t.Fatal(err)
	}
	l.leaf = &leaf{der: cert.Raw, key: key, add: func(e *dsse.Envelope, sig []byte) (*tlog.Entry, error) {
		return l.GenerateTlogEntry(cert, e, sig, time.Now().Add(time.Minute).Unix(), true)
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/log/entries", l.create)
	mux.HandleFunc("GET /api/v1/log/entries/"+uuid, l.get)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	logs := l.RekorLogs()
	for id, one := range logs {
		if one.ID, err = hex.DecodeString(id); err != nil {
			t.Fatal(err)
		}
	}
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, l.FulcioCertificateAuthorities(), nil, nil, logs)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, server.URL, 1, trusted, guard.Limits{Timeout: 20 * time.Second, Attempts: 1, MaxFailures: 3, Cooldown: time.Hour})
}

// open opens a client of a log that is the only service.
func open(t *testing.T, url string, version uint32, trusted *root.TrustedRoot, rekor guard.Limits) *sigstore.Client {
	t.Helper()
	signing, err := root.NewSigningConfig(root.SigningConfigMediaType02, nil, nil,
		[]root.Service{{URL: url, MajorAPIVersion: version, ValidityPeriodStart: time.Now().Add(-time.Hour), Operator: "test"}},
		root.ServiceConfiguration{Selector: prototrustroot.ServiceSelector_ANY}, nil, root.ServiceConfiguration{Selector: prototrustroot.ServiceSelector_ANY})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := sigstore.Config{
		SigningConfig: filepath.Join(dir, "signing_config.json"), TrustedRoot: filepath.Join(dir, "trusted_root.json"), Rekor: rekor,
	}
	for file, doc := range map[string]json.Marshaler{cfg.SigningConfig: signing, cfg.TrustedRoot: trusted} {
		raw, err := doc.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := sigstore.Open(cfg, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// An entry that the log has already is as good as a new one, if it is the right one.
func TestConflictOfRekorV1(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	st := attest.Statement{
		Subject: []attest.Subject{{SHA256: sum}}, PredicateType: attest.PredicateVulnsV02, Predicate: json.RawMessage(`{}`),
	}
	for name, tc := range map[string]struct {
		other bool
		want  error
	}{
		"its own":              {false, nil},
		"of another signature": {true, attest.ErrNoLogEntry},
	} {
		t.Run(name, func(t *testing.T) {
			l := &log{other: tc.other}
			c := l.start(t)
			signer, err := signature.LoadSigner(l.leaf.key, crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			pub, err := signer.PublicKey()
			if err != nil {
				t.Fatal(err)
			}
			payload, err := attest.NewPayload(st)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := attest.SignPayload(t.Context(), signer, pub, payload)
			if err != nil {
				t.Fatal(err)
			}
			b, err := signed.Proto()
			if err != nil {
				t.Fatal(err)
			}
			b.VerificationMaterial.Content = &protobundle.VerificationMaterial_Certificate{
				Certificate: &protocommon.X509Certificate{RawBytes: l.leaf.der},
			}
			if err := c.Witness(true, false).Add(t.Context(), b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.leaf.der})); err != nil {
				t.Fatal(err)
			}
			raw, err := protojson.Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			whom := attest.TrustedIdentity{Issuer: issuer, Subject: subject, RequireLog: true}
			v, err := attest.Verify(raw, "sha256:"+sum, attest.TrustRoots{Sigstore: c.Root(), Identities: []attest.TrustedIdentity{whom}})
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}
