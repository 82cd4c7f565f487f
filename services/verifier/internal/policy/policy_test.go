package policy

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

func newLoader(tb testing.TB) *Loader {
	tb.Helper()
	l, err := NewLoader()
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

const head = `apiVersion: seaworthy.dev/v1
kind: Policy
metadata:
  name: demo
spec:
  match:
    repositories: ["**"]
  rules:
`

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	rule := func(expression string) string {
		return head + "    - name: r\n      message: m\n      severity: deny\n      expression: " + expression + "\n"
	}
	spec := func(lines string) string {
		return strings.Replace(rule("true"), "  rules:\n", lines+"\n  rules:\n", 1)
	}
	keyA := strings.Repeat("ab", 32)
	tests := map[string]struct{ doc, want string }{
		"unknown field": {
			doc:  strings.Replace(rule("true"), "  match:", "  matches: 1\n  match:", 1),
			want: "p.yaml:6:3: spec.matches: unknown field; there are match, environments,",
		},
		"duplicate field": {
			doc:  strings.Replace(rule("true"), "kind: Policy", "kind: Policy\nkind: Policy", 1),
			want: "p.yaml:3:1: kind: the field is there already in line 2",
		},
		"wrong kind":        {doc: strings.Replace(rule("true"), "kind: Policy", "kind: Pod", 1), want: "p.yaml:2:7: kind: must be Policy"},
		"wrong apiVersion":  {doc: strings.Replace(rule("true"), "dev/v1", "dev/v9", 1), want: "p.yaml:1:13: apiVersion: must be seaworthy.dev/v1"},
		"bad name":          {doc: strings.Replace(rule("true"), "name: demo", "name: De mo", 1), want: "p.yaml:4:9: metadata.name: must be"},
		"no rules":          {doc: strings.Replace(head, "  rules:\n", "", 1), want: "p.yaml:1:1: spec.rules: 1 to 100 rules are needed"},
		"no globs":          {doc: strings.Replace(rule("true"), `["**"]`, "[]", 1), want: "spec.match.repositories: at least one glob"},
		"bad glob":          {doc: strings.Replace(rule("true"), `"**"`, `"a b"`, 1), want: `p.yaml:7:20: spec.match.repositories[0]: invalid pattern "a b"`},
		"bad severity":      {doc: strings.Replace(rule("true"), "deny", "fatal", 1), want: `p.yaml:11:17: spec.rules[0].severity: rule "r": must be deny or warn`},
		"same rule name":    {doc: rule("true") + "    - {name: r, message: m, severity: deny, expression: 'true'}\n", want: `p.yaml:13:14: spec.rules[1].name: the name "r" is used by another rule`},
		"list for a text":   {doc: strings.Replace(rule("true"), "message: m", "message: [m]", 1), want: "p.yaml:10:16: spec.rules[0].message: a text is expected here"},
		"not bool":          {doc: rule("findings.size()"), want: "p.yaml:12:19: spec.rules[0].expression: the expression gives int, it must give bool"},
		"misspelt severity": {doc: rule("findings.all(f, f.severity_rank < CRITCAL)"), want: "undeclared reference to 'CRITCAL'"},
		"unknown variable": {
			doc: rule("findngs.all(f, !f.kev)"),
			want: "p.yaml:12:19: spec.rules[0].expression: undeclared reference to 'findngs' (did you mean 'findings'?)\n" +
				"    findngs.all(f, !f.kev)\n" +
				"    ^",
		},
		"unknown field of a finding": {
			doc: rule("findings.all(f, !f.kevv)"),
			want: "p.yaml:12:37: spec.rules[0].expression: undefined field 'kevv'\n" +
				"    findings.all(f, !f.kevv)\n" +
				"                      ^",
		},
		"tag": {
			doc:  rule("'!(image.tag in [\"latest\"])'"),
			want: "p.yaml:12:27: spec.rules[0].expression: undefined field 'tag': a verdict is about a digest, and a tag can be moved to it without a new verdict",
		},
		"tag, if there is one": {doc: rule("has(image.tag)"), want: "so rules see no tag; use image.registry"},
		"tag in items":         {doc: rule("'true'\n      items: '[image.tag]'"), want: "so rules see no tag"},
		"reference":            {doc: rule("image.reference.contains('x')"), want: "undefined field 'reference': a verdict is about a digest"},
		"repository with tag": {
			doc:  strings.Replace(rule("true"), `["**"]`, `[r.example/app, "r.example/app:v1"]`, 1),
			want: `p.yaml:7:35: spec.match.repositories[1]: "r.example/app:v1" names a tag, and would match nothing`,
		},
		"literal block": {
			doc: rule("|\n        findings.all(f,\n          f.severity == 7)"),
			want: "p.yaml:14:22: spec.rules[0].expression: found no matching overload for '_==_' applied to '(string, int)'\n" +
				"      f.severity == 7)\n" +
				"                 ^",
		},
		"syntax":            {doc: rule("'findings.all(f, '"), want: "p.yaml:12:36: spec.rules[0].expression: Syntax error"},
		"no environment":    {doc: spec("  environments: [Prod]"), want: "p.yaml:8:18: spec.environments[0]: an environment is named by"},
		"environment twice": {doc: spec("  environments: [a, a]"), want: `p.yaml:8:21: spec.environments[1]: "a" is there twice`},
		"default":           {doc: spec("  default: allow"), want: "p.yaml:8:12: spec.default: must be deny or warn"},
		"trust in nobody":   {doc: spec("  trust: {signers: []}"), want: "spec.trust.signers: 1 to 20 signers are needed"},
		"signer without a key": {
			doc: spec("  trust: {signers: [{name: a}]}"), want: `p.yaml:8:28: spec.trust.signers[0]: signer "a": at least one key or identity is needed`,
		},
		"signer twice": {
			doc: spec("  trust: {signers: [{name: a, keys: [" + keyA + "]}, {name: a, keys: [" + keyA + "]}]}"), want: `the name "a" is used by another signer`,
		},
		"no key": {doc: spec("  trust: {signers: [{name: a, keys: [xyz]}]}"), want: `p.yaml:8:38: spec.trust.signers[0].keys[0]: signer "a": a key is the id of one`},
		"no public key": {
			doc:  spec("  trust:\n    signers:\n      - name: a\n        keys: [\"-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----\"]"),
			want: `p.yaml:11:16: spec.trust.signers[0].keys[0]: signer "a": the PEM block holds no public key`,
		},
		"identity without issuer": {
			doc: spec("  trust: {signers: [{name: a, identities: [{subject: s}]}]}"), want: `p.yaml:8:54: spec.trust.signers[0].identities[0]: signer "a": issuer or issuer_regexp must be given`,
		},
		"identity twice": {
			doc:  spec("  trust: {signers: [{name: a, identities: [{issuer: i, subject: s, subject_regexp: s}]}]}"),
			want: "only one of subject and subject_regexp may be given",
		},
		"bad pattern": {
			doc: spec("  trust: {signers: [{name: a, identities: [{issuer: i, subject_regexp: '('}]}]}"), want: "subject_regexp: error parsing regexp",
		},
		"unknown signer": {
			doc:  spec("  trust: {signers: [{name: a, keys: [" + keyA + "]}]}\n  require: [{predicate_type: x, signer: b}]"),
			want: `p.yaml:9:41: spec.require[0].signer: there is no signer "b"`,
		},
		"too expensive":     {doc: rule("findings.all(f, packages.all(p, p.name != f.package))"), want: "p.yaml:12:19: spec.rules[0].expression: the expression can cost "},
		"items not a list":  {doc: rule("'true'\n      items: '\"x\"'"), want: "p.yaml:13:14: spec.rules[0].items: the expression gives string, it must give list(string)"},
		"age of nothing":    {doc: strings.Replace(rule("true"), "  rules:", "  advisories: {max_age: 0s}\n  rules:", 1), want: "a maximum age is more than zero"},
		"age without unit":  {doc: strings.Replace(rule("true"), "  rules:", "  require: [{predicate_type: x, max_age: 30}]\n  rules:", 1), want: `p.yaml:8:42: spec.require[0].max_age: invalid duration "30"`},
		"second document":   {doc: rule("true") + "---\n# two\nkind: Policy\nspecs: 1\n", want: "p.yaml:16:1: specs: unknown field"},
		"nothing":           {doc: "# only a comment\n---\n", want: "p.yaml: the file holds no policy"},
		"too many":          {doc: strings.Repeat("---\na: b\n", MaxDocuments+1), want: "at most"},
		"too large a file":  {doc: strings.Repeat(" ", MaxFile+1), want: "more than 1048576"},
		"too large a doc":   {doc: "a: " + strings.Repeat("b", MaxDocument), want: "more than 262144"},
		"no YAML":           {doc: "a: [\n", want: "p.yaml: line"},
		"expression length": {doc: rule("'" + strings.Repeat(" ", MaxExpression) + "true'"), want: "expression code point size exceeds limit"},
	}
	l := newLoader(t)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := l.Parse("p.yaml", []byte(tc.doc))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error:\n%v\nlacks:\n%s", err, tc.want)
			}
		})
	}
}

func TestParseReportsEveryFault(t *testing.T) {
	t.Parallel()
	_, err := newLoader(t).Parse("p.yaml", []byte(head+`    - {name: one, message: m, severity: deny, expression: 'nope'}
    - {name: two, severity: deny, expression: 'true'}
`))
	if err == nil || !strings.Contains(err.Error(), "'nope'") || !strings.Contains(err.Error(), `spec.rules[1].message: rule "two"`) {
		t.Errorf("got %v", err)
	}
}

// TestTrustAndEnvironments reads a document that says who asks for it and whom it
// believes.
func TestTrustAndEnvironments(t *testing.T) {
	t.Parallel()
	set, err := newLoader(t).Parse("p.yaml", []byte(strings.Replace(head, "  rules:\n", `  environments: [stage, prod]
  trust:
    signers:
      - name: scanner
        keys:
          - abababababababababababababababababababababababababababababababab
          - |
            -----BEGIN PUBLIC KEY-----
            MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
            -----END PUBLIC KEY-----
      - name: builder
        identities:
          - issuer: https://token.actions.githubusercontent.com
            subject_regexp: https://github\.com/shop/.*
  require:
    - {predicate_type: https://slsa.dev/provenance/v1, signer: builder, max_age: 30d}
  default: warn
  rules:
`, 1)+"    - {name: r, message: m, expression: 'true'}\n    - {name: d, message: m, expression: 'true', severity: deny}\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := set[0]
	if d := cmp.Diff([]string{"prod", "stage"}, p.Environments); d != "" || !p.Rules[0].Warn || p.Rules[1].Warn {
		t.Errorf("environments (-want +got):\n%s\nrules: %+v", d, p.Rules)
	}
	scanner, builder := p.Trust.Signers[0], p.Trust.Signers[1]
	if len(scanner.KeyIDs) != 2 || len(scanner.KeyIDs[1]) != 64 || scanner.KeyIDs[0] == scanner.KeyIDs[1] {
		t.Errorf("keys: %q", scanner.KeyIDs)
	}
	for subject, want := range map[string]bool{
		"https://github.com/shop/ledger/.github/workflows/build.yaml@refs/heads/main": true,
		"https://githubXcom/shop/ledger":                                              false,
		"https://evil.example/?https://github.com/shop/ledger":                        false,
	} {
		if got := builder.Covers("https://token.actions.githubusercontent.com", subject); got != want {
			t.Errorf("%s: %t", subject, got)
		}
	}
	if builder.Covers("https://evil.example", "https://github.com/shop/ledger") || scanner.Covers("", "") {
		t.Error("another issuer is believed")
	}
	if p.Require[0].Signer != "builder" {
		t.Errorf("require: %+v", p.Require)
	}
}

func TestSeveralDocuments(t *testing.T) {
	t.Parallel()
	one := head + "    - {name: r, message: m, severity: warn, expression: 'true'}\n"
	two := strings.Replace(one, "name: demo", "name: another", 1)
	set, err := newLoader(t).Parse("p.yaml", []byte("---\n"+one+"---\n"+two))
	if err != nil {
		t.Fatal(err)
	}
	if len(set) != 2 || set[0].Name != "demo" || set[1].Name != "another" || set[0].Document != one {
		t.Errorf("got %+v", set)
	}
	if set[0].Digest == set[1].Digest || !strings.HasPrefix(set[0].Digest, "sha256:") {
		t.Errorf("digests %s and %s", set[0].Digest, set[1].Digest)
	}
	if _, err := Merge(set, set); err == nil {
		t.Error("Merge took the same name twice")
	}
}

func TestGlobs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		glob, name string
		want       bool
	}{
		{"**", "registry.example:5000/team/app", true},
		{"registry.example:5000/team/*", "registry.example:5000/team/app", true},
		{"registry.example:5000/team/*", "registry.example:5000/team/sub/app", false},
		{"*/team/**", "registry.example/team/sub/app", true},
		{"registry.example/ap?", "registry.example/app", true},
		{"registry.example/app", "registry-example/app", false},
		{"registry.example/app", "xregistry.example/apps", false},
		{"[::1]:5000/app", "[::1]:5000/app", true},
	}
	for _, tc := range tests {
		match, err := compileGlobs([]string{"never/x", tc.glob})
		if err != nil {
			t.Fatal(err)
		}
		if got := match(tc.name); got != tc.want {
			t.Errorf("%s matches %s: %t", tc.glob, tc.name, got)
		}
	}
}

// TestGlobsNameNoTag tells ports from tags.
func TestGlobsNameNoTag(t *testing.T) {
	t.Parallel()
	for glob, tag := range map[string]bool{
		"r.example/app:v1": true, "app:latest": true, "**:latest": true, "*/app:*": true, "localhost:5000/app:1": true, "**/app:**": true,
		"localhost:5000/app": false, "localhost:*/**": false, "[::1]:5000/*": false, "localhost:5**": false, "*:5000/app": false,
	} {
		_, err := Glob(glob)
		if got := err != nil && strings.Contains(err.Error(), "names a tag"); got != tag || err != nil && !tag {
			t.Errorf("%s: %v", glob, err)
		}
	}
}

// facts of an image that keeps to every rule of the baseline.
func facts() *core.Facts {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return &core.Facts{
		Image: &core.Image{
			Registry: "r.example", Repository: "app",
			Platform: "linux/amd64", User: "65532", NonRoot: true, Labels: map[string]string{"team": "core"},
			Created: now.Add(-time.Hour), EnvNames: []string{"PATH"}, ExposedPorts: []string{"8080/tcp"},
			Entrypoint: []string{"/app"}, Distro: core.Distro{ID: "alpine", Version: "3.22.1"},
			DistroEndTime: now.Add(300 * 24 * time.Hour), BaseImage: core.BaseImage{Name: "r.example/base:1", Digest: "sha256:ee", LayerCount: 2},
		},
		Packages: []core.Package{{Purl: "pkg:golang/golang.org/x/text@0.3.7", Name: "golang.org/x/text", Version: "0.3.7", Ecosystem: "Go", Licenses: []string{"BSD-3-Clause"}}},
		Findings: []core.Finding{{ID: "CVE-1", Severity: "LOW", SeverityRank: core.SeverityLow, Package: "p", Version: "1", FixedVersions: []string{"2"}, Aliases: []string{"GHSA-1"}, InBaseImage: true}},
		Attestations: []core.Attestation{
			{PredicateType: core.PredicateReport, KeyID: "k", ManifestDigest: "sha256:bb", SignTime: now.Add(-time.Minute)},
		},
		Advisories: core.Advisories{Digest: "sha256:cc", Age: time.Hour, DataTime: now.Add(-time.Hour), ExploitedKnown: true, ScoresKnown: true},
		Now:        now,
	}
}

// TestVariables holds every documented variable to its type and value.
func TestVariables(t *testing.T) {
	t.Parallel()
	expressions := []string{
		`image.registry == "r.example" && image.repository == "app"`,
		`image.platform == "linux/amd64" && image.digest == ""`,
		`image.created < now && now - image.created == duration("1h")`,
		`image.labels["team"] == "core" && !("x" in image.labels)`,
		`image.user == "65532" && image.non_root && image.entrypoint == ["/app"] && image.cmd.size() == 0`,
		`"8080/tcp" in image.exposed_ports && image.env_names.exists(e, e == "PATH")`,
		`image.distro.id == "alpine" && image.distro.version.startsWith("3.")`,
		`image.distro_end_time > now && image.base_image.name == "r.example/base:1" && image.base_image.digest == "sha256:ee" && image.base_image.layer_count == 2`,
		`image.secrets.size() == 0 && image.setuid_files.size() == 0 && image.package_managers == [] && image.shells == []`,
		`image.secrets.all(s, s.kind == "" && s.location == "" && s.layer_digest == "")`,
		`findings.all(f, f.in_base_image) && packages.all(p, !p.in_base_image) && attestations.all(a, a.identity == "" && a.issuer == "")`,
		`findings[0].id == "CVE-1" && packages[0].name == "golang.org/x/text" && findings.map(f, f)[0] == findings[0] && findings[0] in findings && findings.size() == 1`,
		`packages.exists(p, p.purl.startsWith("pkg:golang/") && p.name == "golang.org/x/text" && p.version == "0.3.7" && p.ecosystem == "Go" && p.source_name == "" && p.source_version == "" && p.location == "" && "BSD-3-Clause" in p.licenses)`,
		`findings.all(f, f.severity_rank < HIGH && f.severity == "LOW" && f.cvss == 0.0 && f.epss < 0.5 && !f.kev && f.id == "CVE-1" && "GHSA-1" in f.aliases && f.package == "p" && f.version == "1" && f.purl == "" && f.location == "")`,
		`UNKNOWN < NEGLIGIBLE && NEGLIGIBLE < LOW && LOW < MEDIUM && MEDIUM < HIGH && HIGH < CRITICAL`,
		`attestations.exists(a, a.predicate_type.endsWith("/vuln/v1") && a.key_id == "k" && a.manifest_digest == "sha256:bb" && a.sign_time < now)`,
		`advisories.digest == "sha256:cc" && advisories.age <= duration("24h") && advisories.data_time < now`,
		`now.getFullYear() == 2026`,
	}
	l := newLoader(t)
	for _, e := range expressions {
		set, err := l.Parse("p", []byte(head+"    - {name: r, message: m, severity: deny, expression: '"+e+"'}\n"))
		if err != nil {
			t.Errorf("%s: %v", e, err)
			continue
		}
		holds, _, err := set[0].Rules[0].Check.Evaluate(t.Context(), facts())
		if err != nil || !holds {
			t.Errorf("%s: %t, %v", e, holds, err)
		}
	}
}

// TestCostLimit evaluates an expression that the estimate found cheap, of lists of at
// most a hundred, on a list of a thousand.
func TestCostLimit(t *testing.T) {
	t.Parallel()
	expression := `image.env_names.all(a, image.env_names.all(b, a.matches("^n*$|` + strings.Repeat("y", 150) + `")))`
	set, err := newLoader(t).Parse("p", []byte(head+"    - {name: r, message: m, severity: deny, expression: '"+expression+"'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := facts()
	f.Image.EnvNames = nil
	for i := range 1000 {
		f.Image.EnvNames = append(f.Image.EnvNames, strings.Repeat("n", 100+i%7))
	}
	if _, _, err := set[0].Rules[0].Check.Evaluate(t.Context(), f); err == nil || !strings.Contains(err.Error(), "cost limit") {
		t.Errorf("a thousand names: %v", err)
	}
}

func TestEvaluationErrorsAreErrors(t *testing.T) {
	t.Parallel()
	set, err := newLoader(t).Parse("p", []byte(head+"    - {name: r, message: m, severity: deny, expression: 'findings[7].kev'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := set[0].Rules[0].Check.Evaluate(t.Context(), facts()); err == nil {
		t.Error("an index out of range held")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	f := facts()
	f.Findings = make([]core.Finding, 10*interruptEvery)
	set, err = newLoader(t).Parse("p", []byte(head+"    - {name: r, message: m, severity: deny, expression: 'findings.all(f, !f.kev)'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := set[0].Rules[0].Check.Evaluate(ended, f); err == nil {
		t.Error("an evaluation went on after its context ended")
	}
}

func TestBaseline(t *testing.T) {
	t.Parallel()
	data, err := Pack("baseline")
	if err != nil {
		t.Fatal(err)
	}
	set, err := newLoader(t).Parse("baseline.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	critical := core.Finding{ID: "CVE-9", SeverityRank: core.SeverityCritical, Package: "p", Version: "1", FixedVersions: []string{"2"}}
	tests := map[string]struct {
		change func(*core.Facts)
		want   map[string][]string
	}{
		"clean":            {func(*core.Facts) {}, map[string][]string{}},
		"exploited":        {func(f *core.Facts) { f.Findings[0].KEV = true }, map[string][]string{"no-known-exploited": {"CVE-1 in p 1"}}},
		"fixable critical": {func(f *core.Facts) { f.Findings = append(f.Findings, critical) }, map[string][]string{"no-fixable-critical": {"CVE-9 in p 1, fixed in 2"}}},
		"critical without fix": {func(f *core.Facts) {
			c := critical
			c.FixedVersions = nil
			f.Findings = append(f.Findings, c)
		}, map[string][]string{}},
		"fixable high":      {func(f *core.Facts) { f.Findings[0].SeverityRank = core.SeverityHigh }, map[string][]string{"no-fixable-high": {"CVE-1 in p 1, fixed in 2"}}},
		"root":              {func(f *core.Facts) { f.Image.User, f.Image.NonRoot = "", false }, map[string][]string{"not-root": nil}},
		"root by id":        {func(f *core.Facts) { f.Image.User, f.Image.NonRoot = "0:0", false }, map[string][]string{"not-root": nil}},
		"old debian":        {func(f *core.Facts) { distro(f, "debian", "10") }, map[string][]string{"supported-distribution": {"debian 10"}}},
		"new debian":        {func(f *core.Facts) { distro(f, "debian", "12") }, map[string][]string{}},
		"old ubuntu":        {func(f *core.Facts) { distro(f, "ubuntu", "18.04") }, map[string][]string{"supported-distribution": {"ubuntu 18.04"}}},
		"slackware":         {func(f *core.Facts) { distro(f, "slackware", "15") }, map[string][]string{"supported-distribution": {"slackware 15"}}},
		"support has ended": {func(f *core.Facts) { f.Image.DistroEndTime = f.Now }, map[string][]string{"supported-distribution": {"alpine 3.22.1"}}},
		"credential": {func(f *core.Facts) {
			f.Image.Secrets = []core.Secret{{Kind: "private-key", Location: "root/.ssh/id_rsa"}}
		}, map[string][]string{"no-secrets": {"private-key in root/.ssh/id_rsa"}}},
		"scratch": {func(f *core.Facts) { distro(f, "", "") }, map[string][]string{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := facts()
			tc.change(f)
			got := map[string][]string{}
			for _, r := range set[0].Rules {
				holds, items, err := r.Check.Evaluate(t.Context(), f)
				if err != nil {
					t.Errorf("%s: %v", r.Name, err)
				}
				if !holds {
					got[r.Name] = items
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("broken rules (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	data, err := Pack("baseline")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(head + "    - {name: r, message: m, severity: deny, expression: 'findings.all(f, f.x)'}\n"))
	f.Add([]byte("---\n---\na: &a [*a]\n"))
	f.Add([]byte(head + "    - name: r\n      expression: |\n       a\n        b.\n"))
	l := newLoader(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := l.Parse("f", data)
		if err != nil {
			if set != nil {
				t.Error("policies and an error")
			}
			return
		}
		for _, p := range set {
			if p.Name == "" || len(p.Rules) == 0 || p.Digest == "" {
				t.Errorf("half a policy: %+v", p)
			}
			if again, err := l.Parse("f", []byte(p.Document)); err != nil || again[0].Digest != p.Digest {
				t.Errorf("its own document is not accepted: %v", err)
			}
		}
	})
}
