package app_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/signer/app"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

// admission is Sigstore's policy-controller, which decides about images in a cluster,
// run by its own program for trying policies.
type admission struct {
	t            *testing.T
	program, dir string
}

// policy decides about an image as a ClusterImagePolicy with that authority would: nil
// admits it.
func (a *admission) policy(image imageref.Ref, predicateType string, authority map[string]any, trust string) error {
	a.t.Helper()
	authority["name"] = "seaworthy"
	authority["attestations"] = []any{map[string]any{"name": "wanted", "predicateType": predicateType}}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "policy.sigstore.dev/v1alpha1", "kind": "ClusterImagePolicy", "metadata": map[string]any{"name": "seaworthy"},
		"spec": map[string]any{"images": []any{map[string]any{"glob": "**"}}, "authorities": []any{authority}},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	file := filepath.Join(a.dir, "policy.yaml") // JSON is YAML
	if err := os.WriteFile(file, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	cmd := exec.CommandContext(a.t.Context(), a.program, "-log-level", "error", "-trustroot", trust, "-policy", file, "-image", image.String())
	cmd.Env = append(os.Environ(), "HOME="+a.dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if err == nil {
		return nil
	}
	var refusal struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(out.Bytes(), &refusal) != nil || len(refusal.Errors) == 0 {
		a.t.Fatalf("policy-controller did not decide: %v\n%s%s", err, out.String(), errs.String())
	}
	return fmt.Errorf("%s", strings.Join(refusal.Errors, "; "))
}

// trustRoot is our trusted_root.json as the resource that policy-controller wants.
func (a *admission) trustRoot(trusted string) string {
	a.t.Helper()
	type authority struct {
		URI   string `json:"uri"`
		Chain struct {
			Certificates []struct {
				Raw []byte `json:"rawBytes"`
			} `json:"certificates"`
		} `json:"certChain"`
	}
	var root struct {
		Signing  []authority `json:"certificateAuthorities"`
		Stamping []authority `json:"timestampAuthorities"`
	}
	if err := json.Unmarshal([]byte(trusted), &root); err != nil {
		a.t.Fatal(err)
	}
	chains := func(from []authority) []any {
		var out []any
		for _, one := range from {
			var chain []byte
			for _, c := range one.Chain.Certificates {
				chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
			}
			out = append(out, map[string]any{
				"uri": one.URI, "certChain": chain, "subject": map[string]any{"organization": "seaworthy.test", "commonName": "seaworthy.test"},
			})
		}
		return out
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "policy.sigstore.dev/v1alpha1", "kind": "TrustRoot", "metadata": map[string]any{"name": "seaworthy"},
		"spec": map[string]any{"sigstoreKeys": map[string]any{
			"certificateAuthorities": chains(root.Signing), "timestampAuthorities": chains(root.Stamping),
		}},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	file := filepath.Join(a.dir, "trustroot.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// TestInterop_PolicyController has Sigstore's admission controller decide about an image
// that the signer signed: by its key, in the older form, which is the one that it reads
// of keys, and keyless in bundles.
func TestInterop_PolicyController(t *testing.T) {
	program := os.Getenv("SEAWORTHY_POLICY_TESTER")
	if program == "" {
		t.Skip("SEAWORTHY_POLICY_TESTER is not set; `make test-interop-admission` builds it and sets it")
	}
	s := sigstoretest.Small(t)
	f := newFleet(t)
	f.useSigstore(s, app.WitnessTimestamp)
	f.cfg.Registry.LegacyAttTag = true
	f.start()
	image := f.registry.PushImage("team/app")
	unsigned := f.registry.PushImage("team/unsigned")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	f.nextAttested()

	a := &admission{t: t, program: program, dir: t.TempDir()}
	trust := a.trustRoot(f.trustBundle().GetTrustedRootJson())
	key := func(text string) func() map[string]any {
		return func() map[string]any {
			return map[string]any{"key": map[string]any{"data": text, "hashAlgorithm": "sha256"}}
		}
	}
	keyless := func(issuer, subject string) func() map[string]any {
		return func() map[string]any {
			return map[string]any{
				"signatureFormat": "bundle",
				"keyless": map[string]any{
					// There is no log of certificates.
					"url": s.URL, "trustRootRef": "seaworthy", "insecureIgnoreSCT": true,
					"identities": []any{map[string]any{"issuer": issuer, "subject": subject}},
				},
				"rfc3161timestamp": map[string]any{"trustRootRef": "seaworthy"},
			}
		}
	}
	if _, err := keystore.Open(a.dir, []byte("password"), true); err != nil {
		t.Fatal(err)
	}
	stranger, err := os.ReadFile(filepath.Join(a.dir, keystore.PublicFile))
	if err != nil {
		t.Fatal(err)
	}
	ours := key(f.trustBundle().GetKeys()[0].GetPublicKeyPem())
	bundleByKey := func() map[string]any {
		authority := ours()
		authority["signatureFormat"] = "bundle"
		return authority
	}
	tests := []struct {
		name      string
		image     imageref.Ref
		types     []string
		authority func() map[string]any
		admits    bool
	}{
		{"our key", image, evidenceTypes, ours, true},
		{"our identity", image, evidenceTypes, keyless(s.URL, certified), true},
		// What it cannot do in this version, and what the older form is for.
		{"our key, bundle", image, evidenceTypes[:1], bundleByKey, false},
		{"another key", image, evidenceTypes, key(string(stranger)), false},
		{"another subject", image, evidenceTypes, keyless(s.URL, "other@seaworthy.test"), false},
		{"another issuer", image, evidenceTypes, keyless("https://other.example", certified), false},
		{"what was not attached, key", image, []string{core.PredicateVSA}, ours, false},
		{"what was not attached, identity", image, []string{core.PredicateVSA}, keyless(s.URL, certified), false},
		{"an image that nobody signed, key", unsigned, evidenceTypes[:1], ours, false},
		{"an image that nobody signed, identity", unsigned, evidenceTypes[:1], keyless(s.URL, certified), false},
	}
	for _, tt := range tests {
		for _, predicateType := range tt.types {
			err := a.policy(tt.image, predicateType, tt.authority(), trust)
			answer := "admits"
			if err != nil {
				answer, _, _ = strings.Cut("refuses: "+err.Error(), "\n")
			}
			t.Logf("%s, %s: %s", tt.name, predicateType, answer)
			if (err == nil) != tt.admits {
				t.Errorf("%s, %s: policy-controller says %v", tt.name, predicateType, err)
			}
		}
	}
}
