package core_test

import (
	"context"
	"errors"
	"fmt"
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
		want   core.Decision
	}{
		"delivered":              {0, core.Result{Outcome: core.Delivered}, 0, core.Decision{Delivered: true}},
		"delivered at last":      {2, core.Result{Outcome: core.Delivered}, 0, core.Decision{Delivered: true}},
		"failed":                 {0, core.Result{}, 0, core.Decision{Wait: 10 * time.Second}},
		"failed again":           {1, core.Result{}, 0, core.Decision{Wait: 100 * time.Second}},
		"jitter":                 {1, core.Result{}, 0.5, core.Decision{Wait: 105 * time.Second}},
		"gone":                   {0, core.Result{Outcome: core.Gone}, 0, core.Decision{GiveUp: core.ReasonGone}},
		"permanent":              {0, core.Result{Outcome: core.Permanent}, 0, core.Decision{GiveUp: core.ReasonPermanent}},
		"last":                   {2, core.Result{}, 0, core.Decision{GiveUp: core.ReasonExhausted}},
		"after the last":         {9, core.Result{}, 0, core.Decision{GiveUp: core.ReasonExhausted}},
		"retry after":            {0, core.Result{RetryAfter: time.Minute}, 0, core.Decision{Wait: time.Minute, Throttle: time.Minute}},
		"retry after is shorter": {1, core.Result{RetryAfter: time.Second}, 0, core.Decision{Wait: 100 * time.Second, Throttle: time.Second}},
		"retry after is absurd":  {0, core.Result{RetryAfter: 9999 * time.Hour}, 0, core.Decision{Wait: 24 * time.Hour, Throttle: 24 * time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.Decide(tt.step, tt.result, tt.jitter); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestFailed(t *testing.T) {
	if r := core.Failed(errors.New(strings.Repeat("é", 300))); r.Outcome != core.Retry || len(r.Detail) != 500 {
		t.Errorf("%+v", r)
	}
	if r := core.Failed(fmt.Errorf("post: %w", context.Canceled)); r.Outcome != core.Canceled {
		t.Errorf("%+v", r)
	}
	if r := core.Failed(context.DeadlineExceeded); r.Outcome != core.Retry {
		t.Errorf("%+v", r)
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
