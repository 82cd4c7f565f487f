package evidencetest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// Sigstore is a Sigstore in memory: certificates, a log and timestamps.
type Sigstore struct {
	tb      testing.TB
	virtual *ca.VirtualSigstore
}

// NewSigstore makes one.
func NewSigstore(tb testing.TB) *Sigstore {
	tb.Helper()
	v, err := ca.NewVirtualSigstore()
	if err != nil {
		tb.Fatal(err)
	}
	return &Sigstore{tb: tb, virtual: v}
}

// Root is its trusted root, trusted_root.json.
func (s *Sigstore) Root() []byte {
	s.tb.Helper()
	logs := s.virtual.RekorLogs()
	for id, l := range logs {
		sum, err := hex.DecodeString(id)
		if err != nil {
			s.tb.Fatal(err)
		}
		l.ID = sum
	}
	r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, s.virtual.FulcioCertificateAuthorities(), nil, s.virtual.TimestampingAuthorities(), logs)
	if err != nil {
		s.tb.Fatal(err)
	}
	raw, err := r.MarshalJSON()
	if err != nil {
		s.tb.Fatal(err)
	}
	return raw
}

// Sign makes a bundle of a predicate about a digest, with a certificate of an identity
// that is valid from now on for ten minutes, and a log entry of a time, which is all
// that says when it was signed.
func (s *Sigstore) Sign(identity, issuer, digest, predicateType string, predicate any, logged time.Time) []byte {
	s.tb.Helper()
	raw, err := json.Marshal(predicate)
	if err != nil {
		s.tb.Fatal(err)
	}
	payload, err := attest.MarshalStatement(attest.Statement{
		Subject: []attest.Subject{{Name: "image", SHA256: strings.TrimPrefix(digest, "sha256:")}}, PredicateType: predicateType, Predicate: raw,
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	e, err := s.virtual.AttestAtTime(identity, issuer, payload, logged, true)
	if err != nil {
		s.tb.Fatal(err)
	}
	content, err := e.VerificationContent()
	if err != nil {
		s.tb.Fatal(err)
	}
	signed, err := e.SignatureContent()
	if err != nil {
		s.tb.Fatal(err)
	}
	entries, err := e.TlogEntries()
	if err != nil || len(entries) != 1 {
		s.tb.Fatalf("%d log entries, %v", len(entries), err)
	}
	entry := entries[0].TransparencyLogEntry()
	s.promise(entry)
	b := &protobundle.Bundle{
		MediaType: attest.BundleMediaType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_Certificate{
				Certificate: &protocommon.X509Certificate{RawBytes: content.Certificate().Raw},
			},
			TlogEntries: []*protorekor.TransparencyLogEntry{entry},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			PayloadType: attest.PayloadType, Payload: payload, Signatures: []*protodsse.Signature{{Sig: signed.Signature()}},
		}},
	}
	out, err := protojson.Marshal(b)
	if err != nil {
		s.tb.Fatal(err)
	}
	return out
}

// promise adds what a log signs about the time of an entry.
func (s *Sigstore) promise(e *protorekor.TransparencyLogEntry) {
	s.tb.Helper()
	signed, err := s.virtual.RekorSignPayload(tlog.RekorPayload{
		Body: base64.StdEncoding.EncodeToString(e.GetCanonicalizedBody()), IntegratedTime: e.GetIntegratedTime(),
		LogIndex: e.GetLogIndex(), LogID: hex.EncodeToString(e.GetLogId().GetKeyId()),
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	e.KindVersion = &protorekor.KindVersion{Kind: "dsse", Version: "0.0.1"}
	e.InclusionPromise = &protorekor.InclusionPromise{SignedEntryTimestamp: signed}
}
