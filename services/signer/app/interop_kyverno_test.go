package app_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
)

var kyvernoSummary = regexp.MustCompile(`pass: (\d+), fail: (\d+), warn: 0, error: 0, skip: 0`)

// kyverno decides about a pod with the image as it would in a cluster with a policy that
// wants attestations of a type by a key. It also returns what was said.
func kyverno(t *testing.T, program string, image imageref.Ref, predicateType, key string) (admits bool, said string) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, doc map[string]any) string {
		text, err := json.Marshal(doc) // JSON is YAML
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type list = []any
	type doc = map[string]any
	policy := file("policy.yaml", doc{
		"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": doc{"name": "seaworthy"},
		"spec": doc{"background": false, "rules": list{doc{
			"name":  "evidence",
			"match": doc{"any": list{doc{"resources": doc{"kinds": list{"Pod"}}}}},
			"verifyImages": list{doc{
				"type": "SigstoreBundle", "imageReferences": list{"*"}, "failureAction": "Enforce", "mutateDigest": false,
				"attestations": list{doc{"type": predicateType, "attestors": list{doc{"entries": list{doc{
					// There are no logs behind a plain key.
					"keys": doc{"publicKeys": key, "rekor": doc{"url": "https://rekor.example", "ignoreTlog": true}, "ctlog": doc{"ignoreSCT": true}},
				}}}}}},
			}},
		}}},
	})
	pod := file("pod.yaml", doc{
		"apiVersion": "v1", "kind": "Pod", "metadata": doc{"name": "app", "namespace": "default"},
		"spec": doc{"containers": list{doc{"name": "app", "image": image.String()}}},
	})
	cmd := exec.CommandContext(t.Context(), program, "apply", policy, "--resource", pod, "--registry")
	cmd.Env = append(os.Environ(), "HOME="+dir)
	out, _ := cmd.CombinedOutput() // its summary says more than its status
	found := kyvernoSummary.FindStringSubmatch(string(out))
	refuses := strings.Contains(string(out), "image attestations verification failed")
	if found == nil || (found[1] != "0") == refuses || (found[2] != "0") != refuses {
		t.Fatalf("Kyverno did not decide:\n%s", out)
	}
	return !refuses, string(out)
}

// TestInterop_Kyverno has the program of Kyverno decide about an image by the bundles
// that the signer attached to it.
func TestInterop_Kyverno(t *testing.T) {
	program := os.Getenv("SEAWORTHY_KYVERNO")
	if program == "" {
		t.Skip("SEAWORTHY_KYVERNO is not set; `make test-interop-admission` builds it and sets it")
	}
	f := newFleet(t)
	f.start()
	image, unsigned := f.registry.PushImage("team/app"), f.registry.PushImage("team/unsigned")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	f.nextAttested()
	ours := f.trustBundle().GetKeys()[0].GetPublicKeyPem()
	dir := t.TempDir()
	if _, err := keystore.Open(dir, []byte("password"), true); err != nil {
		t.Fatal(err)
	}
	stranger, err := os.ReadFile(filepath.Join(dir, keystore.PublicFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		image  imageref.Ref
		types  []string
		key    string
		admits bool
	}{
		{"our key", image, evidenceTypes, ours, true},
		{"another key", image, evidenceTypes, string(stranger), false},
		{"what was not attached", image, []string{core.PredicateVSA}, ours, false},
		{"an image that nobody signed", unsigned, evidenceTypes[:1], ours, false},
	} {
		for _, predicateType := range tt.types {
			admits, said := kyverno(t, program, tt.image, predicateType, tt.key)
			t.Logf("%s, %s: admits %v", tt.name, predicateType, admits)
			if admits != tt.admits {
				t.Errorf("%s, %s: Kyverno says\n%s", tt.name, predicateType, said)
			}
		}
	}
}
