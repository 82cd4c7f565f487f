package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// inAnHour is a policy that gives people an hour for each finding.
const inAnHour = `apiVersion: seaworthy.dev/v1
kind: Policy
metadata: {name: hour}
spec:
  match: {repositories: ["**"]}
  rules:
    - name: in-time
      message: a finding that is older than an hour
      severity: deny
      expression: findings.all(f, now - f.first_seen < duration("1h"))
      items: findings.filter(f, now - f.first_seen >= duration("1h")).map(f, f.id)
`

// TestFirstSeen gives people an hour for each finding, counted from when it was first
// seen: over several reports, a re-evaluation and a replay.
func TestFirstSeen(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte(inAnHour), 0o600); err != nil {
		t.Fatal(err)
	}
	f.cfg.Policies.Builtin, f.cfg.Policies.Files = nil, []string{file}
	var ahead atomic.Int64
	v := f.startWith(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	image := f.registry.PushImage("team/app", "v1")
	old, fresh := evidencetest.Critical(), evidencetest.Critical()
	fresh.Id = "CVE-2099-1"
	attest := func(id string, report int) {
		r := evidencetest.Report(image.Digest, old)
		if report > 1 {
			r = evidencetest.Report(image.Digest, old, fresh)
		}
		f.registry.Attest(f.key, image, image.Digest, r, time.Now().Add(time.Duration(report)*time.Second))
		f.attested(t.Context(), id, image)
	}
	attest("one", 1)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("seen now: %v", e)
	}
	ahead.Store(int64(61 * time.Minute))
	attest("two", 2)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL || !strings.HasSuffix(e.GetReasons()[0], ": "+old.GetId()) {
		t.Fatalf("an hour later: %v", e)
	}
	v.explained(t, v.get(t, image))
	// Another rule of time: recorded evidence remembers.
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v.stop()
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(content), `"1h"`, `"2h"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	f.registry.Down.Store(true)
	v = f.startWith(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("two hours are given: %v", e)
	}
	v.explained(t, v.get(t, image))
}

// TestFirstSeenOutlastsEvidence: whoever may push cannot begin the time for a finding anew
// by taking the evidence or the image away for a while.
func TestFirstSeenOutlastsEvidence(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte(inAnHour), 0o600); err != nil {
		t.Fatal(err)
	}
	f.cfg.Policies.Builtin, f.cfg.Policies.Files = nil, []string{file}
	var c clock
	v := f.startWith(c.now)
	image := f.registry.PushImage("team/app", "v1")
	kept := f.registry.Copy(image, "team/kept")
	attest := func(id string) string {
		m := f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), c.now())
		f.attested(t.Context(), id, image)
		return m
	}
	report := attest("one")
	f.want(eventv1.VerdictReachedEvent_STATE_PASS, "", "seen now")

	c.forward(61 * time.Minute)
	f.registry.Delete(image.Repository, report)
	f.attested(t.Context(), "stripped", image)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, "", "without evidence")
	attest("two")
	f.want(eventv1.VerdictReachedEvent_STATE_FAIL, "", "with evidence again")

	f.registry.Delete(image.Repository, image.Digest)
	c.forward(time.Minute)
	f.deletion("deleted", image)
	f.quiet(4 * time.Second)
	c.forward(20 * time.Second)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, "", "gone")
	if got := v.get(t, image); code(got) != "IMAGE_GONE" {
		t.Fatalf("verdict: %v", got)
	}
	f.registry.DeleteTag(image.Repository, image.Tag)
	f.registry.Copy(kept, image.Repository)
	attest("back")
	f.want(eventv1.VerdictReachedEvent_STATE_FAIL, "", "pushed again")
}
