package attest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
)

func TestRootsStateWhatTheyMay(t *testing.T) {
	k, s := newKey(t, "p256"), newSigstore(t)
	raw := k.sign(t, testStatement())
	certified := toJSON(t, s.attested(t, testStatement(), true, time.Now()))
	key := func(states ...string) TrustedKey { return TrustedKey{Key: k.pub, States: states} }
	who := func(states ...string) TrustRoots {
		return s.roots(identity(func(i *TrustedIdentity) { i.States = states }))
	}
	keys := func(all ...TrustedKey) TrustRoots { return TrustRoots{Keys: all} }
	for name, tc := range map[string]struct {
		bundle []byte
		roots  TrustRoots
		want   error
	}{
		"key, of any type":             {raw, keys(key()), nil},
		"key, named":                   {raw, keys(key(PredicateVSA, PredicateVulnsV02)), nil},
		"key, other type":              {raw, keys(key(PredicateVSA)), ErrNotAllowed},
		"key of a builder":             {raw, keys(key()).Stating(BuilderStates()), ErrNotAllowed},
		"key of an author":             {raw, keys(key()).Stating(AuthorStates()), ErrNotAllowed},
		"key of the signer":            {raw, keys(key()).Stating(SignerStates()), nil},
		"key, nothing at all":          {raw, keys(TrustedKey{Key: k.pub, States: []string{}}), ErrNotAllowed},
		"key twice, the second may":    {raw, keys(key(PredicateVSA), key(PredicateVulnsV02)), nil},
		"another key may":              {raw, keys(key(PredicateVSA), TrustedKey{Key: newKey(t, "p256").pub}), ErrNotAllowed},
		"type in other letters":        {raw, keys(key(strings.ToUpper(PredicateVulnsV02))), ErrNotAllowed},
		"identity, named":              {certified, who(PredicateVulnsV02), nil},
		"identity, other type":         {certified, who(PredicateSLSAProvenance), ErrNotAllowed},
		"identity twice, one may":      {certified, s.roots(identity(func(i *TrustedIdentity) { i.States = []string{PredicateVSA} }), identity(nil)), nil},
		"revoked, by a clock of later": {raw, keys(TrustedKey{Key: k.pub, Revoked: time.Now().Add(time.Hour)}), ErrUntrustedKey},
	} {
		v, err := Verify(tc.bundle, "sha256:"+testSum, tc.roots)
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && !tc.roots.Believes(v.KeyID, v.PredicateType, time.Time{}) {
			t.Errorf("%s: what was just verified is not believed", name)
		}
	}
	roots := keys(key(PredicateVSA))
	if roots.Believes(KeyID(k.pub), PredicateCosignVuln, time.Time{}) || !roots.Believes(KeyID(k.pub), PredicateVSA, time.Time{}) {
		t.Error("a kept result is believed by other rules than a new one")
	}
	if Reason(ErrNotAllowed) != "PREDICATE_NOT_ALLOWED" || Reason(ErrFuture) != "IN_FUTURE" {
		t.Error("reasons")
	}
}

// dated is a statement of each type that is dated, by where its time stands.
var dated = map[string]string{
	PredicateCosignVuln:                 `{"metadata":{"scanFinishedOn":%q}}`,
	PredicateVulnsV02:                   `{"metadata":{"scanFinishedOn":%q}}`,
	PredicateCosignVuln + "#start":      `{"metadata":{"scanStartedOn":%q}}`,
	PredicateVSA:                        `{"timeVerified":%q}`,
	PredicateOpenVEX:                    `{"timestamp":%q}`,
	PredicateOpenVEX + "#updated":       `{"last_updated":%q}`,
	PredicateOpenVEX + "#statement":     `{"statements":[{},{"timestamp":%q}]}`,
	PredicateOpenVEX + "#later":         `{"statements":[{"last_updated":%q}]}`,
	PredicateSPDX:                       `{"creationInfo":{"created":%q}}`,
	PredicateCycloneDX:                  `{"metadata":{"timestamp":%q}}`,
	PredicateSLSAProvenance:             `{"runDetails":{"metadata":{"finishedOn":%q}}}`,
	PredicateSLSAProvenance + "#start":  `{"runDetails":{"metadata":{"startedOn":%q}}}`,
	PredicateSLSAProvenanceV02:          `{"metadata":{"buildFinishedOn":%q}}`,
	PredicateSLSAProvenanceV02 + "#one": `{"metadata":{"buildStartedOn":%q}}`,
}

func datedStatement(what string, at time.Time) Statement {
	predicateType, _, _ := strings.Cut(what, "#")
	st := testStatement()
	st.PredicateType, st.Predicate = predicateType, json.RawMessage(fmt.Sprintf(dated[what], at.Format(time.RFC3339Nano)))
	return st
}

func TestTheFutureIsNoEvidence(t *testing.T) {
	k := newKey(t, "ed25519")
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	roots := k.trusted()
	for what := range dated {
		for offset, want := range map[time.Duration]error{
			-time.Hour: nil, ClockSkew: nil, ClockSkew + time.Nanosecond: ErrFuture, 100 * 365 * 24 * time.Hour: ErrFuture,
		} {
			st := datedStatement(what, now.Add(offset))
			roots.At = now
			if _, err := Verify(k.sign(t, st), "sha256:"+testSum, roots); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s, %s from now: %v", what, offset, err)
			}
			if err := CheckTime(st, now); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("signing %s, %s from now: %v", what, offset, err)
			}
			// When the time has come it is evidence like any other.
			roots.At = now.Add(max(offset, 0))
			if _, err := Verify(k.sign(t, st), "sha256:"+testSum, roots); err != nil {
				t.Errorf("%s, when the time has come: %v", what, err)
			}
		}
	}
	roots.At = now
	if roots.Believes(KeyID(k.pub), PredicateCosignVuln, now.Add(ClockSkew+1)) || !roots.Believes(KeyID(k.pub), PredicateCosignVuln, now.Add(ClockSkew)) {
		t.Error("a kept result is believed by another time than a new one")
	}
}

// TestTimesThatCannotBeRead: a statement whose order nobody can tell is none.
func TestTimesThatCannotBeRead(t *testing.T) {
	k := newKey(t, "p256")
	for what, format := range dated {
		for _, value := range []string{`"2026-13-45"`, `12`, `["2026-11-30T12:00:00Z"]`} {
			st := datedStatement(what, time.Now())
			st.Predicate = json.RawMessage(strings.ReplaceAll(format, "%q", value))
			want := statesTime(st.PredicateType)
			if _, err := Verify(k.sign(t, st), "sha256:"+testSum, k.trusted()); errors.Is(err, ErrMalformed) != want || (err == nil) == want {
				t.Errorf("%s %s: %v", what, value, err)
			}
		}
	}
}

// TestUnreadable: of a statement that cannot be read it is known who signed it and what it
// is about, so that trust can be taken away by it.
func TestUnreadable(t *testing.T) {
	k, stranger := newKey(t, "p256"), newKey(t, "p256")
	statement := func(sum, predicate string) string {
		return `{"_type":"` + StatementType + `","subject":[{"digest":{"sha256":"` + sum + `"}}],"predicateType":"` + PredicateOpenVEX + `","predicate":` + predicate + `}`
	}
	for name, predicate := range map[string]string{
		"a name twice":  `{"timestamp":"2026-01-01T00:00:00Z","statements":[{"status":"fixed","status":"affected"}]}`,
		"a name folded": `{"timestamp":"2026-01-01T00:00:00Z","Timestamp":"2026-01-01T00:00:00Z"}`,
		"no time":       `{"timestamp":"yesterday"}`,
		"a time twice":  `{"timestamp":"2026-01-01T00:00:00Z","timestamp":"2026-01-02T00:00:00Z"}`,
		"null":          `null`,
		"a list":        `[]`,
	} {
		payload := statement(testSum, predicate)
		_, err := Verify(k.signRaw(t, payload, ""), "sha256:"+testSum, k.trusted())
		unreadable, ok := errors.AsType[*UnreadableError](err)
		if !ok || !errors.Is(err, ErrMalformed) || unreadable.KeyID != KeyID(k.pub) || unreadable.PredicateType != PredicateOpenVEX {
			t.Errorf("%s: %v, %+v", name, err, unreadable)
		}
		for who, raw := range map[string][]byte{
			"a stranger":           stranger.signRaw(t, payload, ""),
			"about something else": k.signRaw(t, statement(strings.Repeat("cd", 32), predicate), ""),
			"changed after": edit(t, k.signRaw(t, payload, ""), func(_, e map[string]any) {
				e["payload"] = base64.StdEncoding.EncodeToString([]byte(payload + " "))
			}),
		} {
			_, err := Verify(raw, "sha256:"+testSum, k.trusted())
			if _, ok := errors.AsType[*UnreadableError](err); ok || !errors.Is(err, ErrMalformed) {
				t.Errorf("%s, %s: %v", name, who, err)
			}
		}
	}
	s := newSigstore(t)
	st := Statement{Subject: testStatement().Subject, PredicateType: PredicateOpenVEX, Predicate: json.RawMessage(`{"timestamp":"2026-01-01T00:00:00Z","a":1,"a":2}`)}
	_, err := Verify(toJSON(t, s.attested(t, st, true, time.Now())), "sha256:"+st.Subject[0].SHA256, s.roots(identity(nil)))
	if unreadable, ok := errors.AsType[*UnreadableError](err); !ok || unreadable.SignTime.IsZero() {
		t.Errorf("by an identity: %v", err)
	}
}

// TestProvenTime: a statement cannot speak of what came after its signature, and what a
// timestamp proves goes before what the statement says.
func TestProvenTime(t *testing.T) {
	s := newSigstore(t)
	roots := s.roots(identity(nil))
	roots.At = time.Now().Add(24 * time.Hour)
	signed := time.Now()
	for offset, want := range map[time.Duration]error{-time.Hour: nil, 4 * time.Minute: nil, 6 * time.Minute: ErrFuture, 12 * time.Hour: ErrFuture} {
		st := datedStatement(PredicateCosignVuln, signed.Add(offset))
		v, err := Verify(toJSON(t, noEntry(s.attested(t, st, true, signed))), "sha256:"+testSum, roots)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s after the signature: %v", offset, err)
			continue
		}
		if err == nil && (v.Time.After(v.SignTime) || offset < 0 && !v.Time.Equal(StatedTime(st))) {
			t.Errorf("%s after the signature: in the order of %s, signed %s", offset, v.Time, v.SignTime)
		}
	}
	undated := testStatement()
	undated.PredicateType = PredicateSLSAProvenance
	v, err := Verify(toJSON(t, noEntry(s.attested(t, undated, true, signed))), "sha256:"+testSum, roots)
	if err != nil || !v.Time.Equal(v.SignTime) || v.SignTime.IsZero() {
		t.Errorf("%+v, %v", v, err)
	}
	roots.At = time.Now().Add(-time.Hour)
	if _, err := Verify(toJSON(t, noEntry(s.attested(t, undated, true, signed))), "sha256:"+testSum, roots); !errors.Is(err, ErrFuture) {
		t.Errorf("signed in the future: %v", err)
	}
}

// signRaw signs any payload.
func (k keyPair) signRaw(tb testing.TB, payload, keyid string) []byte {
	tb.Helper()
	p := Payload{head: []byte(payload), size: int64(len(payload))}
	b, err := SignPayload(tb.Context(), k, k.pub, p)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := b.Proto()
	if err != nil {
		tb.Fatal(err)
	}
	m.GetDsseEnvelope().GetSignatures()[0].Keyid = keyid
	return toJSON(tb, m)
}

func TestStatementWithoutPredicate(t *testing.T) {
	k := newKey(t, "p256")
	head := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + testSum + `"}}],"predicateType":"` + PredicateCosignSign + `"`
	for rest, want := range map[string]error{
		`}`: nil, `,"predicate":{}}`: nil, `,"predicate":null}`: ErrMalformed,
		`,"predicate":[]}`: ErrMalformed, `,"predicate":"no"}`: ErrMalformed, `,"predicate":false}`: ErrMalformed,
	} {
		v, err := Verify(k.signRaw(t, head+rest, ""), "sha256:"+testSum, k.trusted().Stating(BuilderStates()))
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v", rest, err)
		}
		if err == nil && (v.PredicateType != PredicateCosignSign || len(v.Predicate) > len("{}")) {
			t.Errorf("%s: %+v", rest, v)
		}
	}
}

func TestKeyIDIsAHint(t *testing.T) {
	k, s := newKey(t, "p256"), newSigstore(t)
	payload, err := MarshalStatement(testStatement())
	if err != nil {
		t.Fatal(err)
	}
	for _, keyid := range []string{"", "not ours", KeyID(newKey(t, "p256").pub), KeyID(k.pub)} {
		if _, err := Verify(k.signRaw(t, string(payload), keyid), "sha256:"+testSum, k.trusted()); err != nil {
			t.Errorf("key, keyid %q: %v", keyid, err)
		}
		if _, err := Verify(newKey(t, "p256").signRaw(t, string(payload), KeyID(k.pub)), "sha256:"+testSum, k.trusted()); !errors.Is(err, ErrUntrustedKey) {
			t.Errorf("a stranger who names our key: %v", err)
		}
		for version, b := range map[string]*protobundle.Bundle{
			"Rekor v1": s.attested(t, testStatement(), false, time.Now()), "Rekor v2": s.attested(t, testStatement(), true, time.Now()),
		} {
			b.GetDsseEnvelope().GetSignatures()[0].Keyid = keyid
			if _, err := Verify(toJSON(t, b), "sha256:"+testSum, s.roots(identity(func(i *TrustedIdentity) { i.RequireLog = true }))); err != nil {
				t.Errorf("certificate, %s, keyid %q: %v", version, keyid, err)
			}
		}
	}
}

func TestTrustedRootLines(t *testing.T) {
	a, b := newSigstore(t), newSigstore(t)
	line := func(raw []byte) string {
		var m json.RawMessage = raw
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	one, two := line(rootJSON(t, a.VirtualSigstore)), line(rootJSON(t, b.VirtualSigstore))
	for name, text := range map[string]string{"lines": one + "\n" + two + "\n", "one line": one, "no line end": one + two, "empty lines": "\n\n" + one + "\r\n\n" + two} {
		r, err := ParseSigstoreRoot([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, err = Verify(toJSON(t, a.attested(t, testStatement(), true, time.Now())), "sha256:"+testSum, TrustRoots{Sigstore: r, Identities: []TrustedIdentity{identity(nil)}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, _, _ := r.Authorities(); got != 1+strings.Count(text, two) {
			t.Errorf("%s: %d authorities", name, got)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "spaces": " \n", "half a line": one + "\n" + two[:len(two)/2], "text behind": one + "\nand so on",
		"too many": strings.Repeat("{}\n", MaxAuthorities+1), "an empty one": one + "\n{}",
	} {
		if _, err := ParseSigstoreRoot([]byte(text)); !errors.Is(err, ErrBadTrustedRoot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	x, err := ParseSigstoreRoot([]byte(one), []byte(two))
	if err != nil {
		t.Fatal(err)
	}
	y, err := ParseSigstoreRoot([]byte(one + "\n" + two))
	if err != nil || x.Digest() != y.Digest() || x.Digest() == a.trusted.Digest() || (*SigstoreRoot)(nil).Digest() != "" {
		t.Errorf("digests %s, %s, %v", x.Digest(), y.Digest(), err)
	}
}

// TestCertificatesAreLoggedWhereLogsAreNamed: whoever names a certificate transparency
// log need not ask each identity to use it.
func TestCertificatesAreLoggedWhereLogsAreNamed(t *testing.T) {
	s, stranger := newSigstore(t), newSigstore(t)
	withLog := func(of *sigstore) []byte {
		r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, of.FulcioCertificateAuthorities(), ctLogs(t), of.TimestampingAuthorities(), of.RekorLogs())
		if err != nil {
			t.Fatal(err)
		}
		raw, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	plain := rootJSON(t, s.VirtualSigstore)
	raw := toJSON(t, s.attested(t, testStatement(), true, time.Now()))
	for name, tc := range map[string]struct {
		documents [][]byte
		want      error
	}{
		"no log":                              {[][]byte{plain}, nil},
		"a log":                               {[][]byte{withLog(s)}, ErrNoSCT},
		"the same authority with and without": {[][]byte{plain, withLog(s)}, ErrNoSCT},
		"a log of another Sigstore":           {[][]byte{plain, withLog(stranger)}, nil},
	} {
		r, err := ParseSigstoreRoot(tc.documents...)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Verify(raw, "sha256:"+testSum, TrustRoots{Sigstore: r, Identities: []TrustedIdentity{identity(nil)}})
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// ctLogs is a certificate transparency log.
func ctLogs(t *testing.T) map[string]*root.TransparencyLog {
	t.Helper()
	virtual := newSigstore(t)
	logs := virtual.RekorLogs()
	for id, l := range logs {
		if l.ID == nil {
			t.Fatalf("log %s without an ID", id)
		}
	}
	return logs
}

func TestFingerprint(t *testing.T) {
	k, other := newKey(t, "p256"), newKey(t, "p256")
	s, stranger := newSigstore(t), newSigstore(t)
	base := func() TrustRoots {
		return TrustRoots{
			Keys: []TrustedKey{{Key: k.pub, States: SignerStates()}, {Key: other.pub, States: BuilderStates()}}, Sigstore: s.trusted,
			Identities: []TrustedIdentity{identity(nil)},
		}
	}
	want := base().Fingerprint()
	same := base()
	same.Keys[0], same.Keys[1], same.At = same.Keys[1], same.Keys[0], time.Now()
	if same.Fingerprint() != want {
		t.Error("order or time of verification changed it")
	}
	seen := map[string]string{want: "base"}
	for name, change := range map[string]func(*TrustRoots){
		"revoked":     func(r *TrustRoots) { r.Keys[0].Revoked = time.Now() },
		"ended":       func(r *TrustRoots) { r.Keys[0].NotAfter = time.Now() },
		"begins":      func(r *TrustRoots) { r.Keys[0].NotBefore = time.Now() },
		"states":      func(r *TrustRoots) { r.Keys[1].States = SignerStates() },
		"log":         func(r *TrustRoots) { r.Keys[0].RequireLog = true },
		"timestamp":   func(r *TrustRoots) { r.Keys[0].RequireTimestamp = true },
		"key gone":    func(r *TrustRoots) { r.Keys = r.Keys[:1] },
		"identity":    func(r *TrustRoots) { r.Identities[0].Subject = "x@seaworthy.test" },
		"may state":   func(r *TrustRoots) { r.Identities[0].States = BuilderStates() },
		"SCT":         func(r *TrustRoots) { r.Identities[0].RequireSCT = true },
		"root":        func(r *TrustRoots) { r.Sigstore = stranger.trusted },
		"no root":     func(r *TrustRoots) { r.Sigstore = nil },
		"no identity": func(r *TrustRoots) { r.Identities = nil },
	} {
		r := base()
		change(&r)
		f := r.Fingerprint()
		if before, ok := seen[f]; ok {
			t.Errorf("%s: the same as %s", name, before)
		}
		seen[f] = name
	}
}

// TestEndedKeysDateTheirStatements: a key that stopped signing gets around its end neither
// with a later time nor with none.
func TestEndedKeysDateTheirStatements(t *testing.T) {
	k := newKey(t, "p256")
	ended := TrustRoots{Keys: []TrustedKey{{Key: k.pub, NotAfter: time.Now().Add(time.Hour)}}}
	for predicateType, want := range map[string]error{
		PredicateCosignVuln: ErrUntrustedKey, PredicateVulnsV02: ErrUntrustedKey, PredicateVSA: ErrUntrustedKey, PredicateOpenVEX: ErrUntrustedKey,
		PredicateSPDX: nil, PredicateSLSAProvenance: nil,
	} {
		st := testStatement()
		st.PredicateType, st.Predicate = predicateType, json.RawMessage(`{}`)
		if _, err := Verify(k.sign(t, st), "sha256:"+testSum, ended); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s without a time: %v", predicateType, err)
		}
		if ended.Believes(KeyID(k.pub), predicateType, time.Time{}) != (want == nil) {
			t.Errorf("%s without a time: a kept result is believed by other rules than a new one", predicateType)
		}
		if _, err := Verify(k.sign(t, st), "sha256:"+testSum, k.trusted()); err != nil {
			t.Errorf("%s without a time, by a key that signs: %v", predicateType, err)
		}
	}
}
