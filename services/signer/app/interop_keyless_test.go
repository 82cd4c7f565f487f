package app_test

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/signer/app"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

// cosigner runs the real cosign.
type cosigner struct {
	t             *testing.T
	program, home string
}

func newCosigner(t *testing.T) *cosigner {
	t.Helper()
	program := os.Getenv("SEAWORTHY_COSIGN")
	if program == "" {
		t.Skip("SEAWORTHY_COSIGN is not set")
	}
	return &cosigner{t: t, program: program, home: t.TempDir()}
}

func (c *cosigner) verify(image imageref.Ref, predicateType string, flags ...string) (string, error) {
	c.t.Helper()
	args := append([]string{"verify-attestation", "--type", predicateType, "--allow-http-registry"}, flags...)
	cmd := exec.CommandContext(c.t.Context(), c.program, append(args, image.String())...)
	cmd.Env = append(os.Environ(), "HOME="+c.home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestInterop_Keyless has the real Fulcio, Rekor v2, timestamp authority and certificate
// transparency log behind the signer, and the real cosign and sigstore-go before it.
func TestInterop_Keyless(t *testing.T) {
	s := sigstoretest.Real(t)
	cosign := newCosigner(t)
	f := newFleet(t)
	f.useSigstore(s, app.WitnessLog, app.WitnessTimestamp)
	f.start()
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	f.nextAttested()
	f.checkBoth(image, true)
	if i := f.trustBundle().GetIdentities(); len(i) != 1 || !i[0].GetSct() {
		t.Errorf("readers are not told that the certificates are logged: %v", i)
	}
	f.eventually("the certificates in the log's tree", func() bool { return s.Certificates(t) == len(evidenceTypes) })

	keyFile := filepath.Join(f.cfg.Keystore.Dir, keystore.PublicFile)
	root := filepath.Join(cosign.home, "trusted_root.json")
	if err := os.WriteFile(root, []byte(f.trustBundle().GetTrustedRootJson()), 0o600); err != nil {
		t.Fatal(err)
	}
	whom := func(issuer, subject string) []string { return keylessFlags(issuer, subject, root) }
	byKey := []string{"--key", keyFile, "--trusted-root", root, "--use-signed-timestamps"}
	for _, predicateType := range evidenceTypes {
		for name, flags := range map[string][]string{
			"keyless":                whom(s.URL, certified),
			"keyless without a log":  append(whom(s.URL, certified), "--insecure-ignore-tlog=true"),
			"key, log and timestamp": byKey,
		} {
			if out, err := cosign.verify(image, predicateType, flags...); err != nil || !strings.Contains(out, `"payload"`) {
				t.Errorf("cosign refuses %s, %s: %v\n%s", predicateType, name, err, out)
			}
		}
		for name, flags := range map[string][]string{
			"subject": whom(s.URL, "other@seaworthy.test"),
			"issuer":  whom("https://other.example", certified),
		} {
			if out, err := cosign.verify(image, predicateType, flags...); err == nil {
				t.Errorf("cosign accepts %s of another %s:\n%s", predicateType, name, out)
			}
		}
	}
	sigstoreGoVerifies(t, f, image, s.URL)
}

// keylessFlags tell cosign whom to believe. It asks for an SCT without being told.
func keylessFlags(issuer, subject, trustedRoot string) []string {
	return []string{
		"--certificate-oidc-issuer", issuer, "--certificate-identity", subject,
		"--trusted-root", trustedRoot, "--use-signed-timestamps",
	}
}

// sigstoreGoVerifies uses sigstore-go with its own defaults for such a Sigstore and
// nothing of ours but the trusted root.
func sigstoreGoVerifies(t *testing.T, f *fleet, image imageref.Ref, issuer string) {
	t.Helper()
	trusted, err := root.NewTrustedRootFromJSON([]byte(f.trustBundle().GetTrustedRootJson()))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := verify.NewVerifier(trusted, verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1), verify.WithSignedCertificateTimestamps(1))
	if err != nil {
		t.Fatal(err)
	}
	whom, err := verify.NewShortCertificateIdentity(issuer, "", certified, "")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := hex.DecodeString(strings.TrimPrefix(image.Digest, "sha256:"))
	if err != nil {
		t.Fatal(err)
	}
	referred, err := attest.Fetch(t.Context(), f.registry.Client(), image, attest.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	verified := 0
	for _, r := range referred {
		b := &bundle.Bundle{}
		if err := b.UnmarshalJSON(r.Bundle); err != nil {
			t.Fatal(err)
		}
		if b.GetVerificationMaterial().GetCertificate() == nil {
			continue
		}
		if _, err := verifier.Verify(b, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), verify.WithCertificateIdentity(whom))); err != nil {
			t.Errorf("sigstore-go refuses %s: %v", r.Digest, err)
			continue
		}
		verified++
	}
	if verified != len(evidenceTypes) {
		t.Errorf("sigstore-go verified %d", verified)
	}
}

// TestInterop_KeylessEveryPredicate has cosign verify each predicate type that there is,
// of an index and of a platform, by the certificate's identity, with the log and without.
func TestInterop_KeylessEveryPredicate(t *testing.T) {
	s := sigstoretest.Real(t)
	cosign := newCosigner(t)
	f := newFleet(t)
	f.useSigstore(s, app.WitnessLog, app.WitnessTimestamp)
	f.cfg.Identities = f.cfg.Identities[1:]
	f.cfg.SBOM.Formats = []core.SBOMFormat{core.SPDXJSON, core.CycloneDXJSON}
	f.start()
	index, manifests := f.registry.PushIndex("team/multi", 1)
	f.publish(events.Scanner, "1", f.scanned("scan-1", index, manifests...))
	f.nextAttested()
	f.publish(events.Verifier, "2", f.verdict(verifierv1.Verdict_STATE_PASS, index, manifests...))
	f.publish(events.Verifier, "3", f.excepted(index))
	verdicts := []string{core.PredicateVSA, core.PredicateOpenVEX}
	want := map[imageref.Ref][]string{
		index:        append([]string{core.PredicateReference}, verdicts...),
		manifests[0]: slices.Concat(evidenceTypes, []string{core.PredicateCycloneDX}, verdicts),
	}
	for image, types := range want {
		f.eventually("all of "+image.Digest, func() bool { return slices.Equal(slices.Compact(f.types(image)), sorted(types)) })
	}
	root := filepath.Join(cosign.home, "trusted_root.json")
	if err := os.WriteFile(root, []byte(f.trustBundle().GetTrustedRootJson()), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := keylessFlags(s.URL, certified, root)
	for image, types := range want {
		for _, predicateType := range types {
			for _, log := range []string{"--insecure-ignore-tlog=false", "--insecure-ignore-tlog=true"} {
				if out, err := cosign.verify(image, predicateType, append(slices.Clone(flags), log)...); err != nil || !strings.Contains(out, `"payload"`) {
					t.Errorf("cosign %s refuses %s of %s: %v\n%s", log, predicateType, image, err, out)
				}
			}
		}
	}
}

// TestInterop_FrozenRekor stops the real Rekor in the middle of whatever it does.
// No worker waits for it past its deadline, nothing is attached meanwhile, and
// what was to be attached is when it goes on.
func TestInterop_FrozenRekor(t *testing.T) {
	s := sigstoretest.Real(t)
	f := newFleet(t)
	f.Config.MaxDeliver = 1000
	f.useSigstore(s, app.WitnessLog, app.WitnessTimestamp)
	const deadline = 3 * time.Second
	f.cfg.Sigstore.Rekor.Timeout, f.cfg.Sigstore.Rekor.Attempts = deadline, 1
	f.cfg.Sigstore.Rekor.MaxFailures, f.cfg.Sigstore.Rekor.Cooldown = 2, time.Second
	f.cfg.Concurrency = 1
	f.start()
	ready := f.registry.PushImage("team/ready")
	f.publish(events.Scanner, "1", f.scanned("scan-1", ready, ready))
	f.nextAttested()

	s.Rekor.Freeze()
	// One worker: while it waits for the log nobody serves the second image either.
	// That its turn comes proves that the first was let go.
	first, second := f.registry.PushImage("team/first"), f.registry.PushImage("team/second")
	start := time.Now()
	asked := f.fakes.watchScans()
	f.publish(events.Scanner, "2", f.scanned("scan-2", first, first))
	f.publish(events.Scanner, "3", f.scanned("scan-3", second, second))
	for seen := map[string]bool{}; len(seen) < 2; {
		select {
		case id := <-asked:
			seen[id] = true
		case <-time.After(patience):
			t.Fatal("the worker is stuck")
		}
	}
	if took := time.Since(start); took > 5*deadline {
		t.Errorf("the second image's turn came after %v, the deadline is %v", took, deadline)
	}
	for _, image := range []imageref.Ref{first, second} {
		if got := f.types(image); len(got) != 0 {
			t.Errorf("attached while the log was frozen: %v", got)
		}
	}
	s.Rekor.Thaw()
	f.nextAttested()
	f.nextAttested()
	f.checkBoth(first, true)
	f.checkBoth(second, true)
	if letters := f.deadLetters(); len(letters) != 0 {
		t.Errorf("dead letters: %v", letters)
	}
}
