package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/sigstore/pkg/signature"
)

var testSum = strings.Repeat("ab", 32)

func testStatement() Statement {
	return Statement{
		Subject:       []Subject{{Name: "registry.example/team/app", SHA256: testSum}},
		PredicateType: PredicateVulnsV02,
		Predicate:     json.RawMessage(`{"scanner":{"uri":"https://seaworthy.dev/?a=1&b=<2>","result":[]}}`),
	}
}

type keyPair struct {
	signature.Signer
	pub crypto.PublicKey
}

func newKey(tb testing.TB, kind string) keyPair {
	tb.Helper()
	var private crypto.Signer
	var err error
	switch kind {
	case "p256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ed25519":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		tb.Fatalf("key kind %q", kind)
	}
	if err != nil {
		tb.Fatal(err)
	}
	s, err := signature.LoadDefaultSigner(private)
	if err != nil {
		tb.Fatal(err)
	}
	return keyPair{Signer: s, pub: private.Public()}
}

func (k keyPair) sign(tb testing.TB, st Statement) []byte {
	tb.Helper()
	raw, err := Sign(tb.Context(), k, k.pub, st)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func (k keyPair) trusted() TrustRoots { return TrustRoots{Keys: []TrustedKey{{Key: k.pub}}} }

func TestSignThenVerify(t *testing.T) {
	for _, kind := range []string{"p256", "p384", "ed25519", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			k := newKey(t, kind)
			got, err := Verify(k.sign(t, testStatement()), "sha256:"+testSum, k.trusted())
			if err != nil {
				t.Fatal(err)
			}
			want := &Verified{Statement: testStatement(), KeyID: KeyID(k.pub)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestBundleIsWhatCosignWrites(t *testing.T) {
	k := newKey(t, "p256")
	var got struct {
		MediaType            string `json:"mediaType"`
		VerificationMaterial map[string]json.RawMessage
		DsseEnvelope         struct {
			Payload     []byte
			PayloadType string
			Signatures  []map[string]any
		}
	}
	dec := json.NewDecoder(bytes.NewReader(k.sign(t, testStatement())))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil {
		t.Fatal(err)
	}
	hint, err := keyHint(k.pub)
	if err != nil {
		t.Fatal(err)
	}
	if got.MediaType != "application/vnd.dev.sigstore.bundle.v0.3+json" || got.DsseEnvelope.PayloadType != "application/vnd.in-toto+json" ||
		len(got.DsseEnvelope.Signatures) != 1 || len(got.VerificationMaterial) != 1 ||
		string(got.VerificationMaterial["publicKey"]) != fmt.Sprintf(`{"hint":%q}`, hint) || len(hint) != 44 {
		t.Errorf("%+v", got)
	}
	// The payload is spelled out: it is the format other tools read.
	want := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"registry.example/team/app","digest":{"sha256":"` + testSum +
		`"}}],"predicateType":"https://in-toto.io/attestation/vulns/v0.2","predicate":{"scanner":{"uri":"https://seaworthy.dev/?a=1&b=<2>","result":[]}}}`
	if diff := cmp.Diff(want, string(got.DsseEnvelope.Payload)); diff != "" {
		t.Errorf("payload (-want +got)\n%s", diff)
	}
}

func TestStatementsAreDeterministic(t *testing.T) {
	a := testStatement()
	b := testStatement()
	b.Predicate = json.RawMessage(" {\n \"scanner\" : {\"uri\":\"https://seaworthy.dev/?a=1&b=<2>\", \"result\": []}} ")
	x, err := MarshalStatement(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := MarshalStatement(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("spaces in the predicate change the statement:\n%s\n%s", x, y)
	}
}

func TestSignRefusesAForeignPublicKey(t *testing.T) {
	a, b := newKey(t, "p256"), newKey(t, "p256")
	if _, err := Sign(t.Context(), a, b.pub, testStatement()); !errors.Is(err, ErrBadSignature) {
		t.Error(err)
	}
}

func TestStatementsThatAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Statement){
		"no subject":         func(s *Statement) { s.Subject = nil },
		"prefixed digest":    func(s *Statement) { s.Subject[0].SHA256 = "sha256:" + testSum },
		"upper case":         func(s *Statement) { s.Subject[0].SHA256 = strings.ToUpper(testSum) },
		"no predicate type":  func(s *Statement) { s.PredicateType = "" },
		"relative predicate": func(s *Statement) { s.PredicateType = "vuln" },
		"no predicate":       func(s *Statement) { s.Predicate = nil },
		"predicate is list":  func(s *Statement) { s.Predicate = json.RawMessage("[]") },
		"predicate is text":  func(s *Statement) { s.Predicate = json.RawMessage("{nonsense") },
	} {
		st := testStatement()
		change(&st)
		if _, err := MarshalStatement(st); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := testStatement()
	many.Subject = make([]Subject, MaxSubjects+1)
	if _, err := MarshalStatement(many); !errors.Is(err, ErrTooLarge) {
		t.Errorf("many subjects: %v", err)
	}
	for name, tc := range map[string]struct {
		raw  string
		want error
	}{
		"other type":            {`{"_type":"https://in-toto.io/Statement/v2","subject":[],"predicateType":"a:b","predicate":{}}`, ErrMalformed},
		"not JSON":              {`hello`, ErrMalformed},
		"only sha512":           {`{"_type":"` + StatementType + `","subject":[{"digest":{"sha512":"00"}}],"predicateType":"a:b","predicate":{}}`, ErrMalformed},
		"null predicate":        {`{"_type":"` + StatementType + `","subject":[{"digest":{"sha256":"` + testSum + `"}}],"predicateType":"a:b","predicate":null}`, ErrMalformed},
		"subject is text":       {`{"_type":"` + StatementType + `","subject":"x","predicateType":"a:b","predicate":{}}`, ErrMalformed},
		"many subjects":         {`{"_type":"` + StatementType + `","subject":[{}` + strings.Repeat(",{}", MaxSubjects) + `],"predicateType":"a:b","predicate":{}}`, ErrTooLarge},
		"type twice":            {`{"_type":"` + StatementType + `","_type":"` + StatementType + `","subject":[{"digest":{"sha256":"` + testSum + `"}}],"predicateType":"a:b","predicate":{}}`, ErrMalformed},
		"predicate in capitals": {`{"_type":"` + StatementType + `","subject":[{"digest":{"sha256":"` + testSum + `"}}],"predicateType":"a:b","predicate":{},"Predicate":{}}`, ErrMalformed},
		"digest in capitals":    {`{"_type":"` + StatementType + `","subject":[{"Digest":{"sha256":"` + testSum + `"}}],"predicateType":"a:b","predicate":{}}`, ErrMalformed},
		"two digests":           {`{"_type":"` + StatementType + `","subject":[{"digest":{"sha256":"00","sha256":"` + testSum + `"}}],"predicateType":"a:b","predicate":{}}`, ErrMalformed},
		"twice in predicate":    {`{"_type":"` + StatementType + `","subject":[{"digest":{"sha256":"` + testSum + `"}}],"predicateType":"a:b","predicate":{"a":[{"b":1,"b":2}]}}`, ErrMalformed},
		"long s":                {`{"_type":"` + StatementType + `","ſubject":[],"subject":[{"digest":{"sha256":"` + testSum + `"}}],"predicateType":"a:b","predicate":{}}`, ErrMalformed},
	} {
		if _, err := ParseStatement([]byte(tc.raw)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseStatement(make([]byte, MaxStatement+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("statement over the limit: %v", err)
	}
	if _, err := Untrusted(make([]byte, MaxBundle+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("bundle over the limit: %v", err)
	}
}

// edit changes a bundle as JSON.
func edit(tb testing.TB, raw []byte, change func(bundle, envelope map[string]any)) []byte {
	tb.Helper()
	var b map[string]any
	if err := json.Unmarshal(raw, &b); err != nil {
		tb.Fatal(err)
	}
	envelope, _ := b["dsseEnvelope"].(map[string]any)
	change(b, envelope)
	out, err := json.Marshal(b)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// cosign v3 still writes Statement v0.1.
func TestStatementV01IsRead(t *testing.T) {
	raw, err := MarshalStatement(testStatement())
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseStatement(bytes.Replace(raw, []byte(StatementType), []byte(StatementTypeV01), 1))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(testStatement(), got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestVerifyRefuses(t *testing.T) {
	k, other := newKey(t, "p256"), newKey(t, "p256")
	raw := k.sign(t, testStatement())
	another := testStatement()
	another.Subject[0].SHA256 = strings.Repeat("cd", 32)
	forged := k.sign(t, another)
	hint := func(key crypto.PublicKey) map[string]any {
		h, err := keyHint(key)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{"publicKey": map[string]any{"hint": h}}
	}
	payloadOf := func(raw []byte) (payload any) {
		edit(t, raw, func(_, e map[string]any) { payload = e["payload"] })
		return payload
	}
	trustsBoth := TrustRoots{Keys: []TrustedKey{{Key: other.pub}, {Key: k.pub}}}
	for name, tc := range map[string]struct {
		raw   []byte
		roots TrustRoots
		want  error
	}{
		"no keys":        {raw, TrustRoots{}, ErrUntrustedKey},
		"another key":    {raw, other.trusted(), ErrUntrustedKey},
		"not yet valid":  {raw, TrustRoots{Keys: []TrustedKey{{Key: k.pub, NotBefore: time.Now().Add(time.Hour)}}}, ErrUntrustedKey},
		"revoked":        {raw, TrustRoots{Keys: []TrustedKey{{Key: k.pub, Revoked: time.Now().Add(-time.Hour)}}}, ErrUntrustedKey},
		"other subject":  {forged, k.trusted(), ErrWrongSubject},
		"its hint lies":  {edit(t, raw, func(b, _ map[string]any) { b["verificationMaterial"] = hint(other.pub) }), other.trusted(), ErrBadSignature},
		"payload edited": {edit(t, raw, func(_, e map[string]any) { e["payload"] = payloadOf(forged) }), k.trusted(), ErrBadSignature},
		"payload for us": {edit(t, forged, func(_, e map[string]any) { e["payload"] = payloadOf(raw) }), k.trusted(), ErrBadSignature},
		"signature cut": {edit(t, raw, func(_, e map[string]any) {
			e["signatures"] = []any{map[string]any{"sig": "AAAA"}}
		}), trustsBoth, ErrBadSignature},
		"two signatures": {edit(t, raw, func(_, e map[string]any) {
			s := e["signatures"].([]any)
			e["signatures"] = append(s, s[0])
		}), k.trusted(), ErrMalformed},
		"no signature":       {edit(t, raw, func(_, e map[string]any) { e["signatures"] = []any{} }), k.trusted(), ErrMalformed},
		"other payload type": {edit(t, raw, func(_, e map[string]any) { e["payloadType"] = "text/plain" }), k.trusted(), ErrMalformed},
		"no envelope":        {edit(t, raw, func(b, _ map[string]any) { delete(b, "dsseEnvelope") }), k.trusted(), ErrMalformed},
		"message signature": {edit(t, raw, func(b, _ map[string]any) {
			delete(b, "dsseEnvelope")
			b["messageSignature"] = map[string]any{"signature": "AAAA"}
		}), k.trusted(), ErrMalformed},
		"no material": {edit(t, raw, func(b, _ map[string]any) { delete(b, "verificationMaterial") }), k.trusted(), ErrMalformed},
		"certificate": {edit(t, raw, func(b, _ map[string]any) {
			b["verificationMaterial"] = map[string]any{"certificate": map[string]any{"rawBytes": "AAAA"}}
		}), k.trusted(), ErrUntrustedKey},
		"later version":  {edit(t, raw, func(b, _ map[string]any) { b["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.4+json" }), k.trusted(), ErrMalformed},
		"other type":     {edit(t, raw, func(b, _ map[string]any) { b["mediaType"] = "text/plain" }), k.trusted(), ErrMalformed},
		"payload twice":  {bytes.Replace(raw, []byte(`"payloadType"`), []byte(`"payload":"AAAA","payloadType"`), 1), k.trusted(), ErrMalformed},
		"both names":     {bytes.Replace(raw, []byte(`"payloadType"`), []byte(`"payload_type":null,"payloadType"`), 1), k.trusted(), ErrMalformed},
		"in capitals":    {bytes.Replace(raw, []byte(`"payloadType"`), []byte(`"PayloadType":"","payloadType"`), 1), k.trusted(), ErrMalformed},
		"unknown field":  {edit(t, raw, func(b, _ map[string]any) { b["extra"] = 1 }), k.trusted(), ErrMalformed},
		"nothing":        {nil, k.trusted(), ErrMalformed},
		"too many keys":  {raw, TrustRoots{Keys: make([]TrustedKey, MaxTrustedKeys+1)}, ErrTooLarge},
		"useless key":    {raw, TrustRoots{Keys: []TrustedKey{{Key: "text"}}}, ErrUntrustedKey},
		"two wrong keys": {raw, TrustRoots{Keys: []TrustedKey{{Key: other.pub}, {Key: newKey(t, "ed25519").pub}}}, ErrUntrustedKey},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := Verify(tc.raw, "sha256:"+testSum, tc.roots)
			if !errors.Is(err, tc.want) || v != nil {
				t.Fatalf("%v, %v", v, err)
			}
			for _, kind := range []error{ErrMalformed, ErrTooLarge, ErrUntrustedKey, ErrBadSignature, ErrWrongSubject} {
				if !errors.Is(tc.want, kind) && errors.Is(err, kind) {
					t.Errorf("is also %v", kind)
				}
			}
			if Reason(err) == "" {
				t.Errorf("no reason for %v", err)
			}
		})
	}
	for _, digest := range []string{"", testSum, "sha512:" + testSum, "sha256:" + strings.ToUpper(testSum)} {
		if _, err := Verify(raw, digest, k.trusted()); !errors.Is(err, ErrWrongSubject) {
			t.Errorf("digest %q: %v", digest, err)
		}
	}
}

func TestVerifyWithSeveralKeys(t *testing.T) {
	old, current := newKey(t, "p256"), newKey(t, "ed25519")
	change := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	roots := TrustRoots{Keys: []TrustedKey{
		{Key: old.pub, ID: "old", NotAfter: change.Add(24 * time.Hour)},
		{Key: current.pub, ID: "current", NotBefore: change},
	}}
	stating := func(at time.Time) Statement {
		st := testStatement()
		st.PredicateType = PredicateCosignVuln
		st.Predicate = json.RawMessage(`{"metadata":{"scanFinishedOn":"` + at.Format(time.RFC3339) + `"}}`)
		return st
	}
	sbom := testStatement()
	sbom.PredicateType, sbom.Predicate = PredicateSPDX, json.RawMessage(`{"creationInfo":{"created":"2026-06-02T23:00:00Z"}}`)
	byOld, byCurrent := old.sign(t, stating(change.Add(-time.Hour))), current.sign(t, stating(change.Add(-time.Hour)))
	tooLate, undated := old.sign(t, stating(change.Add(25*time.Hour))), old.sign(t, sbom)
	for name, tc := range map[string]struct {
		raw  []byte
		at   time.Time
		want string
	}{
		"old key before":         {byOld, change.Add(-time.Hour), "old"},
		"old key in the overlap": {byOld, change.Add(time.Hour), "old"},
		"old key afterwards":     {byOld, change.Add(48 * time.Hour), "old"},
		"old key years later":    {byOld, change.AddDate(9, 0, 0), "old"},
		"old key, later scan":    {tooLate, change.Add(48 * time.Hour), ""},
		"old key, no time":       {undated, change.Add(48 * time.Hour), "old"},
		"new key too early":      {byCurrent, change.Add(-time.Hour), ""},
		"new key at its start":   {byCurrent, change, "current"},
		"no hint": {edit(t, byCurrent, func(b, _ map[string]any) {
			b["verificationMaterial"] = map[string]any{"publicKey": map[string]any{}}
		}), change.Add(time.Hour), "current"},
		"hint of the other": {edit(t, byCurrent, func(b, _ map[string]any) {
			b["verificationMaterial"] = map[string]any{"publicKey": map[string]any{"hint": "old"}}
		}), change.Add(time.Hour), "current"},
	} {
		roots.At = tc.at
		v, err := Verify(tc.raw, "sha256:"+testSum, roots)
		switch {
		case tc.want == "" && !errors.Is(err, ErrUntrustedKey):
			t.Errorf("%s: %v", name, err)
		case tc.want != "" && (err != nil || v.KeyID != tc.want):
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

func TestKeyID(t *testing.T) {
	k := newKey(t, "p256")
	if id := KeyID(k.pub); !isSHA256(id) {
		t.Errorf("%q", id)
	}
	if id := KeyID("no key"); id != "" {
		t.Errorf("%q", id)
	}
}
