// Package sigstoretest gives tests a Sigstore on loopback: the real servers, if
// they were built, or small ones in the process that speak the same protocols with
// real certificates and timestamps.
package sigstoretest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// audience is whom tokens are for; Fulcio wants this one.
const audience = "sigstore"

// Issuer is an OpenID Connect issuer: discovery, keys, and tokens for the asking.
type Issuer struct {
	URL string
	key *ecdsa.PrivateKey
}

// NewIssuer starts an issuer.
func NewIssuer(tb testing.TB) *Issuer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	i := &Issuer{key: key}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	tb.Cleanup(server.Close)
	i.URL = server.URL
	answer := func(path string, doc any) {
		raw, err := json.Marshal(doc)
		if err != nil {
			tb.Fatal(err)
		}
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(raw)
		})
	}
	answer("/.well-known/openid-configuration", map[string]any{
		"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/none", "token_endpoint": i.URL + "/none",
		"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
	})
	public, err := key.PublicKey.ECDH()
	if err != nil {
		tb.Fatal(err)
	}
	point := public.Bytes() // 4, then x and y of 32 bytes each
	answer("/keys", map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1", "x": b64(point[1:33]), "y": b64(point[33:]),
	}}})
	return i
}

func b64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// Token is a token for an email address, which lasts so long.
func (i *Issuer) Token(tb testing.TB, email string, lasts time.Duration) string {
	tb.Helper()
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": i.URL, "aud": audience, "sub": email, "email": email, "email_verified": true,
		"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(lasts).Unix(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	text := b64([]byte(`{"alg":"ES256","kid":"1","typ":"JWT"}`)) + "." + b64(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		tb.Fatal(err)
	}
	return text + "." + b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// TokenFile is a file with a token, as a projected volume has it.
func (i *Issuer) TokenFile(tb testing.TB, email string, lasts time.Duration) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "token")
	write(tb, path, []byte(i.Token(tb, email, lasts)+"\n"))
	return path
}

func write(tb testing.TB, path string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
}
