package core_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

const (
	zlib      = "pkg:deb/debian/zlib1g@1:1.2.13?arch=amd64&distro=debian-12"
	elsewhere = "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
)

// statement is one that the vulnerable code is not present, of an hour ago.
func statement(product string, subcomponents ...string) core.VexStatement {
	component := func(id string) core.VexComponent {
		c := core.VexComponent{ID: id}
		switch {
		case strings.HasPrefix(id, "pkg:"):
			c.Purl = id
		case strings.HasPrefix(id, "sha256:"):
			c.Digests = []string{id}
		}
		return c
	}
	s := core.VexStatement{
		Vulnerabilities: []string{"CVE-1", "GHSA-1"}, Status: core.VexNotAffected,
		Justification: "vulnerable_code_not_present", Time: now.Add(-time.Hour),
	}
	if product != "" {
		p := core.VexProduct{VexComponent: component(product)}
		for _, sub := range subcomponents {
			p.Subcomponents = append(p.Subcomponents, component(sub))
		}
		s.Products = []core.VexProduct{p}
	}
	return s
}

func judgeVex(t *testing.T, attached, imported []core.VexDocument, findings ...core.Finding) (core.Verdict, []core.VexMismatch) {
	t.Helper()
	e := evidence()
	e.Report.Findings, e.VEX = findings, attached
	var mismatches []core.VexMismatch
	v, err := core.Judge(t.Context(), core.Input{
		Image: image, Platforms: []core.PlatformEvidence{e}, Now: now, VEX: core.NewVexIndex(imported),
		Policies:      []core.Policy{policy("p", core.Rule{Name: "no-critical", Message: "critical", Check: noCritical{}})},
		OnVexMismatch: func(m core.VexMismatch) { mismatches = append(mismatches, m) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return v, mismatches
}

func TestVexMatching(t *testing.T) {
	t.Parallel()
	finding := core.Finding{ID: "CVE-1", Aliases: []string{"CVE-1"}, Purl: zlib, SeverityRank: core.SeverityCritical}
	name := image.Repository[strings.LastIndexByte(image.Repository, '/')+1:]
	where := "?repository_url=" + image.Registry + "/" + image.Repository
	change := func(s core.VexStatement, f func(*core.VexStatement)) core.VexStatement { f(&s); return s }
	for title, tc := range map[string]struct {
		s core.VexStatement
		// attached says that the document is attached to the image.
		attached bool
		// why it has no effect; empty if it has.
		why string
	}{
		"digest":                      {statement(image.Digest), false, ""},
		"digest and package":          {statement(image.Digest, "pkg:deb/debian/zlib1g"), false, ""},
		"digest and other package":    {statement(image.Digest, "pkg:deb/debian/openssl"), false, "none of the 1 subcomponents"},
		"another digest":              {statement(elsewhere), false, "has the digest " + elsewhere},
		"package":                     {statement("pkg:deb/debian/zlib1g"), false, ""},
		"package and version":         {statement("pkg:deb/debian/zlib1g@1:1.2.13"), false, ""},
		"encoded version":             {statement("pkg:deb/debian/zlib1g@1%3A1.2.13"), false, ""},
		"another version":             {statement("pkg:deb/debian/zlib1g@1:1.3"), false, "is another version than 1:1.2.13"},
		"some qualifiers":             {statement("pkg:deb/debian/zlib1g?arch=amd64"), false, ""},
		"another qualifier":           {statement("pkg:deb/debian/zlib1g?arch=arm64"), false, "asks for arch=arm64"},
		"a qualifier more":            {statement("pkg:deb/debian/zlib1g?epoch=1"), false, "asks for epoch=1"},
		"a subpath":                   {statement("pkg:deb/debian/zlib1g#lib"), false, "another subpath"},
		"another package":             {statement("pkg:deb/debian/zlib"), false, "is another package"},
		"another type":                {statement("pkg:apk/debian/zlib1g"), false, "is another package"},
		"no package URL":              {statement("zlib"), false, "has no package URL"},
		"broken package URL":          {statement("pkg:zlib"), false, "is no package URL"},
		"package with subcomponents":  {statement("pkg:deb/debian/zlib1g", "pkg:deb/debian/zlib1g"), false, "is a package and no image"},
		"image by name":               {statement("pkg:oci/" + name), false, "names neither a repository nor a digest"},
		"image by name, attached":     {statement("pkg:oci/" + name), true, ""},
		"image by repository":         {statement("pkg:oci/" + name + where), false, ""},
		"image of another registry":   {statement("pkg:oci/" + name + "?repository_url=other.example/x"), true, "is in other.example/x"},
		"image by repository, digest": {statement("pkg:oci/" + name + "@" + image.Digest + where), false, ""},
		"image of another digest":     {statement("pkg:oci/" + name + "@" + elsewhere + where), true, "has the digest " + elsewhere},
		"another image":               {statement("pkg:oci/other"), true, "is the image other"},
		"nothing":                     {statement(""), false, "it names no product"},
		"nothing, attached":           {statement(""), true, ""},
		"of the future":               {change(statement(image.Digest), func(s *core.VexStatement) { s.Time = now.Add(time.Hour) }), true, "it is of the future"},
		"no reason":                   {change(statement(image.Digest), func(s *core.VexStatement) { s.Justification = "" }), true, "it gives no reason"},
		"a reason in words":           {change(statement(image.Digest), func(s *core.VexStatement) { s.Justification, s.Impact = "", "never called" }), true, ""},
		"fixed in a version":          {change(statement("pkg:deb/debian/zlib1g@1:1.2.13"), func(s *core.VexStatement) { s.Status = core.VexFixed }), false, ""},
		"fixed in what":               {change(statement("pkg:deb/debian/zlib1g"), func(s *core.VexStatement) { s.Status = core.VexFixed }), false, "has no version"},
		"by alias":                    {change(statement(image.Digest), func(s *core.VexStatement) { s.Vulnerabilities = []string{"X", "CVE-1"} }), false, ""},
		"id in another case":          {change(statement(image.Digest), func(s *core.VexStatement) { s.Vulnerabilities = []string{"cve-1"} }), false, ""},
		"tag and digest":              {statement("pkg:oci/" + name + "@" + image.Digest + "?tag=v1"), true, "it names a tag"},
		"tag as the version":          {statement("pkg:docker/team/" + name + "@v1"), true, "its version is a tag"},
		"its architecture":            {statement("pkg:oci/" + name + "@" + image.Digest + "?arch=amd64"), false, ""},
		"another architecture":        {statement("pkg:oci/" + name + "@" + image.Digest + "?arch=arm64"), true, "is for arm64, not for amd64"},
		"another namespace":           {statement("pkg:docker/evil/" + name + "@" + image.Digest), true, "is in evil/, not in"},
		"encoded digest":              {statement("pkg:oci/" + name + "@sha256%3A" + image.Digest[7:]), false, ""},
		"subcomponent's architecture": {statement(image.Digest, "pkg:deb/debian/zlib1g?arch=arm64"), true, "none of the 1 subcomponents"},
		"subcomponent's digest":       {change(statement(image.Digest, "pkg:deb/debian/zlib1g"), func(s *core.VexStatement) { s.Products[0].Subcomponents[0].Digests = []string{image.Digest} }), true, "none of the 1 subcomponents"},
		"digest and another image":    {change(statement("pkg:oci/other"), func(s *core.VexStatement) { s.Products[0].Digests = []string{image.Digest} }), true, "is the image other"},
		"digest and its name":         {change(statement("pkg:oci/"+name), func(s *core.VexStatement) { s.Products[0].Digests = []string{image.Digest} }), false, ""},
		"digest and a package":        {change(statement("pkg:deb/debian/zlib1g"), func(s *core.VexStatement) { s.Products[0].Digests = []string{image.Digest} }), true, "names a digest"},
		"two digests":                 {change(statement(image.Digest), func(s *core.VexStatement) { s.Products[0].Digests = append(s.Products[0].Digests, elsewhere) }), true, "has the digest " + elsewhere},
		"what cannot be compared":     {change(statement("pkg:deb/debian/zlib1g"), func(s *core.VexStatement) { s.Products[0].Unmatched = "has a CPE" }), true, "zlib1g has a CPE"},
		"range of versions":           {statement("pkg:deb/debian/zlib1g@<2"), true, "a range of versions"},
		"one of several products":     {change(statement(elsewhere), func(s *core.VexStatement) { s.Products = append(s.Products, statement(image.Digest).Products...) }), false, ""},
		"none of several products":    {change(statement(elsewhere), func(s *core.VexStatement) { s.Products = append(s.Products, statement("pkg:npm/a").Products...) }), false, "is another package"},
		"affected":                    {change(statement(image.Digest), func(s *core.VexStatement) { s.Status = core.VexAffected }), false, "-"},
		"under investigation":         {change(statement(image.Digest), func(s *core.VexStatement) { s.Status = core.VexUnderInvestigation }), false, "-"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			d := core.VexDocument{Digest: "sha256:doc", Author: "vendor", Attached: tc.attached, Statements: []core.VexStatement{tc.s}}
			attached, imported := []core.VexDocument{d}, []core.VexDocument(nil)
			if !tc.attached {
				attached, imported = imported, attached
			}
			v, mismatches := judgeVex(t, attached, imported, finding)
			if tc.why == "" {
				want := []core.VexUse{{
					Vulnerability: "CVE-1", Purl: zlib, Status: tc.s.Status, Justification: tc.s.Justification, Impact: tc.s.Impact,
					Author: "vendor", Document: "sha256:doc", Time: tc.s.Time,
				}}
				if d := cmp.Diff(want, v.VEX); d != "" || v.State != core.StatePass || v.VEXCount != 1 || len(mismatches) != 0 {
					t.Errorf("%s, %v (-want +got):\n%s", v.State, mismatches, d)
				}
			} else if v.State != core.StateFail || len(v.VEX) != 0 || tc.why != "-" && (len(mismatches) != 1 || !strings.Contains(mismatches[0].Why, tc.why)) {
				t.Errorf("%s, %v, %+v", v.State, v.VEX, mismatches)
			}
			if got := v.Platforms[0].Inputs.VexDigests; (len(got) == 1) == tc.attached {
				t.Errorf("recorded documents: %v", got)
			}
			if future := tc.s.Time.After(now); future != v.ExpireTime.Equal(tc.s.Time) {
				t.Errorf("the verdict ends %v", v.ExpireTime)
			}
		})
	}
}

// TestVexNewestCounts has several statements about one finding, in any order.
func TestVexNewestCounts(t *testing.T) {
	t.Parallel()
	finding := core.Finding{ID: "CVE-1", Purl: zlib, SeverityRank: core.SeverityCritical}
	at := func(status string, age time.Duration) core.VexStatement {
		s := statement(image.Digest)
		s.Status, s.Time = status, now.Add(-age)
		return s
	}
	for title, tc := range map[string]struct {
		statements []core.VexStatement
		state      core.State
	}{
		"taken back":       {[]core.VexStatement{at(core.VexNotAffected, 2), at(core.VexAffected, 1)}, core.StateFail},
		"found not to be":  {[]core.VexStatement{at(core.VexUnderInvestigation, 2), at(core.VexNotAffected, 1)}, core.StatePass},
		"at the same time": {[]core.VexStatement{at(core.VexNotAffected, 1), at(core.VexAffected, 1)}, core.StateFail},
		"of something else": {[]core.VexStatement{at(core.VexNotAffected, 2), func() core.VexStatement {
			s := at(core.VexAffected, 1)
			s.Products[0] = statement(elsewhere).Products[0]
			return s
		}()}, core.StatePass},
		"said and then more": {[]core.VexStatement{at(core.VexNotAffected, 3), at(core.VexAffected, 2), at(core.VexFixed, 1)}, core.StatePass},
	} {
		for _, turn := range []bool{false, true} {
			var documents []core.VexDocument
			for i, s := range tc.statements {
				d := core.VexDocument{Digest: "sha256:" + string(rune('a'+i)), Author: "vendor", Statements: []core.VexStatement{s}}
				if turn {
					documents = append([]core.VexDocument{d}, documents...)
				} else {
					documents = append(documents, d)
				}
			}
			v, mismatches := judgeVex(t, nil, documents, finding)
			if v.State != tc.state || len(mismatches)+1 < len(tc.statements) {
				t.Errorf("%s (turned %t): %s, %+v", title, turn, v.State, mismatches)
			}
		}
	}
}

// TestVexUnmatchedWithdraws: a newer statement of the same author that cannot be compared
// never leaves the older one in force that takes the finding out.
func TestVexUnmatchedWithdraws(t *testing.T) {
	t.Parallel()
	finding := core.Finding{ID: "CVE-1", Purl: zlib, SeverityRank: core.SeverityCritical}
	name := image.Repository[strings.LastIndexByte(image.Repository, '/')+1:]
	cpe := func(id string) core.VexStatement {
		s := statement(id)
		s.Products[0].ID, s.Products[0].Unmatched = "cpe:2.3:a:zlib:zlib:1.2.13:*:*:*:*:*:*:*", "has the identifier cpe23, which cannot be compared"
		return s
	}
	for title, tc := range map[string]struct {
		newer    core.VexStatement
		attached bool
		state    core.State
	}{
		"tag":                           {statement("pkg:oci/" + name + "?tag=v2"), true, core.StateFail},
		"tag as the version":            {statement("pkg:oci/" + name + "@v2"), true, core.StateFail},
		"tag, imported":                 {statement("pkg:oci/" + name + "?tag=v2"), false, core.StateFail},
		"tag and the package":           {statement("pkg:oci/"+name+"?tag=v2", "pkg:deb/debian/zlib1g"), true, core.StateFail},
		"tag and a CPE":                 {statement("pkg:oci/"+name+"?tag=v2", "cpe:2.3:a:zlib"), true, core.StateFail},
		"tag and another package":       {statement("pkg:oci/"+name+"?tag=v2", "pkg:deb/debian/openssl"), true, core.StatePass},
		"CPE":                           {cpe("x"), true, core.StateFail},
		"CPE, imported":                 {cpe("x"), false, core.StateFail},
		"CPE of another package":        {cpe("pkg:deb/debian/openssl"), true, core.StatePass},
		"name":                          {statement("our product"), true, core.StateFail},
		"no product, imported":          {statement(""), false, core.StateFail},
		"image without a place":         {statement("pkg:oci/" + name), false, core.StateFail},
		"a qualifier that nothing has":  {statement("pkg:deb/debian/zlib1g?epoch=1"), true, core.StateFail},
		"range of versions":             {statement("pkg:deb/debian/zlib1g@vers:deb/<2"), true, core.StateFail},
		"broken package URL":            {statement("pkg:zlib"), true, core.StateFail},
		"package with the package":      {statement("pkg:maven/a/app", "pkg:deb/debian/zlib1g"), true, core.StateFail},
		"another version":               {statement("pkg:deb/debian/zlib1g@1:1.3"), true, core.StatePass},
		"another package":               {statement("pkg:deb/debian/openssl"), true, core.StatePass},
		"tag of another image":          {statement("pkg:oci/other?tag=v2"), true, core.StatePass},
		"another digest":                {statement(elsewhere), true, core.StatePass},
		"another digest with a package": {statement(elsewhere, "pkg:deb/debian/zlib1g"), true, core.StatePass},
	} {
		for _, older := range []string{core.VexNotAffected, core.VexFixed} {
			for _, status := range []string{core.VexAffected, core.VexUnderInvestigation} {
				before := statement(image.Digest)
				before.Status = older
				newer := tc.newer
				newer.Status, newer.Time = status, before.Time.Add(time.Second)
				judge := func(author string, s core.VexStatement) core.State {
					old := core.VexDocument{Digest: "sha256:a", Author: "vendor", Attached: true, Statements: []core.VexStatement{before}}
					other := core.VexDocument{Digest: "sha256:b", Author: author, Attached: tc.attached, Statements: []core.VexStatement{s}}
					attached, imported := []core.VexDocument{old}, []core.VexDocument{other}
					if tc.attached {
						attached, imported = append(attached, other), nil
					}
					v, _ := judgeVex(t, attached, imported, finding)
					return v.State
				}
				if got := judge("vendor", newer); got != tc.state {
					t.Errorf("%s: %s after %s: %s, want %s", title, status, older, got, tc.state)
				}
				if got := judge("somebody else", newer); got != core.StatePass {
					t.Errorf("%s: another author takes %s back", title, older)
				}
				for why, at := range map[string]time.Time{"older": before.Time.Add(-time.Second), "of one time": before.Time, "of the future": now.Add(time.Hour)} {
					s := newer
					s.Time = at
					if got := judge("vendor", s); got != core.StatePass {
						t.Errorf("%s: %s %s takes %s back", title, status, why, older)
					}
				}
			}
		}
	}
}

// TestVexUnreadableWithdraws: a newer document of an author that cannot be read, or may be
// there and was not read, ends what takes findings out.
func TestVexUnreadableWithdraws(t *testing.T) {
	t.Parallel()
	finding := core.Finding{ID: "CVE-1", Purl: zlib, SeverityRank: core.SeverityCritical}
	said := statement(image.Digest)
	for title, tc := range map[string]struct {
		author string
		at     time.Time
		want   core.State
	}{
		"newer":                   {"vendor", said.Time.Add(time.Second), core.StateFail},
		"of the same time":        {"vendor", said.Time, core.StateFail},
		"of a time unknown":       {"vendor", time.Time{}, core.StateFail},
		"older":                   {"vendor", said.Time.Add(-time.Second), core.StatePass},
		"newer, of another":       {"other", said.Time.Add(time.Second), core.StatePass},
		"unknown, of another":     {"other", time.Time{}, core.StatePass},
		"of nobody in particular": {"", time.Time{}, core.StatePass},
	} {
		for _, imported := range []bool{false, true} {
			old := core.VexDocument{Digest: "sha256:a", Author: "vendor", Attached: !imported, Statements: []core.VexStatement{said}}
			attached, others := []core.VexDocument{{Digest: "sha256:b", Author: tc.author, Attached: true, DocumentTime: tc.at, Unreadable: "it is garbage"}}, []core.VexDocument{old}
			if !imported {
				attached, others = append(attached, old), nil
			}
			v, mismatches := judgeVex(t, attached, others, finding)
			if v.State != tc.want {
				t.Errorf("%s (imported %t): %s", title, imported, v.State)
			}
			if v.State == core.StateFail && (len(mismatches) != 1 || !strings.Contains(mismatches[0].Why, "vendor cannot be read: it is garbage")) {
				t.Errorf("%s: explained by %+v", title, mismatches)
			}
		}
	}
}

// TestUnread: where attestations may be there that were not read, none of them can have
// mattered to a PASS.
func TestUnread(t *testing.T) {
	t.Parallel()
	finding := core.Finding{ID: "CVE-1", Purl: zlib, SeverityRank: core.SeverityCritical}
	doc := []core.VexDocument{{Digest: "sha256:a", Author: "vendor", Statements: []core.VexStatement{statement(image.Digest)}}}
	rule := core.Rule{Name: "no-critical", Message: "critical", Check: noCritical{}}
	for title, tc := range map[string]struct {
		unread   string
		findings []core.Finding
		policy   core.Policy
		want     core.State
		why      string
	}{
		"all read":                         {"", []core.Finding{finding}, policy("p", rule), core.StatePass, ""},
		"suppressed by VEX":                {"too many", []core.Finding{finding}, core.Policy{Unseen: core.PartPredicates, Rules: []core.Rule{rule}}, core.StateFail, "critical"},
		"nothing found":                    {"too many", nil, core.Policy{Unseen: core.PartPredicates, Rules: []core.Rule{rule}}, core.StatePass, ""},
		"a rule that reads attestations":   {"too many", nil, core.Policy{Rules: []core.Rule{rule}}, core.StateUnknown, "not read: too many"},
		"no rule, and what is required is": {"too many", nil, core.Policy{Require: []core.Requirement{{PredicateType: core.PredicateReport}}}, core.StatePass, ""},
	} {
		e := evidence()
		e.Report.Findings, e.Unread = tc.findings, tc.unread
		e.Attestations = []core.Attestation{e.Report.Source}
		tc.policy.Matches = func(string) bool { return true }
		v, err := core.Judge(t.Context(), core.Input{
			Image: image, Platforms: []core.PlatformEvidence{e}, Now: now, VEX: core.NewVexIndex(doc), Policies: []core.Policy{tc.policy},
		})
		if err != nil || v.State != tc.want || tc.why != "" && !strings.Contains(v.Reasons[0].Message, tc.why) {
			t.Errorf("%s: %s, %+v, %v", title, v.State, v.Reasons, err)
		}
	}
}

func TestVexLeavesTheRest(t *testing.T) {
	t.Parallel()
	findings := []core.Finding{
		{ID: "CVE-1", Purl: zlib, SeverityRank: core.SeverityCritical},
		{ID: "CVE-2", Purl: zlib, SeverityRank: core.SeverityCritical},
	}
	before := append([]core.Finding(nil), findings...)
	doc := []core.VexDocument{{Digest: "sha256:d", Author: "vendor", Statements: []core.VexStatement{statement(image.Digest)}}}
	v, _ := judgeVex(t, nil, doc, findings...)
	if v.State != core.StateFail || v.VEXCount != 1 || cmp.Diff([]string{"CVE-2"}, v.Platforms[0].Policies[0].Rules[0].Items) != "" {
		t.Errorf("%s, %+v", v.State, v.Platforms[0].Policies[0].Rules[0])
	}
	if d := cmp.Diff(before, findings); d != "" {
		t.Errorf("the evidence was changed:\n%s", d)
	}
	// A document about nothing that was found is no input.
	v, _ = judgeVex(t, nil, doc, core.Finding{ID: "CVE-9", Purl: zlib})
	if len(v.Platforms[0].Inputs.VexDigests) != 0 {
		t.Errorf("inputs: %v", v.Platforms[0].Inputs.VexDigests)
	}
	var many []core.Finding
	for i := range core.MaxVexUses + 5 {
		many = append(many, core.Finding{ID: "CVE-1", Purl: "pkg:generic/p@" + strings.Repeat("1", i+1), SeverityRank: core.SeverityCritical})
	}
	if v, _ = judgeVex(t, nil, doc, many...); len(v.VEX) != core.MaxVexUses || v.VEXCount != core.MaxVexUses+5 {
		t.Errorf("%d of %d named", len(v.VEX), v.VEXCount)
	}
}

func FuzzVexMatch(f *testing.F) {
	f.Add("pkg:deb/debian/zlib1g@1?arch=amd64", "pkg:deb/debian/zlib1g", "", true)
	f.Add("pkg:oci/app@sha256:aa?repository_url=r.example/app", "pkg:npm/%40a/b@1#x", "sha256:aa", false)
	f.Fuzz(func(t *testing.T, product, sub, found string, attached bool) {
		s := statement(product, sub)
		d := core.VexDocument{Digest: "sha256:d", Author: "vendor", Attached: attached, Statements: []core.VexStatement{s}}
		v, mismatches := judgeVex(t, []core.VexDocument{d}, nil, core.Finding{ID: "CVE-1", Purl: found, SeverityRank: core.SeverityCritical})
		if (v.State == core.StatePass) != (v.VEXCount == 1) || (v.VEXCount == 1) == (len(mismatches) == 1) {
			t.Errorf("%s, %d, %+v", v.State, v.VEXCount, mismatches)
		}
	})
}
