package policykit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/app/policykit"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
)

func kit(t *testing.T) *policykit.Kit {
	t.Helper()
	k, err := policykit.New()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestDocumentedExample runs the worked example of docs/policies.md as it stands there.
func TestDocumentedExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	written := 0
	for i, part := range strings.Split(string(text), "```") {
		name, ok := strings.CutPrefix(part, "yaml\n# ")
		if i%2 == 0 || !ok {
			continue
		}
		name, _, _ = strings.Cut(name, "\n")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.TrimPrefix(part, "yaml\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		written++
	}
	if written != 2 {
		t.Fatalf("%d files in the documentation", written)
	}
	writeRecorded(t, filepath.Join(dir, "ledger.json"))
	k := kit(t)
	data, err := os.ReadFile(filepath.Join(dir, "shop.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if docs, err := k.Check("shop.yaml", data); err != nil || len(docs) != 1 || docs[0].Name != "shop" || docs[0].Rules != 2 {
		t.Errorf("check: %+v, %v", docs, err)
	}
	got, err := k.Test(t.Context(), filepath.Join(dir, "shop-test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := []policykit.Result{
		{Name: "ours is refused", State: "FAIL"}, {Name: "that of the base image is not ours", State: "PASS"},
		{Name: "an old scan", State: "UNKNOWN"}, {Name: "the image of last week", State: "FAIL"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("results (-want +got):\n%s", d)
	}
}

func writeRecorded(t *testing.T, file string) {
	t.Helper()
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	ref := imageref.Ref{Registry: "registry.example", Repository: "shop/ledger", Tag: "1.4.0", Digest: "sha256:" + strings.Repeat("a", 64)}
	source := core.Attestation{PredicateType: core.PredicateReport, KeyID: "k", SignTime: at.Add(-time.Hour)}
	data, err := record.EncodeImage(ref, at, []core.PlatformEvidence{{
		Digest: ref.Digest, Attestations: []core.Attestation{source},
		Report: &core.Report{Source: source, AdvisoryTime: at, Findings: []core.Finding{
			{ID: "CVE-2", SeverityRank: core.SeverityCritical, Severity: "CRITICAL", Package: "p", FixedVersions: []string{"2"}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	k := kit(t)
	dir := t.TempDir()
	write := func(text string) string {
		t.Helper()
		file := filepath.Join(dir, "t.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const head = "apiVersion: seaworthy.dev/v1\nkind: PolicyTest\nspec:\n  policies: [\"pack:baseline\"]\n  cases:\n"
	for name, tc := range map[string]struct{ text, want string }{
		"no pack":         {strings.Replace(head, "baseline", "none", 1) + "    - {name: a, facts: {}, expect: {state: PASS}}\n", "there is no policy pack"},
		"no file":         {strings.Replace(head, "pack:baseline", "none.yaml", 1) + "    - {name: a, facts: {}, expect: {state: PASS}}\n", "none.yaml"},
		"no recording":    {head + "    - {name: a, recorded: none.json, expect: {state: PASS}}\n", "none.json"},
		"no recorded one": {head + "    - {name: a, recorded: t.yaml, expect: {state: PASS}}\n", "decode recorded image"},
	} {
		if _, err := k.Test(t.Context(), write(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := k.Test(t.Context(), filepath.Join(dir, "gone.yaml")); err == nil {
		t.Error("a test file that is not there was run")
	}
	if len(policykit.Packs()) != 4 {
		t.Errorf("packs: %v", policykit.Packs())
	}
	for _, p := range policykit.Packs() {
		data, err := policykit.Pack(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Check(p, data); err != nil {
			t.Error(err)
		}
	}
}
