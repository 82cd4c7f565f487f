package keyless_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keyless"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

// draft is a bundle that has no witness yet, and the key that signed it.
func draft(t *testing.T, private crypto.Signer) (b *protobundle.Bundle, publicPEM []byte) {
	t.Helper()
	signer, err := signature.LoadSigner(private, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := attest.SignPayload(t.Context(), signer, private.Public(), payload(t))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = signed.Proto(); err != nil {
		t.Fatal(err)
	}
	if publicPEM, err = cryptoutils.MarshalPublicKeyToPEM(private.Public()); err != nil {
		t.Fatal(err)
	}
	return b, publicPEM
}

// logIndex is that of a bundle which a reader believes.
func logIndex(t *testing.T, b *protobundle.Bundle, key crypto.PublicKey, w *sigstore.Witness) int64 {
	t.Helper()
	raw, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.Verify(raw, "sha256:"+sum, attest.TrustRoots{
		Sigstore: w.Root(), Keys: []attest.TrustedKey{{Key: key, RequireLog: true, RequireTimestamp: true}},
	})
	if err != nil || v.LogIndex == nil {
		t.Fatalf("%+v, %v", v, err)
	}
	return *v.LogIndex
}

// TestSameSignatureTwiceInRealSigstore: the real Rekor v2 takes one signature in once. The
// second time what stands in the log is what the first answer said, but for the newer
// proof; a second signature of the same statement is another entry.
func TestSameSignatureTwiceInRealSigstore(t *testing.T) {
	for name, generate := range map[string]func() (crypto.Signer, error){
		"ECDSA P-256": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"RSA 2048":    func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"RSA 3072":    func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	} {
		t.Run(name, func(t *testing.T) {
			s := sigstoretest.Real(t)
			relay := s.RelayRekor(t)
			witness := open(t, s, nil).Witness(true, true)
			private, err := generate()
			if err != nil {
				t.Fatal(err)
			}
			first, public := draft(t, private)
			same := proto.CloneOf(first)
			if err := witness.Add(t.Context(), first, public); err != nil {
				t.Fatal(err)
			}
			other, _ := draft(t, private)
			random := !proto.Equal(other.GetDsseEnvelope(), same.GetDsseEnvelope())
			if _, rsaKey := private.(*rsa.PrivateKey); random == rsaKey {
				t.Fatalf("signs the same way each time: %v", !random)
			}
			if random {
				if err := witness.Add(t.Context(), other, public); err != nil {
					t.Fatal(err)
				}
				if i := logIndex(t, other, private.Public(), witness); i != 1 {
					t.Errorf("entry %d", i)
				}
			}
			if err := witness.Add(t.Context(), same, public); err != nil {
				t.Fatal(err)
			}
			if a, b := logIndex(t, first, private.Public(), witness), logIndex(t, same, private.Public(), witness); a != 0 || b != 0 {
				t.Errorf("entries %d and %d", a, b)
			}
			fresh, found := first.GetVerificationMaterial().GetTlogEntries(), same.GetVerificationMaterial().GetTlogEntries()
			if diff := cmp.Diff(fresh, found, protocmp.Transform(), protocmp.IgnoreFields(&protorekor.InclusionProof{},
				"checkpoint", "root_hash", "tree_size", "hashes")); diff != "" {
				t.Errorf("-answered +found\n%s", diff)
			}
			if want := map[bool]int64{true: 2, false: 1}[random]; relay.Duplicates() != 1 || relay.Entries() != want {
				t.Errorf("%d were there already, %d entries", relay.Duplicates(), relay.Entries())
			}
		})
	}
}

// TestLostAnswerInRealSigstore: the log took the entry in and its answer was lost. The
// next attempt is told that it is there, and finds it: one entry, and a reader believes it.
func TestLostAnswerInRealSigstore(t *testing.T) {
	s := sigstoretest.Real(t)
	relay := s.RelayRekor(t)
	cfg := settings(t, s)
	cfg.Log = true
	client := open(t, s, func(c *sigstore.Config) { c.Rekor.Attempts = 2 })
	relay.Lose(1)
	signed, err := keyless.New(cfg, client, time.Now).Sign(t.Context(), payload(t))
	if err != nil {
		t.Fatal(err)
	}
	if relay.Lost() != 1 || relay.Duplicates() != 1 || relay.Entries() != 1 {
		t.Errorf("%d answers were lost, %d entries were there already, %d entries", relay.Lost(), relay.Duplicates(), relay.Entries())
	}
	if signed.LogIndex == nil || *signed.LogIndex != 0 {
		t.Errorf("%+v", signed)
	}
	check(t, s, signed.Bundle, true)
}

// TestEd25519InRealSigstore: the real Rekor v2 takes only signatures of digests, so what
// the configuration says of Ed25519 keys holds.
func TestEd25519InRealSigstore(t *testing.T) {
	s := sigstoretest.Real(t)
	relay := s.RelayRekor(t)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, public := draft(t, private)
	err = open(t, s, nil).Witness(true, false).Add(t.Context(), b, public)
	if err == nil || !strings.Contains(err.Error(), "400 Bad Request") || !strings.Contains(err.Error(), "another key") || relay.Entries() != 0 {
		t.Errorf("%v, %d entries", err, relay.Entries())
	}
}
