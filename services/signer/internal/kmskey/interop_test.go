package kmskey_test

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/kmskey"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/vaulttest"
)

// TestInterop_KMSTakesWholeMessages: of an Ed25519 key the real Vault is sent all that is
// signed, and takes 32 MiB of it in base64; of an ECDSA key it is sent the digest.
func TestInterop_KMSTakesWholeMessages(t *testing.T) {
	vault := vaulttest.Start(t)
	for _, tc := range []struct {
		kind string
		size int
		want string
	}{
		{"ed25519", 16 << 20, ""}, {"ed25519", 23 << 20, ""}, {"ed25519", 25 << 20, "ECDSA P-256 or RSA key"}, {"ecdsa-p256", 25 << 20, ""},
	} {
		keys := kmskey.New("hardware", vault.NewKey(t, tc.kind, tc.kind), &rows{}, limits(), time.Now)
		k, err := keys.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, ed := k.Public().(ed25519.PublicKey); ed != (tc.kind == "ed25519") {
			t.Fatalf("%T", k.Public())
		}
		p, err := attest.NewPayload(attest.Statement{
			Subject: []attest.Subject{{SHA256: strings.Repeat("ab", 32)}}, PredicateType: attest.PredicateSPDX,
			Predicate: []byte(`{"a":"` + strings.Repeat("x", tc.size) + `"}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = attest.SignPayload(t.Context(), k.Signer(), k.Public(), p)
		t.Logf("%s, %d MiB: %s, %.300v", tc.kind, tc.size>>20, time.Since(begin), err)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s, %d MiB: %.500v", tc.kind, tc.size>>20, err)
		}
	}
}
