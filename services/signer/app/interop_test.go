package app_test

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/registrytest"
)

// TestInterop_CosignVerifies has the real cosign verify all that the signer
// attaches with nothing but the key file beside the key store, and refuse it with
// another key. SEAWORTHY_COSIGN names the program.
func TestInterop_CosignVerifies(t *testing.T) {
	cosign := os.Getenv("SEAWORTHY_COSIGN")
	if cosign == "" {
		t.Skip("SEAWORTHY_COSIGN is not set")
	}
	for _, algorithm := range []keystore.Algorithm{keystore.ECDSAP256, keystore.Ed25519} {
		t.Run(string(algorithm), func(t *testing.T) { cosignVerifies(t, cosign, algorithm, false) })
	}
	t.Run("referrers API", func(t *testing.T) { cosignVerifies(t, cosign, keystore.ECDSAP256, true) })
}

func cosignVerifies(t *testing.T, cosign string, algorithm keystore.Algorithm, referrersAPI bool) {
	t.Helper()
	f := newFleet(t)
	f.registry = registrytest.Start(t, referrersAPI)
	f.cfg.Registry.Config = f.registry.Config()
	f.cfg.Keystore.Dir, f.cfg.Keystore.Algorithm, f.cfg.Keystore.Generate = t.TempDir(), algorithm, true
	f.cfg.Registry.LegacyAttTag = true
	f.cfg.SBOM.Formats = []core.SBOMFormat{core.SPDXJSON, core.CycloneDXJSON}
	f.start()
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	f.nextAttested()
	f.publish(events.Verifier, "2", f.verdict(verifierv1.Verdict_STATE_PASS, image, image))
	f.publish(events.Verifier, "3", f.excepted(image))
	all := slices.Concat(evidenceTypes, []string{core.PredicateCycloneDX, core.PredicateVSA, core.PredicateOpenVEX})
	f.eventually("the verdict", func() bool { return slices.Equal(slices.Compact(f.types(image)), sorted(all)) })

	dir := t.TempDir()
	if _, err := keystore.Open(dir, []byte("password"), true); err != nil {
		t.Fatal(err)
	}
	// Without a trusted root of its own cosign asks the public one on the internet.
	root := filepath.Join(dir, "trusted_root.json")
	if err := os.WriteFile(root, []byte(f.trustBundle().GetTrustedRootJson()), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(key, predicateType string, more ...string) (string, error) {
		args := append([]string{"verify-attestation", "--key", key, "--type", predicateType, "--insecure-ignore-tlog=true", "--allow-http-registry"}, more...)
		cmd := exec.CommandContext(t.Context(), cosign, append(args, image.String())...)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	ours, other := filepath.Join(f.cfg.Keystore.Dir, keystore.PublicFile), filepath.Join(dir, keystore.PublicFile)
	// What cosign has a short name for is asked for by that.
	short := map[string]string{core.PredicateSPDX: "spdxjson", core.PredicateCosignVuln: "vuln", core.PredicateOpenVEX: "openvex", core.PredicateCycloneDX: "cyclonedx"}
	for _, predicateType := range all {
		predicateType = cmp.Or(short[predicateType], predicateType)
		// The second form is what cosign read before v3.
		for _, form := range [][]string{{"--trusted-root", root}, {"--new-bundle-format=false"}} {
			if out, err := verify(ours, predicateType, form...); err != nil || !strings.Contains(out, `"payload"`) {
				t.Errorf("cosign %s refuses %s: %v\n%s", form[0], predicateType, err, out)
			}
			if out, err := verify(other, predicateType, form...); err == nil {
				t.Errorf("cosign %s accepts %s with another key:\n%s", form[0], predicateType, out)
			}
		}
	}
}
