package policywatch_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policywatch"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf remembers what was taken over.
type shelf struct {
	mu     sync.Mutex
	synced []string
	err    error
}

func (s *shelf) fail(err error) { s.mu.Lock(); defer s.mu.Unlock(); s.err = err }

func (s *shelf) all() []string { s.mu.Lock(); defer s.mu.Unlock(); return slices.Clone(s.synced) }

func (s *shelf) SyncPolicies(_ context.Context, all []store.Policy, by store.Audit) ([]store.Policy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name+"="+strings.Join(p.Repositories, ","))
	}
	s.synced = append(s.synced, by.Actor+": "+strings.Join(names, " "))
	return all, nil
}

func document(name, expression string) string {
	return "apiVersion: seaworthy.dev/v1\nkind: Policy\nmetadata: {name: " + name + "}\nspec:\n  match: {repositories: [\"x/**\"]}\n" +
		"  rules: [{name: r, message: m, severity: deny, expression: '" + expression + "'}]\n"
}

func TestWatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loader, err := policy.NewLoader()
	if err != nil {
		t.Fatal(err)
	}
	write("a.yaml", document("a", "true"))
	write("a.txt", "no policy")
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		var reported []string
		w := &policywatch.Watch{
			Source: policy.Source{Dir: dir}, Loader: loader, Store: s, Actor: "me", Every: time.Second, Now: time.Now,
			Log: slog.New(slog.DiscardHandler),
			Report: func(err error) {
				text := "good"
				if err != nil {
					text = err.Error()
				}
				reported = slices.Compact(append(reported, text))
			},
		}
		if err := w.Instrument(noop.Meter{}); err != nil {
			t.Fatal(err)
		}
		if err := w.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		pass(10*time.Second + time.Millisecond)

		// Half a copy is seen once and never again.
		write("b.yaml", document("b", "tr"))
		pass(time.Second)
		write("b.yaml", document("b", "true"))
		pass(time.Second)
		if len(s.all()) != 1 {
			t.Errorf("taken over after one look: %q", s.all())
		}
		pass(time.Second)
		write("b.yaml", document("b", "nope")) // the whole set stays as it is
		write("c.yaml", document("c", "true"))
		pass(5 * time.Second)
		write("b.yaml", document("a", "true"))
		pass(2 * time.Second)
		write("b.yaml", document("b", "true"))
		s.fail(errors.New("the database is away"))
		pass(2 * time.Second)
		s.fail(nil)
		pass(time.Second)
		if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
			t.Error(err)
		}
		pass(2 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]string{"me: a=x/**", "me: a=x/** b=x/**", "me: a=x/** b=x/** c=x/**", "me: b=x/** c=x/**"}, s.all()); d != "" {
			t.Errorf("taken over (-want +got):\n%s", d)
		}
		want := []string{"good", "undeclared reference to 'nope'", `two policies have the name "a"`, "the database is away", "good"}
		if len(reported) != len(want) {
			t.Fatalf("reported %q", reported)
		}
		for i := range want {
			if !strings.Contains(reported[i], want[i]) {
				t.Errorf("reported %q, want %q", reported[i], want[i])
			}
		}
	})
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	loader, err := policy.NewLoader()
	if err != nil {
		t.Fatal(err)
	}
	faulty := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(faulty, []byte(document("a", "nope")), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, source := range map[string]policy.Source{
		"undeclared reference":    {Files: []string{faulty}},
		"read policy:":            {Files: []string{faulty + "x"}},
		"read policy directory:":  {Dir: faulty},
		"there is no policy pack": {Builtin: []string{"none"}},
	} {
		s := &shelf{}
		w := &policywatch.Watch{Source: source, Loader: loader, Store: s, Now: time.Now, Log: slog.New(slog.DiscardHandler), Report: func(error) {}}
		if err := w.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) || len(s.synced) > 0 {
			t.Errorf("%+v: %v", source, err)
		}
	}
}
