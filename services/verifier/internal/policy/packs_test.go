package policy

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

const provenanceType = "https://slsa.dev/provenance/v1"

func provenance(builder string, change func(map[string]any)) func(*core.Facts) {
	return func(f *core.Facts) {
		p := map[string]any{
			"buildDefinition": map[string]any{
				"buildType":            "https://actions.github.io/buildtypes/workflow/v1",
				"resolvedDependencies": []any{map[string]any{"uri": "git+https://github.com/shop/ledger", "digest": map[string]any{"gitCommit": "abc"}}},
			},
			"runDetails": map[string]any{"builder": map[string]any{"id": builder}},
		}
		if change != nil {
			change(p)
		}
		f.Attestations = append(f.Attestations, core.Attestation{PredicateType: provenanceType, ManifestDigest: "sha256:dd", Predicate: p})
	}
}

// TestPacks breaks every rule of every pack at least once.
func TestPacks(t *testing.T) {
	t.Parallel()
	finding := func(change func(*core.Finding)) func(*core.Facts) {
		return func(f *core.Facts) { change(&f.Findings[0]) }
	}
	secret := func(f *core.Facts) {
		f.Image.Secrets = []core.Secret{{Kind: "private-key", Location: "root/.ssh/id_rsa"}}
	}
	const github = "https://github.com/actions/runner/github-hosted"
	tests := map[string]map[string]struct {
		change func(*core.Facts)
		broken []string
	}{
		"strict": {
			"clean":     {func(*core.Facts) {}, nil},
			"exploited": {finding(func(f *core.Finding) { f.KEV = true }), []string{"no-known-exploited"}},
			"critical without fix": {finding(func(f *core.Finding) {
				f.SeverityRank, f.FixedVersions = core.SeverityCritical, nil
			}), []string{"no-critical"}},
			"fixable high":        {finding(func(f *core.Finding) { f.SeverityRank = core.SeverityHigh }), []string{"no-fixable-high"}},
			"likely exploited":    {finding(func(f *core.Finding) { f.EPSS = 0.7 }), []string{"no-likely-exploited"}},
			"root":                {func(f *core.Facts) { f.Image.User, f.Image.NonRoot = "root:root", false }, []string{"not-root"}},
			"old debian":          {func(f *core.Facts) { distro(f, "debian", "9.13") }, []string{"supported-distribution"}},
			"secret in variables": {func(f *core.Facts) { f.Image.EnvNames = []string{"PATH", "db_password"} }, []string{"no-secret-variables"}},
			"old":                 {func(f *core.Facts) { f.Image.Created = f.Now.Add(-200 * 24 * time.Hour) }, []string{"built-recently"}},
			"support has ended":   {func(f *core.Facts) { f.Image.DistroEndTime = f.Now }, []string{"supported-distribution"}},
			"supported by date": {func(f *core.Facts) {
				f.Image.Distro, f.Image.DistroEndTime = core.Distro{ID: "debian", Version: "9.13"}, f.Now.Add(time.Hour)
			}, nil},
			"credential":      {secret, []string{"no-secrets"}},
			"setuid":          {func(f *core.Facts) { f.Image.SetuidFiles = []string{"usr/bin/su"} }, []string{"no-setuid"}},
			"package manager": {func(f *core.Facts) { f.Image.PackageManagers = []string{"apk"} }, []string{"no-package-managers"}},
			"shell":           {func(f *core.Facts) { f.Image.Shells = []string{"bin/sh"} }, []string{"no-shells"}},
		},
		"slsa-provenance": {
			"none is for require": {func(*core.Facts) {}, nil},
			"github":              {provenance(github, nil), nil},
			"own machine":         {provenance("https://laptop.example/", nil), []string{"trusted-builder"}},
			"no builder":          {provenance("", nil), []string{"builder-named", "trusted-builder"}},
			"no run details":      {provenance(github, func(p map[string]any) { delete(p, "runDetails") }), []string{"builder-named", "trusted-builder"}},
			"no build definition": {provenance(github, func(p map[string]any) { delete(p, "buildDefinition") }), []string{"build-type-named", "source-named"}},
			"source by name alone": {provenance(github, func(p map[string]any) {
				p["buildDefinition"].(map[string]any)["resolvedDependencies"] = []any{map[string]any{"uri": "x"}}
			}), []string{"source-named"}},
			"a bad one beside a good one": {func(f *core.Facts) {
				provenance(github, nil)(f)
				provenance("https://laptop.example/", nil)(f)
			}, []string{"trusted-builder"}},
		},
		"nist-800-190": {
			"clean":             {func(*core.Facts) {}, nil},
			"exploited":         {finding(func(f *core.Finding) { f.KEV = true }), []string{"image-vulnerabilities"}},
			"root":              {func(f *core.Facts) { f.Image.User, f.Image.NonRoot = "0", false }, []string{"image-not-root"}},
			"ssh port":          {func(f *core.Facts) { f.Image.ExposedPorts = []string{"22/tcp"} }, []string{"image-no-remote-administration"}},
			"ssh server":        {func(f *core.Facts) { f.Packages[0].Name = "openssh-server" }, []string{"image-no-remote-administration"}},
			"old ubuntu":        {func(f *core.Facts) { distro(f, "ubuntu", "14.04") }, []string{"image-supported-base"}},
			"old":               {func(f *core.Facts) { f.Image.Created = time.Unix(0, 0) }, []string{"image-rebuilt"}},
			"secret":            {func(f *core.Facts) { f.Image.EnvNames = []string{"API_KEY"} }, []string{"image-no-clear-text-secrets"}},
			"support has ended": {func(f *core.Facts) { f.Image.DistroEndTime = f.Now.Add(-time.Hour) }, []string{"image-supported-base"}},
			"credential":        {secret, []string{"image-no-secrets"}},
			"setuid":            {func(f *core.Facts) { f.Image.SetuidFiles = []string{"usr/bin/su"} }, []string{"image-no-setuid"}},
			"package manager":   {func(f *core.Facts) { f.Image.PackageManagers = []string{"apk"} }, []string{"image-no-package-managers"}},
			"shell":             {func(f *core.Facts) { f.Image.Shells = []string{"bin/sh"} }, []string{"image-no-shells"}},
		},
	}
	for pack, cases := range tests {
		set := parsePack(t, pack)
		never := map[string]bool{}
		for _, r := range set.Rules {
			never[r.Name] = true
		}
		for name, tc := range cases {
			f := facts()
			tc.change(f)
			var broken []string
			for _, r := range set.Rules {
				holds, _, err := r.Check.Evaluate(t.Context(), f)
				if err != nil {
					t.Errorf("%s, %s: rule %s: %v", pack, name, r.Name, err)
				}
				if !holds {
					broken = append(broken, r.Name)
					delete(never, r.Name)
				}
			}
			if d := cmp.Diff(tc.broken, broken, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("%s, %s: broken rules (-want +got):\n%s", pack, name, d)
			}
		}
		if len(never) > 0 {
			t.Errorf("%s: no case breaks %v", pack, never)
		}
	}
}

// distro makes the image one of a distribution whose end is not known.
func distro(f *core.Facts, id, version string) {
	f.Image.Distro, f.Image.DistroEndTime = core.Distro{ID: id, Version: version}, time.Unix(0, 0)
}

func parsePack(t *testing.T, name string) Policy {
	t.Helper()
	data, err := Pack(name)
	if err != nil {
		t.Fatal(err)
	}
	set, err := newLoader(t).Parse(name, data)
	if err != nil {
		t.Fatal(err)
	}
	if len(set) != 1 || set[0].Name != name {
		t.Fatalf("pack %s holds %d policies, the first is %s", name, len(set), set[0].Name)
	}
	return set[0]
}

// TestShippedCopies keeps deploy/policies equal to the built-in packs.
func TestShippedCopies(t *testing.T) {
	t.Parallel()
	const dir = "../../../../deploy/policies"
	want := []string{"baseline", "nist-800-190", "slsa-provenance", "strict"}
	if d := cmp.Diff(want, Packs()); d != "" {
		t.Errorf("packs (-want +got):\n%s", d)
	}
	for _, name := range Packs() {
		shipped, err := os.ReadFile(dir + "/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		pack, err := Pack(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(shipped, pack) {
			t.Errorf("deploy/policies/%s.yaml and internal/policy/packs/%s.yaml differ; copy one over the other", name, name)
		}
	}
	files, err := Source{Dir: dir}.Read()
	if err != nil {
		t.Fatal(err)
	}
	set, err := newLoader(t).ParseFiles(files)
	if err != nil || len(set) != len(want) {
		t.Errorf("load %s: %d policies, %v", dir, len(set), err)
	}
	if _, err := Pack("nope"); err == nil || !strings.Contains(err.Error(), "strict") {
		t.Errorf("a pack that does not exist: %v", err)
	}
}
