package attest

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"
)

func fromJSON(tb testing.TB, raw []byte) *protobundle.Bundle {
	tb.Helper()
	var b protobundle.Bundle
	if err := protojson.Unmarshal(raw, &b); err != nil {
		tb.Fatal(err)
	}
	return &b
}

// checkDigested checks that a bundle of which sigstore-go is shown the digest of what was
// signed verifies as the one with all of it did, with the same result or the same kind
// of error.
func checkDigested(tb testing.TB, what string, message *protobundle.Bundle, roots TrustRoots, want *Verified, wantErr error) {
	tb.Helper()
	e := message.GetDsseEnvelope()
	if message.GetMediaType() != BundleMediaType || len(e.GetSignatures()) != 1 || message.GetVerificationMaterial().GetX509CertificateChain() != nil {
		return // no such thing is made here
	}
	payload := Payload{head: e.GetPayload(), size: int64(len(e.GetPayload()))}
	signed := newBundle(payload, newKey(tb, "p256").pub, "", nil, e.GetSignatures()[0].GetSig())
	if leaf, err := x509.ParseCertificate(message.GetVerificationMaterial().GetCertificate().GetRawBytes()); err == nil {
		signed.public = leaf.PublicKey
	}
	b, err := signed.With(message.GetVerificationMaterial())
	if err != nil {
		tb.Fatal(err)
	}
	v, err := b.Verify("sha256:"+testSum, roots)
	if Reason(err) != Reason(wantErr) || (err == nil) != (wantErr == nil) {
		tb.Errorf("%s, by digest: %+v, %v; want %v", what, v, err, wantErr)
	}
	if diff := cmp.Diff(want, v, cmpopts.EquateEmpty()); diff != "" {
		tb.Errorf("%s, by digest (-whole +digest): %s", what, diff)
	}
}

// stamp adds a timestamp of the signature.
func (s *sigstore) stamp(tb testing.TB, signed *Bundle) *Bundle {
	tb.Helper()
	message, err := signed.Digested()
	if err != nil {
		tb.Fatal(err)
	}
	stamp, err := s.TimestampResponse(message.GetMessageSignature().GetSignature())
	if err != nil {
		tb.Fatal(err)
	}
	message.VerificationMaterial.TimestampVerificationData = &protobundle.TimestampVerificationData{
		Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamp}},
	}
	b, err := signed.With(message.GetVerificationMaterial())
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// TestWith_AsProtojsonReads: whatever verification material is put into a bundle, protojson
// reads from its JSON what went in.
func TestWith_AsProtojsonReads(t *testing.T) {
	k := newKey(t, "p256")
	signed, err := SignPayload(t.Context(), k.Signer, k.pub, payloads(t, testStatement())["document"])
	if err != nil {
		t.Fatal(err)
	}
	s := newSigstore(t)
	keyed := func(hint string) *protobundle.VerificationMaterial {
		return &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: hint}},
		}
	}
	for name, m := range map[string]*protobundle.VerificationMaterial{
		"key": keyed("aGludA=="), "no hint": keyed(""), "strange hint": keyed(`"<\}`),
		"certificate, Rekor v2, timestamp": s.attested(t, testStatement(), true, time.Now()).GetVerificationMaterial(),
		"certificate, Rekor v1":            s.attested(t, testStatement(), false, time.Now()).GetVerificationMaterial(),
	} {
		want, err := signed.Proto()
		if err != nil {
			t.Fatal(err)
		}
		want.VerificationMaterial = m
		b, err := signed.With(m)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, fromJSON(t, raw), protocmp.Transform()); diff != "" {
			t.Errorf("%s (-in +read):\n%s", name, diff)
		}
	}
}

// TestDigested_EveryKey: with every kind of key and either kind of payload a witness can
// be added without the payload, readers believe the result, and what was changed since is
// found.
func TestDigested_EveryKey(t *testing.T) {
	s := newSigstore(t)
	changing := testStatement()
	doc := []byte(`{"a":"` + strings.Repeat("x", 200_000) + `"}`)
	changing.Predicate = nil
	p, err := NewDocumentPayload(changing, bytes.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	all := payloads(t, testStatement())
	all["large document"] = p
	for kind, p := range all {
		for name, signer := range signers(t) {
			pub, err := signer.PublicKey()
			if err != nil {
				t.Fatal(err)
			}
			signed, err := SignPayload(t.Context(), signer, pub, p)
			if err != nil {
				t.Fatal(err)
			}
			b := s.stamp(t, signed)
			roots := TrustRoots{Keys: []TrustedKey{{Key: pub, RequireTimestamp: true}}, Sigstore: s.trusted}
			v, err := b.Verify(p.Subject(), roots)
			if err != nil || v.KeyID != KeyID(pub) || time.Since(v.SignTime).Abs() > time.Minute {
				t.Errorf("%s, %s: %+v, %v", name, kind, v, err)
			}
			raw, err := b.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			read, err := io.ReadAll(b.Reader())
			if err != nil || !bytes.Equal(raw, read) || b.Size() != int64(len(raw)) {
				t.Errorf("%s, %s: %v; read %d bytes, size %d, bytes %d", name, kind, err, len(read), b.Size(), len(raw))
			}
			if _, err := Verify(raw, p.Subject(), roots); err != nil {
				t.Errorf("%s, %s, as a reader: %v", name, kind, err)
			}
			if _, err := b.Verify("sha256:"+strings.Repeat("0", 64), roots); !errors.Is(err, ErrWrongSubject) {
				t.Errorf("%s, %s, another subject: %v", name, kind, err)
			}
			if kind != "large document" {
				continue
			}
			doc[100_000] = 'y'
			if _, err := b.Verify(p.Subject(), roots); !errors.Is(err, ErrBadSignature) {
				t.Errorf("%s, another document: %v", name, err)
			}
			doc[100_000] = 'x'
		}
	}
}

// TestDigested_StatedTime: what states a time is looked into, also if it is a document.
func TestDigested_StatedTime(t *testing.T) {
	k := newKey(t, "p256")
	st := testStatement()
	st.PredicateType, st.Predicate = PredicateOpenVEX, []byte(`{"timestamp":"2026-03-01T12:00:00Z"}`)
	for kind, p := range payloads(t, st) {
		signed, err := SignPayload(t.Context(), k.Signer, k.pub, p)
		if err != nil {
			t.Fatal(err)
		}
		for end, want := range map[string]error{"2026-03-01T11:00:00Z": ErrUntrustedKey, "2026-03-01T13:00:00Z": nil} {
			notAfter, err := time.Parse(time.RFC3339, end)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := signed.Verify(p.Subject(), TrustRoots{Keys: []TrustedKey{{Key: k.pub, NotAfter: notAfter}}}); !errors.Is(err, want) {
				t.Errorf("%s, key until %s: %v", kind, end, err)
			}
		}
	}
}

// TestDigested_OtherKeys: what does not sign a SHA-256 is verified as a whole.
func TestDigested_OtherKeys(t *testing.T) {
	k := newKey(t, "p384")
	p := payloads(t, testStatement())["document"]
	b, err := SignPayload(t.Context(), k.Signer, k.pub, p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Digested(); err == nil {
		t.Error("the digest of a key with another hash")
	}
	if _, err := b.Verify(p.Subject(), k.trusted()); err != nil {
		t.Error(err)
	}
	raw, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	whole := BundleOf(raw)
	if _, err := whole.Verify(p.Subject(), k.trusted()); err != nil {
		t.Error(err)
	}
	if _, err := whole.Digested(); err == nil {
		t.Error("the digest of what was written down")
	}
	if _, err := whole.With(nil); err == nil {
		t.Error("another material for what was written down")
	}
}
