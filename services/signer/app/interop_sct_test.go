package app_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/signer/app"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

// TestInterop_KeylessCertificateLog has readers who trust another certificate
// transparency log than the one that the certificates are in, if they are in one. They
// refuse what is signed, and the signer does not attach what they refuse.
func TestInterop_KeylessCertificateLog(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *sigstoretest.Sigstore{
		"no SCT":            sigstoretest.RealWithoutCTLog,
		"SCT of a stranger": sigstoretest.Real,
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			other := s.NameStrangersCTLog(t)
			t.Run("readers", func(t *testing.T) { certificateLogReaders(t, s, other) })
			t.Run("signer", func(t *testing.T) {
				s := *s
				s.TrustedRoot = other
				signerRefusesCertificates(t, &s)
			})
		})
	}
}

// certificateLogReaders has the image signed and read with the trusted root of the signer,
// and with the other one.
func certificateLogReaders(t *testing.T, s *sigstoretest.Sigstore, other string) {
	t.Helper()
	cosign := newCosigner(t)
	f := newFleet(t)
	f.useSigstore(s, app.WitnessLog, app.WitnessTimestamp)
	f.cfg.Identities = f.cfg.Identities[1:]
	f.start()
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	f.nextAttested()

	roots := attest.TrustRoots{Identities: []attest.TrustedIdentity{{Issuer: s.URL, Subject: certified, RequireLog: true, RequireTimestamp: true}}}
	checkAll(t, f, image, roots, s.TrustedRoot, nil)
	checkAll(t, f, image, roots, other, nil) // what is missing is the SCT, and nothing else
	roots.Identities[0].RequireSCT = true
	checkAll(t, f, image, roots, other, attest.ErrNoSCT)

	for _, predicateType := range evidenceTypes {
		flags := keylessFlags(s.URL, certified, other)
		if out, err := cosign.verify(image, predicateType, flags...); err == nil || !strings.Contains(out, "verify signed certificate timestamp") {
			t.Errorf("cosign about %s: %v\n%s", predicateType, err, out)
		}
		// What it refuses is the missing SCT alone: told not to look for one it accepts.
		if out, err := cosign.verify(image, predicateType, append(slices.Clone(flags), "--insecure-ignore-sct")...); err != nil {
			t.Errorf("cosign refuses %s: %v\n%s", predicateType, err, out)
		}
	}
}

// checkAll verifies all attestations of an image with a trusted root, and wants the error.
func checkAll(t *testing.T, f *fleet, image imageref.Ref, roots attest.TrustRoots, trustedRoot string, want error) {
	t.Helper()
	doc, err := os.ReadFile(trustedRoot)
	if err != nil {
		t.Fatal(err)
	}
	if roots.Sigstore, err = attest.ParseSigstoreRoot(doc); err != nil {
		t.Fatal(err)
	}
	referred, err := attest.Fetch(t.Context(), f.registry.Client(), image, attest.Limits{})
	if err != nil || len(referred) != len(evidenceTypes) {
		t.Fatalf("%d attestations, %v", len(referred), err)
	}
	for i := range referred {
		if _, err := referred[i].Verify(image.Digest, roots); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", referred[i].Digest, err, want)
		}
	}
}

func signerRefusesCertificates(t *testing.T, s *sigstoretest.Sigstore) {
	t.Helper()
	f := newFleet(t)
	f.useSigstore(s, app.WitnessLog, app.WitnessTimestamp)
	f.start()
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	if letter := f.deadLetter(0); !strings.Contains(letter.GetMessage(), "--ct-log-url") {
		t.Errorf("dead letter = %s: %s", letter.GetReason(), letter.GetMessage())
	}
	if got := f.types(image); len(got) != 0 {
		t.Errorf("attached: %v", got)
	}
}
