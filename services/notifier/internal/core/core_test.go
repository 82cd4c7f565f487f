package core_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
)

func TestFilter_Match(t *testing.T) {
	for name, tt := range map[string]struct {
		filter     core.Filter
		repository string
		want       bool
	}{
		"all":              {core.Filter{}, "registry.example/a", true},
		"state":            {core.Filter{States: []string{"FAIL"}}, "registry.example/a", true},
		"other state":      {core.Filter{States: []string{"PASS", "UNKNOWN"}}, "registry.example/a", false},
		"exact":            {core.Filter{Repositories: []string{"registry.example:5000/a/b"}}, "registry.example:5000/a/b", true},
		"prefix is not":    {core.Filter{Repositories: []string{"registry.example/a"}}, "registry.example/ab", false},
		"star":             {core.Filter{Repositories: []string{"registry.example/*/b"}}, "registry.example/a/b", true},
		"star is one":      {core.Filter{Repositories: []string{"registry.example/*"}}, "registry.example/a/b", false},
		"two stars":        {core.Filter{Repositories: []string{"registry.example/**"}}, "registry.example/a/b/c", true},
		"two stars none":   {core.Filter{Repositories: []string{"registry.example/**/c"}}, "registry.example/c", true},
		"two stars middle": {core.Filter{Repositories: []string{"**/team/**"}}, "registry.example/x/team/app", true},
		"two stars miss":   {core.Filter{Repositories: []string{"**/team/**"}}, "registry.example/x/teams/app", false},
		"second glob":      {core.Filter{Repositories: []string{"x/y", "registry.example/[a-c]"}}, "registry.example/b", true},
		"other registry":   {core.Filter{Repositories: []string{"registry.example/**"}}, "evil.example/registry.example/a", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.filter.Match(tt.repository, "FAIL"); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestCheckGlob(t *testing.T) {
	for _, glob := range []string{"a/**", "**", "registry.example:5000/*/x?", "a/[b-c]"} {
		if err := core.CheckGlob(glob); err != nil {
			t.Errorf("%q: %v", glob, err)
		}
	}
	for _, glob := range []string{"", "a//b", "/a", "a/", "a/[", "**/a/**/b/**", strings.Repeat("a", core.MaxGlob+1)} {
		if core.CheckGlob(glob) == nil {
			t.Errorf("%q: no error", glob)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("registry.example/**/x*", "registry.example/a/xy")
	f.Add("**/[a-", "a/b")
	f.Fuzz(func(t *testing.T, glob, name string) {
		if core.CheckGlob(glob) != nil || len(name) > 512 {
			return
		}
		// It ends, and a name without special characters matches itself.
		core.Filter{Repositories: []string{glob}}.Match(name, "PASS")
		if !strings.ContainsAny(name, `*?[]\`) && core.CheckGlob(name) == nil &&
			!(core.Filter{Repositories: []string{name}}).Match(name, "PASS") {
			t.Errorf("%q does not match itself", name)
		}
	})
}

func TestSchedule_Decide(t *testing.T) {
	s := core.Schedule{0, 10 * time.Second, 100 * time.Second}
	for name, tt := range map[string]struct {
		step   int
		result core.Result
		jitter float64
		want   core.Outcome
	}{
		"200":                   {0, core.Result{Status: 200}, 0, core.Outcome{Delivered: true}},
		"204":                   {2, core.Result{Status: 204}, 0, core.Outcome{Delivered: true}},
		"redirect":              {0, core.Result{Status: 302}, 0, core.Outcome{Wait: 10 * time.Second, Error: "answered 302; redirects are not followed"}},
		"400":                   {0, core.Result{Status: 400}, 0, core.Outcome{Wait: 10 * time.Second, Error: "answered 400"}},
		"no answer":             {1, core.Result{Err: errors.New("refused")}, 0, core.Outcome{Wait: 100 * time.Second, Error: "refused"}},
		"jitter":                {1, core.Result{Status: 500}, 0.5, core.Outcome{Wait: 105 * time.Second, Error: "answered 500"}},
		"gone":                  {0, core.Result{Status: 410}, 0, core.Outcome{GiveUp: core.ReasonGone, Gone: true, Error: "answered 410"}},
		"last":                  {2, core.Result{Status: 500}, 0, core.Outcome{GiveUp: core.ReasonExhausted, Error: "answered 500"}},
		"behind the last":       {9, core.Result{Status: 500}, 0, core.Outcome{GiveUp: core.ReasonExhausted, Error: "answered 500"}},
		"retry after":           {0, core.Result{Status: 429, RetryAfter: time.Minute}, 0, core.Outcome{Wait: time.Minute, Throttle: time.Minute, Error: "answered 429"}},
		"retry after is less":   {1, core.Result{Status: 503, RetryAfter: time.Second}, 0, core.Outcome{Wait: 100 * time.Second, Throttle: time.Second, Error: "answered 503"}},
		"retry after is absurd": {0, core.Result{Status: 503, RetryAfter: 9999 * time.Hour}, 0, core.Outcome{Wait: 24 * time.Hour, Throttle: 24 * time.Hour, Error: "answered 503"}},
		"retry after elsewhere": {0, core.Result{Status: 500, RetryAfter: time.Minute}, 0, core.Outcome{Wait: 10 * time.Second, Error: "answered 500"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.Decide(tt.step, tt.result, tt.jitter); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestDefaultSchedule(t *testing.T) {
	s, total := core.DefaultSchedule(), time.Duration(0)
	for _, d := range s {
		total += d
	}
	if len(s) != 10 || s[0] != 0 || total < 70*time.Hour || total > 80*time.Hour {
		t.Errorf("%d attempts over %v", len(s), total)
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, "-5": 0, "1.5": 0, "soon": 0,
		"99999999999999999999": 0, "2000000000": core.MaxRetryAfter,
		"Sun, 01 Mar 2026 12:00:30 GMT": 30 * time.Second,
		"Sun, 01 Mar 2026 11:00:00 GMT": 0,
		"Sun, 01 Mar 2099 11:00:00 GMT": core.MaxRetryAfter,
	} {
		if got := core.ParseRetryAfter(in, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}
