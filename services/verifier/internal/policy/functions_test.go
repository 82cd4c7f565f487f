package policy

import (
	"strings"
	"testing"
	"time"
)

func TestFunctions(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", maxGlob+1)
	tests := map[string]struct {
		expression string
		// fails is part of the error; empty if the expression must hold.
		fails string
	}{
		"semver order":        {`semverCompare("1.10.0", "1.9.3") > 0 && semverCompare("v1.0.0-rc.1", "1.0.0") < 0`, ""},
		"semver build":        {`semverCompare("1.0.0+a", "1.0.0+b") == 0 && semverCompare("1.2", "1.2.0") == 0`, ""},
		"semver of a package": {`packages.all(p, semverCompare(p.version, "0.3.6") > 0)`, ""},
		"no semver":           {`semverCompare("1.2.3.4", "1.0.0") > 0`, "not a semantic version"},
		"no semver, second":   {`semverCompare("1.0.0", "latest") > 0`, "not a semantic version"},
		"is semver":           {`isSemver("0.3.7") && isSemver("v2.0.0-beta") && !isSemver("1.2.3-") && !isSemver("") && !isSemver("bookworm")`, ""},
		"glob":                {`"team/app".glob("team/*") && !"team/sub/app".glob("team/*") && "team/sub/app".glob("team/**") && "ab".glob("a?") && !"a/".glob("a?")`, ""},
		"glob is whole":       {`!"team/app".glob("team") && "".glob("*") && "a.c".glob("a.c") && !"abc".glob("a.c") && "äß".glob("??")`, ""},
		"glob too long":       {`"a".glob("` + long + `")`, "more than 512"},
		"days":                {`days(2) == duration("48h") && now - image.created < days(1)`, ""},
		"days too many":       {`days(1000000) > days(1)`, "is not between"},
		"severity":            {`severityRank("high") == HIGH && findings.all(f, severityRank(f.severity) == f.severity_rank)`, ""},
		"no severity":         {`severityRank("fatal") > LOW`, "there is no severity"},
		"predicate":           {`attestations.exists(a, has(a.predicate.builder) && a.predicate.builder.id == "b" && a.predicate.n == 1.0)`, ""},
		"predicate without":   {`attestations.exists(a, a.predicate.nothing == "b")`, "no such key"},
	}
	l := newLoader(t)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := l.Parse("p", []byte(head+"    - {name: r, message: m, severity: deny, expression: '"+tc.expression+"'}\n"))
			if err != nil {
				t.Fatal(err)
			}
			f := facts()
			f.Attestations[0].Predicate = map[string]any{"builder": map[string]any{"id": "b"}, "n": 1.0}
			holds, _, err := set[0].Rules[0].Check.Evaluate(t.Context(), f)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("got %t, %v; want an error with %q", holds, err, tc.fails)
				}
				return
			}
			if err != nil || !holds {
				t.Errorf("got %t, %v", holds, err)
			}
		})
	}
}

func TestGlobMatchesIsBounded(t *testing.T) {
	t.Parallel()
	start := time.Now()
	if globMatches(strings.Repeat("*a", 200)+"b", strings.Repeat("a", 20_000)) {
		t.Error("matched")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// FuzzGlobMatches holds the two forms of the language against each other.
func FuzzGlobMatches(f *testing.F) {
	f.Add("r.example/**/app-?", "r.example/a/b/app-1")
	f.Add("***", "")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 100 || len(s) > 100 || !globPattern.MatchString(pattern) || strings.ContainsRune(s, '\n') || strings.ToValidUTF8(s, "") != s {
			t.Skip()
		}
		match, err := compileGlobs([]string{pattern})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := globMatches(pattern, s), match(s); got != want {
			t.Errorf("%q matches %q: %t, as an expression %t", pattern, s, got, want)
		}
	})
}
