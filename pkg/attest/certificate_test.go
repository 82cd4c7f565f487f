package attest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/testing/data"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	testIdentity = "signer@seaworthy.test"
	testIssuer   = "https://issuer.seaworthy.test"

	bundleV01 = "application/vnd.dev.sigstore.bundle+json;version=0.1"
	bundleV02 = "application/vnd.dev.sigstore.bundle+json;version=0.2"
)

// sigstore is a Sigstore in memory, with all its authorities.
type sigstore struct {
	*ca.VirtualSigstore
	trusted *SigstoreRoot
}

func newSigstore(tb testing.TB) *sigstore {
	tb.Helper()
	virtual, err := ca.NewVirtualSigstore()
	if err != nil {
		tb.Fatal(err)
	}
	trusted, err := ParseSigstoreRoot(rootJSON(tb, virtual))
	if err != nil {
		tb.Fatal(err)
	}
	return &sigstore{VirtualSigstore: virtual, trusted: trusted}
}

func rootJSON(tb testing.TB, virtual *ca.VirtualSigstore) []byte {
	tb.Helper()
	logs := virtual.RekorLogs()
	for id, l := range logs {
		sum, err := hex.DecodeString(id)
		if err != nil {
			tb.Fatal(err)
		}
		l.ID = sum
	}
	r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, virtual.FulcioCertificateAuthorities(), nil, virtual.TimestampingAuthorities(), logs)
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := r.MarshalJSON()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// attested is a bundle of st. v2 asks for an entry of a Rekor v2 log, which has no
// time, else the entry is one of Rekor v1 of the given time.
func (s *sigstore) attested(tb testing.TB, st Statement, v2 bool, at time.Time) *protobundle.Bundle {
	tb.Helper()
	payload, err := MarshalStatement(st)
	if err != nil {
		tb.Fatal(err)
	}
	var e *ca.TestEntity
	if v2 {
		e, err = s.AttestHashedRekordV2(testIdentity, testIssuer, payload)
	} else {
		e, err = s.AttestAtTime(testIdentity, testIssuer, payload, at, true)
	}
	if err != nil {
		tb.Fatal(err)
	}
	b := toBundle(tb, e)
	if !v2 {
		s.promise(tb, b.GetVerificationMaterial().GetTlogEntries()[0])
	}
	return b
}

// promise adds what the log of version 1 signs about the time of the entry.
func (s *sigstore) promise(tb testing.TB, e *protorekor.TransparencyLogEntry) {
	tb.Helper()
	signed, err := s.RekorSignPayload(tlog.RekorPayload{
		Body: base64.StdEncoding.EncodeToString(e.GetCanonicalizedBody()), IntegratedTime: e.GetIntegratedTime(),
		LogIndex: e.GetLogIndex(), LogID: hex.EncodeToString(e.GetLogId().GetKeyId()),
	})
	if err != nil {
		tb.Fatal(err)
	}
	e.KindVersion = &protorekor.KindVersion{Kind: "dsse", Version: "0.0.1"}
	e.InclusionPromise = &protorekor.InclusionPromise{SignedEntryTimestamp: signed}
}

func toBundle(tb testing.TB, e *ca.TestEntity) *protobundle.Bundle {
	tb.Helper()
	content, err := e.VerificationContent()
	if err != nil {
		tb.Fatal(err)
	}
	signed, err := e.SignatureContent()
	if err != nil {
		tb.Fatal(err)
	}
	stamps, err := e.Timestamps()
	if err != nil {
		tb.Fatal(err)
	}
	entries, err := e.TlogEntries()
	if err != nil {
		tb.Fatal(err)
	}
	envelope := signed.EnvelopeContent().RawEnvelope()
	payload, err := base64.StdEncoding.DecodeString(envelope.Payload)
	if err != nil {
		tb.Fatal(err)
	}
	material := &protobundle.VerificationMaterial{
		Content: &protobundle.VerificationMaterial_Certificate{
			Certificate: &protocommon.X509Certificate{RawBytes: content.Certificate().Raw},
		},
		TimestampVerificationData: &protobundle.TimestampVerificationData{},
	}
	for _, s := range stamps {
		material.TimestampVerificationData.Rfc3161Timestamps = append(material.TimestampVerificationData.Rfc3161Timestamps,
			&protocommon.RFC3161SignedTimestamp{SignedTimestamp: s})
	}
	for _, entry := range entries {
		material.TlogEntries = append(material.TlogEntries, entry.TransparencyLogEntry())
	}
	return &protobundle.Bundle{
		MediaType: BundleMediaType, VerificationMaterial: material,
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			PayloadType: envelope.PayloadType, Payload: payload,
			Signatures: []*protodsse.Signature{{Sig: signed.Signature()}},
		}},
	}
}

func toJSON(tb testing.TB, b *protobundle.Bundle) []byte {
	tb.Helper()
	raw, err := protojson.Marshal(b)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// identity is the one that signs, with its requirements.
func identity(change func(*TrustedIdentity)) TrustedIdentity {
	i := TrustedIdentity{ID: "ci", Issuer: testIssuer, Subject: testIdentity}
	if change != nil {
		change(&i)
	}
	return i
}

func (s *sigstore) roots(identities ...TrustedIdentity) TrustRoots {
	return TrustRoots{Sigstore: s.trusted, Identities: identities}
}

// asVersion gives a bundle the form of another version.
func asVersion(b *protobundle.Bundle, mediaType string) *protobundle.Bundle {
	b.MediaType = mediaType
	if mediaType == bundleV01 || mediaType == bundleV02 {
		leaf := b.GetVerificationMaterial().GetCertificate()
		b.VerificationMaterial.Content = &protobundle.VerificationMaterial_X509CertificateChain{
			X509CertificateChain: &protocommon.X509CertificateChain{Certificates: []*protocommon.X509Certificate{leaf}},
		}
	}
	return b
}

func noStamp(b *protobundle.Bundle) *protobundle.Bundle {
	b.VerificationMaterial.TimestampVerificationData = nil
	return b
}

func noEntry(b *protobundle.Bundle) *protobundle.Bundle {
	b.VerificationMaterial.TlogEntries = nil
	return b
}

func TestVerifyCertified(t *testing.T) {
	s, stranger := newSigstore(t), newSigstore(t)
	soon := time.Now().Add(2 * time.Minute)
	late := time.Now().Add(30 * time.Minute) // certificates last ten
	v1 := func() *protobundle.Bundle { return s.attested(t, testStatement(), false, soon) }
	v2 := func() *protobundle.Bundle { return s.attested(t, testStatement(), true, soon) }
	anyone := identity(nil)
	log := identity(func(i *TrustedIdentity) { i.RequireLog = true })
	stamp := identity(func(i *TrustedIdentity) { i.RequireTimestamp = true })
	pattern := identity(func(i *TrustedIdentity) {
		i.Issuer, i.IssuerRegexp, i.Subject, i.SubjectRegexp = "", `https://issuer\..*`, "", `signer@.*`
	})
	other := testStatement()
	other.Subject[0].SHA256 = KeyID(newKey(t, "p256").pub)
	tampered := func(b *protobundle.Bundle) *protobundle.Bundle {
		b.GetDsseEnvelope().Payload = slices.Replace(b.GetDsseEnvelope().GetPayload(), 0, 1, ' ', '{')
		return b
	}
	for name, tc := range map[string]struct {
		bundle *protobundle.Bundle
		roots  TrustRoots
		want   error
	}{
		"v0.3, Rekor v2 and timestamp":     {v2(), s.roots(log), nil},
		"v0.3, Rekor v1 and timestamp":     {v1(), s.roots(log), nil},
		"v0.3, Rekor v1 alone":             {noStamp(v1()), s.roots(log), nil},
		"v0.3, timestamp alone":            {noEntry(v2()), s.roots(anyone), nil},
		"v0.3 by its other name":           {asVersion(v2(), "application/vnd.dev.sigstore.bundle+json;version=0.3"), s.roots(log), nil},
		"v0.2, Rekor v1":                   {asVersion(v1(), bundleV02), s.roots(log), nil},
		"v0.2, Rekor v2":                   {asVersion(v2(), bundleV02), s.roots(log), nil},
		"v0.1, Rekor v1":                   {asVersion(v1(), bundleV01), s.roots(log), nil},
		"v0.1, no promise of the log":      {asVersion(v2(), bundleV01), s.roots(anyone), ErrMalformed},
		"v0.3 with a chain":                {asVersion(asVersion(v2(), bundleV02), BundleMediaType), s.roots(anyone), ErrMalformed},
		"v0.4":                             {asVersion(v2(), "application/vnd.dev.sigstore.bundle.v0.4+json"), s.roots(anyone), ErrMalformed},
		"timestamp required":               {v2(), s.roots(stamp), nil},
		"timestamp required, log only":     {noStamp(v1()), s.roots(stamp), ErrNoTimestamp},
		"no proof of the time":             {noStamp(v2()), s.roots(anyone), ErrNoTimestamp},
		"neither log nor timestamp":        {noStamp(noEntry(v2())), s.roots(anyone), ErrNoTimestamp},
		"log required":                     {noEntry(v2()), s.roots(log), ErrNoLogEntry},
		"log of a stranger":                {s.with(v2(), stranger.attested(t, testStatement(), true, soon)), s.roots(log), ErrNoLogEntry},
		"entry of another signature":       {s.with(v2(), v2()), s.roots(anyone), ErrNoLogEntry},
		"certificate log required":         {v2(), s.roots(identity(func(i *TrustedIdentity) { i.RequireSCT = true })), ErrNoSCT},
		"logged after the certificate":     {noStamp(s.attested(t, testStatement(), false, late)), s.roots(anyone), ErrExpiredCertificate},
		"logged late, stamped in time":     {s.attested(t, testStatement(), false, late), s.roots(anyone), ErrExpiredCertificate},
		"by pattern":                       {v2(), s.roots(pattern), nil},
		"pattern matches a part":           {v2(), s.roots(identity(func(i *TrustedIdentity) { i.Subject, i.SubjectRegexp = "", "signer" })), ErrUntrustedIdentity},
		"another subject":                  {v2(), s.roots(identity(func(i *TrustedIdentity) { i.Subject = "x@seaworthy.test" })), ErrUntrustedIdentity},
		"another issuer":                   {v2(), s.roots(identity(func(i *TrustedIdentity) { i.Issuer += "/" })), ErrUntrustedIdentity},
		"one of two identities":            {noEntry(v2()), s.roots(log, anyone), nil},
		"rule without a subject":           {v2(), s.roots(identity(func(i *TrustedIdentity) { i.Subject = "" })), ErrUntrustedIdentity},
		"another certificate authority":    {v2(), stranger.roots(anyone), ErrUntrustedIdentity},
		"another authority, log required":  {v2(), stranger.roots(log), ErrUntrustedIdentity},
		"no identity":                      {v2(), s.roots(), ErrUntrustedKey},
		"no authorities":                   {v2(), TrustRoots{Identities: []TrustedIdentity{anyone}}, ErrUntrustedKey},
		"too many identities":              {v2(), s.roots(make([]TrustedIdentity, MaxTrustedIdentities+1)...), ErrTooLarge},
		"payload tampered with":            {tampered(v2()), s.roots(anyone), ErrBadSignature},
		"payload tampered with, no entry":  {tampered(noEntry(v2())), s.roots(anyone), ErrBadSignature},
		"about something else":             {s.attested(t, other, true, soon), s.roots(anyone), ErrWrongSubject},
		"two signatures":                   {twice(v2()), s.roots(anyone), ErrMalformed},
		"two entries of one log":           {s.with(v2(), append2(v2(), v2())), s.roots(anyone), ErrMalformed},
		"timestamp of another signature":   {withStamp(noEntry(v2()), v2()), s.roots(anyone), ErrNoTimestamp},
		"nothing that is a certificate":    {withCertificate(v2(), []byte("no")), s.roots(anyone), ErrMalformed},
		"expired by now, signed in time":   {v2(), atLater(s.roots(anyone)), nil},
		"certificate and key of that name": {v2(), TrustRoots{Keys: []TrustedKey{{Key: newKey(t, "p256").pub, ID: "ci"}}}, ErrUntrustedKey},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := Verify(toJSON(t, tc.bundle), "sha256:"+testSum, tc.roots)
			checkDigested(t, name, tc.bundle, tc.roots, v, err)
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Fatalf("%+v, %v", v, err)
			}
			if err != nil {
				if v != nil || Reason(err) == "" {
					t.Errorf("%+v, no reason for %v", v, err)
				}
				return
			}
			if v.KeyID != "ci" || v.Identity != testIdentity || v.Issuer != testIssuer || v.SignTime.IsZero() {
				t.Errorf("%+v", v)
			}
			if logged := len(tc.bundle.GetVerificationMaterial().GetTlogEntries()) > 0; logged != (v.LogIndex != nil) {
				t.Errorf("log index %v", v.LogIndex)
			}
			if !tc.roots.Believes(v.KeyID, v.PredicateType, time.Time{}) {
				t.Error("what was just verified is not believed")
			}
		})
	}
}

func atLater(r TrustRoots) TrustRoots {
	r.At = time.Now().AddDate(5, 0, 0)
	return r
}

// with gives b the log entries of another bundle.
func (s *sigstore) with(b, entries *protobundle.Bundle) *protobundle.Bundle {
	b.VerificationMaterial.TlogEntries = entries.GetVerificationMaterial().GetTlogEntries()
	return b
}

func append2(a, b *protobundle.Bundle) *protobundle.Bundle {
	second := b.GetVerificationMaterial().GetTlogEntries()[0]
	second.LogIndex++
	second.InclusionProof.LogIndex++
	second.InclusionProof.TreeSize += 2
	a.VerificationMaterial.TlogEntries = append(a.VerificationMaterial.TlogEntries, second)
	return a
}

func twice(b *protobundle.Bundle) *protobundle.Bundle {
	e := b.GetDsseEnvelope()
	e.Signatures = append(e.Signatures, e.GetSignatures()[0])
	return b
}

func withStamp(b, other *protobundle.Bundle) *protobundle.Bundle {
	b.VerificationMaterial.TimestampVerificationData = other.GetVerificationMaterial().GetTimestampVerificationData()
	return b
}

func withCertificate(b *protobundle.Bundle, der []byte) *protobundle.Bundle {
	b.GetVerificationMaterial().GetCertificate().RawBytes = der
	return b
}

// Only what the log vouches for comes out as the place in it.
func TestLogIndexIsTheVerifiedOne(t *testing.T) {
	s := newSigstore(t)
	b := noPromise(s.attested(t, testStatement(), false, time.Now()))
	b.GetVerificationMaterial().GetTlogEntries()[0].LogIndex = 4711
	v, err := Verify(toJSON(t, b), "sha256:"+testSum, s.roots(identity(nil)))
	if err != nil || *v.LogIndex != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	b = s.attested(t, testStatement(), false, time.Now())
	b.GetVerificationMaterial().GetTlogEntries()[0].LogIndex = 4711
	if v, err := Verify(toJSON(t, b), "sha256:"+testSum, s.roots(identity(nil))); !errors.Is(err, ErrNoLogEntry) {
		t.Errorf("%+v, %v", v, err)
	}
}

func noPromise(b *protobundle.Bundle) *protobundle.Bundle {
	b.GetVerificationMaterial().GetTlogEntries()[0].InclusionPromise = nil
	return b
}

func TestIdentityValidate(t *testing.T) {
	long := string(make([]byte, MaxIdentityPattern+1))
	for name, tc := range map[string]struct {
		identity TrustedIdentity
		valid    bool
	}{
		"exact":             {TrustedIdentity{Issuer: "a", Subject: "b"}, true},
		"patterns":          {TrustedIdentity{IssuerRegexp: "a.*", SubjectRegexp: "b|c"}, true},
		"nothing":           {TrustedIdentity{}, false},
		"no subject":        {TrustedIdentity{Issuer: "a"}, false},
		"no issuer":         {TrustedIdentity{Subject: "a"}, false},
		"both":              {TrustedIdentity{Issuer: "a", Subject: "b", SubjectRegexp: "b"}, false},
		"no pattern":        {TrustedIdentity{Issuer: "a", SubjectRegexp: "("}, false},
		"out of the group":  {TrustedIdentity{Issuer: "a", SubjectRegexp: ")|("}, false},
		"too long":          {TrustedIdentity{Issuer: "a", Subject: long}, false},
		"too long, pattern": {TrustedIdentity{IssuerRegexp: long, Subject: "a"}, false},
	} {
		if err := tc.identity.Validate(); (err == nil) != tc.valid {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Without an ID the rule is its name.
	a, b := TrustedIdentity{Issuer: "a", Subject: "b"}, TrustedIdentity{Issuer: "a", Subject: "b", RequireLog: true}
	if a.id() == b.id() || a.id() != (TrustedIdentity{Issuer: "a", Subject: "b"}).id() {
		t.Error(a.id(), b.id())
	}
	if roots := (TrustRoots{Identities: []TrustedIdentity{a}}); !roots.Believes(a.id(), PredicateVSA, time.Now()) || roots.Believes(b.id(), PredicateVSA, time.Now()) {
		t.Error("the identity is not what is believed")
	}
}

func TestKeysThatRequireWitnesses(t *testing.T) {
	s := newSigstore(t)
	k := newKey(t, "p256")
	plain := k.sign(t, testStatement())
	var b protobundle.Bundle
	if err := protojson.Unmarshal(plain, &b); err != nil {
		t.Fatal(err)
	}
	stamp, err := s.TimestampResponse(b.GetDsseEnvelope().GetSignatures()[0].GetSig())
	if err != nil {
		t.Fatal(err)
	}
	b.VerificationMaterial.TimestampVerificationData = &protobundle.TimestampVerificationData{
		Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamp}},
	}
	stamped := toJSON(t, &b)
	b.VerificationMaterial.TlogEntries = s.attested(t, testStatement(), true, time.Now()).GetVerificationMaterial().GetTlogEntries()
	misplaced := toJSON(t, &b)
	now := time.Now()
	key := func(change func(*TrustedKey)) TrustRoots {
		trusted := TrustedKey{Key: k.pub}
		change(&trusted)
		return TrustRoots{Keys: []TrustedKey{trusted}, Sigstore: s.trusted}
	}
	for name, tc := range map[string]struct {
		raw     []byte
		roots   TrustRoots
		stamped bool
		want    error
	}{
		"nothing required":              {plain, key(func(*TrustedKey) {}), false, nil},
		"there all the same":            {stamped, key(func(*TrustedKey) {}), true, nil},
		"authority unknown":             {stamped, k.trusted(), false, nil},
		"timestamp":                     {stamped, key(func(k *TrustedKey) { k.RequireTimestamp = true }), true, nil},
		"timestamp missing":             {plain, key(func(k *TrustedKey) { k.RequireTimestamp = true }), false, ErrNoTimestamp},
		"timestamp, nobody trusted":     {stamped, TrustRoots{Keys: []TrustedKey{{Key: k.pub, RequireTimestamp: true}}}, false, ErrNoTimestamp},
		"stamped after the key's end":   {stamped, key(func(k *TrustedKey) { k.NotAfter = now.Add(-time.Hour) }), false, ErrUntrustedKey},
		"stamped before the key's end":  {stamped, key(func(k *TrustedKey) { k.NotAfter = now.Add(time.Hour) }), true, nil},
		"log entry missing":             {stamped, key(func(k *TrustedKey) { k.RequireLog = true }), false, ErrNoLogEntry},
		"entry of another signature":    {misplaced, key(func(*TrustedKey) {}), false, ErrNoLogEntry},
		"entry of an unknown log":       {misplaced, k.trusted(), false, nil},
		"unknown log does not count":    {misplaced, TrustRoots{Keys: []TrustedKey{{Key: k.pub, RequireLog: true}}}, false, ErrNoLogEntry},
		"identities do not help a key":  {plain, s.roots(identity(nil)), false, ErrUntrustedKey},
		"misplaced and a key of no use": {misplaced, TrustRoots{Keys: []TrustedKey{{Key: newKey(t, "p256").pub}}, Sigstore: s.trusted}, false, ErrUntrustedKey},
	} {
		v, err := Verify(tc.raw, "sha256:"+testSum, tc.roots)
		checkDigested(t, name, fromJSON(t, tc.raw), tc.roots, v, err)
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %+v, %v", name, v, err)
			continue
		}
		if err == nil && (v.SignTime.IsZero() == tc.stamped || v.KeyID != KeyID(k.pub) || v.Identity != "" || v.LogIndex != nil) {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestParseSigstoreRoot(t *testing.T) {
	a, b := newSigstore(t), newSigstore(t)
	rawA, rawB := rootJSON(t, a.VirtualSigstore), rootJSON(t, b.VirtualSigstore)
	both, err := ParseSigstoreRoot(rawA, rawB)
	if err != nil {
		t.Fatal(err)
	}
	if none := (*SigstoreRoot)(nil); both.HasCTLogs() || none.HasCTLogs() {
		t.Error("there is a certificate transparency log")
	}
	if c, ts, logs := both.Authorities(); c != 2 || ts != 2 || logs != 2 {
		t.Error(c, ts, logs)
	}
	for _, s := range []*sigstore{a, b} {
		raw := toJSON(t, s.attested(t, testStatement(), true, time.Now()))
		if _, err := Verify(raw, "sha256:"+testSum, TrustRoots{Sigstore: both, Identities: []TrustedIdentity{identity(nil)}}); err != nil {
			t.Error(err)
		}
	}
	keyed, err := KeyedTrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	none, err := ParseSigstoreRoot(keyed)
	if err != nil {
		t.Fatal(err)
	}
	if c, ts, logs := none.Authorities(); c != 0 || ts != 0 || logs != 0 {
		t.Error(c, ts, logs)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(rawA, &doc); err != nil {
		t.Fatal(err)
	}
	changed := func(key, value string) []byte {
		c := maps.Clone(doc)
		c[key] = json.RawMessage(value)
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	many := make([][]byte, MaxAuthorities/3+1)
	for i := range many {
		many[i] = rawA
	}
	for name, docs := range map[string][][]byte{
		"none":                   {},
		"empty":                  {nil},
		"not JSON":               {[]byte("hello")},
		"other type":             {changed("mediaType", `"text/plain"`)},
		"unknown field":          {changed("extra", `1`)},
		"authority with nothing": {changed("certificateAuthorities", `[{}]`)},
		"empty chain":            {changed("timestampAuthorities", `[{"certChain":{"certificates":[]}}]`)},
		"nothing in the chain":   {changed("certificateAuthorities", `[{"certChain":{"certificates":[{}]}}]`)},
		"second is bad":          {rawA, []byte("{}")},
		"a name twice":           {append([]byte(`{"tlogs":[],`), rawA[1:]...)},
		"both names of a field":  {append([]byte(`{"certificate_authorities":null,`), rawA[1:]...)},
		"too large":              {make([]byte, MaxSigstoreRoot+1)},
		"too many":               many,
	} {
		if r, err := ParseSigstoreRoot(docs...); !errors.Is(err, ErrBadTrustedRoot) || r != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the public Sigstore issued is the only thing here with a certificate log
// behind it. Its subject is an npm package, which Verify refuses before it comes
// so far.
func TestCertificateOfThePublicSigstore(t *testing.T) {
	entity := data.Bundle(t, "sigstore.js@2.0.0-provenance.sigstore.json")
	workflow := TrustedIdentity{
		Issuer:        "https://token.actions.githubusercontent.com",
		SubjectRegexp: `https://github\.com/sigstore/sigstore-js/\.github/workflows/release\.yml@refs/heads/main`,
		RequireSCT:    true, RequireLog: true,
	}
	roots := TrustRoots{Identities: []TrustedIdentity{workflow}, Sigstore: &SigstoreRoot{material: root.TrustedMaterialCollection{data.TrustedRoot(t, "public-good.json")}}}
	if !roots.Sigstore.HasCTLogs() {
		t.Error("there is no certificate transparency log")
	}
	v, err := opened{entity: entity, artifact: verify.WithoutArtifactUnsafe()}.verifyCertified(roots)
	if err != nil {
		t.Fatal(err)
	}
	if v.SignTime.Format(time.DateOnly) != "2023-08-18" || v.LogIndex == nil || *v.LogIndex != entity.GetVerificationMaterial().GetTlogEntries()[0].GetLogIndex() {
		t.Errorf("%+v", v)
	}
	// It has no timestamp by an authority, only the time of the log.
	roots.Identities[0].RequireTimestamp = true
	if _, err := (opened{entity: entity, artifact: verify.WithoutArtifactUnsafe()}).verifyCertified(roots); !errors.Is(err, ErrNoTimestamp) {
		t.Error(err)
	}
}
