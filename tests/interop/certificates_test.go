package interop

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// TestInterop_Certificates gives cosign, sigstore-go and our verification the same
// bundles by certificates, and each is to answer as Sigstore specifies: a certificate
// counts at the time that the timestamp proves, not at the time of reading.
func TestInterop_Certificates(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	rawRoot := ca.trustedRoot(t)
	c := newCosign(t, string(rawRoot))
	trusted, err := root.NewTrustedRootFromJSON(rawRoot)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := verify.NewVerifier(trusted, verify.WithSignedTimestamps(1))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := attest.ParseSigstoreRoot(rawRoot)
	if err != nil {
		t.Fatal(err)
	}
	shelf := newShelf(t)
	const elsewhere = "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	const minute = time.Minute
	type made struct {
		from, to, stamped time.Duration // before now; the certificate and its use
		by, timed         *authority    // nil: ca
		unstamped         bool
		subject           string // empty: the image
		change            func(t *testing.T, bundle map[string]any)
	}
	valid := made{from: 5 * minute, to: -5 * minute, stamped: minute}
	with := func(change func(*made)) made { m := valid; change(&m); return m }
	tests := []struct {
		name            string
		made            made
		subject, issuer string // whom the reader believes; empty: who signed
		want            error  // ours; nil: all accept
		// notCosign is set for bundles of the versions before its own, which cosign v3
		// does not read.
		notCosign bool
	}{
		{name: "valid, used in time", made: valid},
		{name: "expired since, used in time", made: made{from: 60 * minute, to: 50 * minute, stamped: 55 * minute}},
		{name: "used after it expired", made: made{from: 60 * minute, to: 50 * minute, stamped: 49 * minute}, want: attest.ErrExpiredCertificate},
		{name: "used before it began", made: with(func(m *made) { m.stamped = 6 * minute }), want: attest.ErrExpiredCertificate},
		{name: "valid, no timestamp", made: with(func(m *made) { m.unstamped = true }), want: attest.ErrNoTimestamp},
		{name: "expired, no timestamp", made: made{from: 60 * minute, to: 50 * minute, unstamped: true}, want: attest.ErrNoTimestamp},
		{name: "timestamp of a stranger", made: with(func(m *made) { m.timed = stranger }), want: attest.ErrNoTimestamp},
		{name: "certificate of a stranger", made: with(func(m *made) { m.by = stranger }), want: attest.ErrUntrustedIdentity},
		{name: "another identity", made: valid, subject: "other@seaworthy.test", want: attest.ErrUntrustedIdentity},
		{name: "another issuer", made: valid, issuer: "https://other.example", want: attest.ErrUntrustedIdentity},
		{name: "changed payload by certificate", made: with(func(m *made) { m.change = changePayload }), want: attest.ErrBadSignature},
		{name: "another subject by certificate", made: with(func(m *made) { m.subject = elsewhere }), want: attest.ErrWrongSubject},
		{name: "two signatures by certificate", made: with(func(m *made) { m.change = twoSignatures }), want: attest.ErrMalformed},
		{name: "v0.3 with a chain", made: with(func(m *made) { m.change = chain(attest.BundleMediaType) }), want: attest.ErrMalformed},
		{name: "v0.2 with a chain", made: with(func(m *made) { m.change = chain(bundleV02) }), notCosign: true},
		{name: "v0.1 with a chain", made: with(func(m *made) { m.change = chain(bundleV01) }), notCosign: true},
	}
	now := time.Now()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			image := shelf.push(t, tt.name)
			by, timed, about := ca, ca, image.Digest
			if tt.made.by != nil {
				by = tt.made.by
			}
			if tt.made.timed != nil {
				timed = tt.made.timed
			}
			if tt.made.subject != "" {
				about = tt.made.subject
			}
			key := newECDSA(t)
			signer, err := signature.LoadDefaultSigner(key)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := attest.Sign(t.Context(), signer, key.Public(), review(about))
			if err != nil {
				t.Fatal(err)
			}
			raw = changed(t, raw, func(t *testing.T, bundle map[string]any) {
				t.Helper()
				material := map[string]any{"certificate": map[string]any{
					"rawBytes": by.certify(t, key.Public(), now.Add(-tt.made.from), now.Add(-tt.made.to)),
				}}
				if !tt.made.unstamped {
					stamp := timed.stamp(t, signatureOf(t, bundle), now.Add(-tt.made.stamped))
					material["timestampVerificationData"] = map[string]any{"rfc3161Timestamps": []any{map[string]any{"signedTimestamp": stamp}}}
				}
				bundle["verificationMaterial"] = material
				if tt.made.change != nil {
					tt.made.change(t, bundle)
				}
			})
			shelf.attach(t, image, raw)

			subject, from := certified, issuer
			if tt.subject != "" {
				subject = tt.subject
			}
			if tt.issuer != "" {
				from = tt.issuer
			}
			_, ours := attest.Verify(raw, image.Digest, attest.TrustRoots{
				Sigstore: parsed, Identities: []attest.TrustedIdentity{{Issuer: from, Subject: subject, RequireTimestamp: true}},
			})
			who, err := verify.NewShortCertificateIdentity(from, "", subject, "")
			if err != nil {
				t.Fatal(err)
			}
			library := sigstoreGo(t, verifier, raw, image.Digest, verify.WithCertificateIdentity(who))
			// There is no log of certificates and none of signatures; the time is what
			// this is about.
			_, program := c.run(t.Context(), "verify-attestation", "--type", reviewType, "--certificate-oidc-issuer", from,
				"--certificate-identity", subject, "--trusted-root", c.root, "--insecure-ignore-sct", "--insecure-ignore-tlog=true",
				"--use-signed-timestamps", image.String())
			t.Logf("cosign %s, sigstore-go %s, ours %s (%v)", said(program), said(library), said(ours), ours)
			if !errors.Is(ours, tt.want) {
				t.Errorf("we say %v, want %v", ours, tt.want)
			}
			if (library == nil) != (tt.want == nil) {
				t.Errorf("sigstore-go says %v, want %v", library, tt.want)
			}
			if (program == nil) != (tt.want == nil && !tt.notCosign) {
				t.Errorf("cosign says %v, want %v", program, tt.want)
			}
		})
	}
}

// signatureOf is the one signature of a bundle.
func signatureOf(t *testing.T, bundle map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(envelope(t, bundle)["signatures"])
	if err != nil {
		t.Fatal(err)
	}
	var signatures []struct {
		Sig []byte `json:"sig"`
	}
	if err := json.Unmarshal(text, &signatures); err != nil || len(signatures) != 1 {
		t.Fatalf("%d signatures, %v", len(signatures), err)
	}
	return signatures[0].Sig
}

// chain gives a bundle the form of the versions before 0.3, which carry the certificate
// in a chain, and calls it by a media type.
func chain(mediaType string) func(*testing.T, map[string]any) {
	return func(t *testing.T, bundle map[string]any) {
		t.Helper()
		material, ok := bundle["verificationMaterial"].(map[string]any)
		if !ok {
			t.Fatal("no material")
		}
		material["x509CertificateChain"] = map[string]any{"certificates": []any{material["certificate"]}}
		delete(material, "certificate")
		bundle["mediaType"] = mediaType
	}
}
