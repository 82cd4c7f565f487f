package keyless_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/proto"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keyless"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

// TestSameSignatureTwiceInRealSigstore: the real Rekor v2 takes one signature in once
// and does not give its entry out again, and a second signature of the same statement is
// another entry.
func TestSameSignatureTwiceInRealSigstore(t *testing.T) {
	s := sigstoretest.Real(t)
	witness := open(t, s, nil).Witness(true, true)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.LoadSigner(private, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	public, err := cryptoutils.MarshalPublicKeyToPEM(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	roots := attest.TrustRoots{Sigstore: witness.Root(), Keys: []attest.TrustedKey{{
		Key: private.Public(), RequireLog: true, RequireTimestamp: true,
	}}}
	draft := func() *protobundle.Bundle {
		signed, err := attest.SignPayload(t.Context(), signer, private.Public(), payload(t))
		if err != nil {
			t.Fatal(err)
		}
		b, err := signed.Proto()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	index := func(b *protobundle.Bundle) int64 {
		raw, err := attest.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		v, err := attest.Verify(raw, "sha256:"+sum, roots)
		if err != nil || v.LogIndex == nil {
			t.Fatalf("%+v, %v", v, err)
		}
		return *v.LogIndex
	}
	first := draft()
	same := proto.CloneOf(first)
	if err := witness.Add(t.Context(), first, public); err != nil {
		t.Fatal(err)
	}
	err = witness.Add(t.Context(), same, public)
	if !errors.Is(err, sigstore.ErrConflict) || len(same.GetVerificationMaterial().GetTlogEntries()) != 0 {
		t.Errorf("the same signature again: %v, %v", err, same.GetVerificationMaterial().GetTlogEntries())
	}
	t.Log(err)
	second := draft()
	if err := witness.Add(t.Context(), second, public); err != nil {
		t.Fatal(err)
	}
	if a, b := index(first), index(second); a != 0 || b != 1 {
		t.Errorf("entries %d and %d", a, b)
	}
}

// TestLostAnswerInRealSigstore: the log took the entry in and its answer was lost. The
// next attempt is told that it is there, and the statement is signed again: one bundle
// comes out, of the second entry, and a reader believes it.
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
	if relay.Lost() != 1 || relay.Duplicates() != 1 {
		t.Errorf("%d answers were lost, %d entries were there already", relay.Lost(), relay.Duplicates())
	}
	if signed.LogIndex == nil || *signed.LogIndex != 1 {
		t.Errorf("%+v", signed)
	}
	check(t, s, signed.Bundle, true)
}
