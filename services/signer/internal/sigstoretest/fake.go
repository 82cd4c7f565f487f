package sigstoretest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
)

// Small starts a certificate authority and a timestamp authority in the process.
// There is no transparency log.
func Small(tb testing.TB) *Sigstore {
	tb.Helper()
	s := &Sigstore{Issuer: NewIssuer(tb), Fulcio: &Switch{}, Timestamp: &Switch{}}
	rootCert, rootKey, err := ca.GenerateRootCa()
	if err != nil {
		tb.Fatal(err)
	}
	at := &s.at
	fulcio := authority{issuer: s.URL}
	if fulcio.cert, fulcio.key, err = ca.GenerateFulcioIntermediate(rootCert, rootKey); err != nil {
		tb.Fatal(err)
	}
	at.fulcio = serve(tb, s.Fulcio, fulcio.certify)
	at.fulcioChain = []*x509.Certificate{fulcio.cert, rootCert}

	above, aboveKey, err := ca.GenerateTSAIntermediate(rootCert, rootKey)
	if err != nil {
		tb.Fatal(err)
	}
	var stamper authority
	if stamper.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		tb.Fatal(err)
	}
	if stamper.cert, err = ca.GenerateTSALeafCert(time.Now().Add(-time.Minute), stamper.key, above, aboveKey); err != nil {
		tb.Fatal(err)
	}
	at.timestamp = serve(tb, s.Timestamp, stamper.stamp)
	at.timestampChain = []*x509.Certificate{stamper.cert, above, rootCert}
	s.SigningConfig, s.TrustedRoot = at.describe(tb)
	return s
}

func serve(tb testing.TB, s *Switch, h http.HandlerFunc) string {
	tb.Helper()
	server := httptest.NewServer(s.guard(h))
	tb.Cleanup(func() {
		s.Answer(0)
		server.Close()
	})
	return server.URL
}

// Switch makes a service misbehave.
type Switch struct {
	mu      sync.Mutex
	status  int
	release chan struct{}
	calls   int
}

// Answer has all calls answered with a status; 0 is the service itself.
func (s *Switch) Answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
	if s.release != nil {
		close(s.release)
		s.release = nil
	}
}

// Hang answers nothing until Answer is called or the client has gone.
func (s *Switch) Hang() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release = make(chan struct{})
}

// Calls is how often the service was called.
func (s *Switch) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *Switch) guard(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.calls++
		status, release := s.status, s.release
		s.mu.Unlock()
		if release != nil {
			_, _ = io.Copy(io.Discard, r.Body) // the server looks for the client's end only after the body
			select {
			case <-release:
			case <-r.Context().Done():
				return
			}
		}
		if status != 0 {
			http.Error(w, "the test says so", status)
			return
		}
		h(w, r)
	}
}

// authority signs certificates or timestamps.
type authority struct {
	issuer string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

// public is a key of which only the public half is known.
type public struct {
	crypto.Signer
	key crypto.PublicKey
}

func (p public) Public() crypto.PublicKey { return p.key }

func (a authority) certify(w http.ResponseWriter, r *http.Request) {
	var request struct {
		PublicKeyRequest struct {
			PublicKey struct {
				Content string `json:"content"`
			} `json:"publicKey"`
		} `json:"publicKeyRequest"`
	}
	var claims struct {
		Issuer  string `json:"iss"`
		Email   string `json:"email"`
		Expires int64  `json:"exp"`
	}
	parts := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || len(parts) != 3 {
		http.Error(w, "no request or no token", http.StatusBadRequest)
		return
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(raw, &claims)
	}
	if err != nil || claims.Issuer != a.issuer || claims.Expires < time.Now().Unix() {
		http.Error(w, "the token is of another issuer or has expired", http.StatusUnauthorized)
		return
	}
	block, _ := pem.Decode([]byte(request.PublicKeyRequest.PublicKey.Content))
	if block == nil {
		http.Error(w, "no key", http.StatusBadRequest)
		return
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	leaf, err := ca.GenerateLeafCert(claims.Email, claims.Issuer, time.Now().Add(-time.Second), public{key: key}, a.cert, a.key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	_ = json.NewEncoder(w).Encode(map[string]any{"signedCertificateEmbeddedSct": map[string]any{"chain": map[string]any{"certificates": []string{text}}}})
}

func (a authority) stamp(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	request, err := timestamp.ParseRequest(raw)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := timestamp.Timestamp{
		HashAlgorithm: request.HashAlgorithm, HashedMessage: request.HashedMessage, Time: time.Now(),
		Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2},
	}
	der, err := answer.CreateResponseWithOpts(a.cert, a.key, crypto.SHA256)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/timestamp-reply")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(der)
}
