package attest

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func FuzzVerify(f *testing.F) {
	k := newKey(f, "p256")
	good := k.sign(f, testStatement())
	f.Add(good)
	f.Add(edit(f, good, func(b, _ map[string]any) { b["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1" }))
	f.Add(edit(f, good, func(_, e map[string]any) { e["signatures"] = nil }))
	f.Add(edit(f, good, func(b, _ map[string]any) {
		b["verificationMaterial"] = map[string]any{"publicKey": map[string]any{}, "tlogEntries": []any{map[string]any{"logIndex": "1"}}}
	}))
	f.Add([]byte(`{}`))
	s := newSigstore(f)
	f.Add(toJSON(f, s.attested(f, testStatement(), true, time.Now())))
	f.Add(toJSON(f, asVersion(s.attested(f, testStatement(), false, time.Now()), bundleV01)))
	roots := s.roots(identity(nil))
	roots.Keys = k.trusted().Keys
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := Verify(raw, "sha256:"+testSum, roots)
		if err != nil {
			if Reason(err) == "" {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		// Only what was signed can come out, whatever is around it.
		got, err := MarshalStatement(v.Statement)
		if err != nil {
			t.Fatal(err)
		}
		want, err := MarshalStatement(testStatement())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("verified what was not signed: %s", got)
		}
	})
}

func FuzzParseSigstoreRoot(f *testing.F) {
	s := newSigstore(f)
	f.Add(rootJSON(f, s.VirtualSigstore))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[{}]}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","certificateAuthorities":[{"certChain":{"certificates":[{}]}}]}`))
	bundle := toJSON(f, s.attested(f, testStatement(), true, time.Now()))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := ParseSigstoreRoot(raw)
		if err != nil {
			if !errors.Is(err, ErrBadTrustedRoot) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		// Whatever is trusted, a bundle gets an answer.
		if _, err := Verify(bundle, "sha256:"+testSum, TrustRoots{Sigstore: r, Identities: []TrustedIdentity{identity(nil)}}); err != nil && Reason(err) == "" {
			t.Fatalf("error of no kind: %v", err)
		}
	})
}

func FuzzParseStatement(f *testing.F) {
	raw, err := MarshalStatement(testStatement())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":null}],"predicateType":"x:y","predicate":{}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		st, err := ParseStatement(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		written, err := MarshalStatement(st)
		if err != nil {
			t.Fatalf("cannot be written back: %v", err)
		}
		again, err := ParseStatement(written)
		if err != nil {
			t.Fatalf("cannot be read back: %v", err)
		}
		rewritten, err := MarshalStatement(again)
		if err != nil || !bytes.Equal(written, rewritten) {
			t.Fatalf("not stable: %v\n%s\n%s", err, written, rewritten)
		}
	})
}
