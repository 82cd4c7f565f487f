package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

func policyOf(name, document, request string, globs ...string) store.Policy {
	return store.Policy{
		Name: name, RequestID: request, Actor: "spiffe://x/operator/ann", CreateTime: start,
		Digest: fmt.Sprintf("sha256:%x", document), Document: document, Repositories: globs,
	}
}

func auditOf(id string) store.Audit {
	return store.Audit{ID: id, Time: start, Actor: "spiffe://x/operator/ann", Action: "action", Headers: "{}"}
}

// inForce lists the policies in force as `NAME vN DOCUMENT`.
func inForce(t *testing.T, s store.Store) []string {
	t.Helper()
	all, err := s.Policies(t.Context(), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range all {
		out = append(out, fmt.Sprintf("%s v%d %s", p.Name, p.Version, p.Document))
	}
	return out
}

// work takes the oldest work of judging images again.
func work(t *testing.T, s store.Store) store.Reevaluation {
	t.Helper()
	r, err := s.NextReevaluation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AdvanceReevaluation(t.Context(), r, true); err != nil {
		t.Fatal(err)
	}
	return r
}

func testPolicies(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	before := revision(t, s)
	want := policyOf("a", "one", "r1", "r.example/a/**")
	created, err := s.CreatePolicy(ctx, want, 2, auditOf("1"))
	want.Version = 1
	if err != nil || cmp.Diff(want, created) != "" || revision(t, s) != before+1 {
		t.Fatalf("create: %+v, %v", created, err)
	}
	if got, err := s.CreatePolicy(ctx, policyOf("a", "other", "r1"), 2, auditOf("2")); err != nil || cmp.Diff(want, got) != "" || revision(t, s) != before+1 {
		t.Errorf("the same request again: %+v, %v", got, err)
	}
	if _, err := s.CreatePolicy(ctx, policyOf("a", "one", "r2"), 2, auditOf("3")); !errors.Is(err, store.ErrExists) {
		t.Errorf("the same name: %v", err)
	}
	if _, err := s.CreatePolicy(ctx, policyOf("b", "b", ""), 2, auditOf("4")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreatePolicy(ctx, policyOf("c", "c", ""), 2, auditOf("5")); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}

	// Nothing half applied: what is refused leaves revision, versions and audit alone.
	stale := created.Etag()
	second, err := s.UpdatePolicy(ctx, policyOf("a", "two", "r3", "r.example/b/**"), stale, auditOf("6"))
	if err != nil || second.Version != 2 || second.Etag() == stale {
		t.Fatalf("update: %+v, %v", second, err)
	}
	at := revision(t, s)
	if _, err := s.UpdatePolicy(ctx, policyOf("a", "three", "r4"), stale, auditOf("7")); !errors.Is(err, store.ErrEtag) {
		t.Errorf("update with an old etag: %v", err)
	}
	if again, err := s.UpdatePolicy(ctx, policyOf("a", "two", "r3"), stale, auditOf("8")); err != nil || cmp.Diff(second, again) != "" {
		t.Errorf("the same update again: %+v, %v", again, err)
	}
	if same, err := s.UpdatePolicy(ctx, policyOf("a", "two", "r5"), second.Etag(), auditOf("9")); err != nil || same.Version != 2 {
		t.Errorf("the same document: %+v, %v", same, err)
	}
	if _, err := s.UpdatePolicy(ctx, policyOf("none", "x", ""), "1-x", auditOf("10")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("update of none: %v", err)
	}
	if err := s.DeletePolicy(ctx, policyOf("a", "", ""), stale, auditOf("11")); !errors.Is(err, store.ErrEtag) {
		t.Errorf("delete with an old etag: %v", err)
	}
	if revision(t, s) != at {
		t.Errorf("what was refused changed the rules")
	}
	if err := s.DeletePolicy(ctx, policyOf("a", "", ""), second.Etag(), auditOf("12")); err != nil {
		t.Fatal(err)
	}
	if err := s.DeletePolicy(ctx, policyOf("a", "", ""), "", auditOf("13")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("delete again: %v", err)
	}
	if again, err := s.CreatePolicy(ctx, policyOf("a", "four", "r6"), 2, auditOf("14")); err != nil || again.Version != 4 {
		t.Errorf("create again: %+v, %v", again, err)
	}

	if d := cmp.Diff([]string{"a v4 four", "b v1 b"}, inForce(t, s)); d != "" {
		t.Errorf("in force (-want +got):\n%s", d)
	}
	versions, err := s.PolicyVersions(ctx, "a", 4, 2)
	if err != nil || len(versions) != 2 || !versions[0].Deleted || versions[0].Version != 3 || versions[0].Document != "" || cmp.Diff(second, versions[1]) != "" {
		t.Errorf("versions below 4: %+v, %v", versions, err)
	}
	if old, err := s.Policy(ctx, "a", 1); err != nil || cmp.Diff(created, old) != "" {
		t.Errorf("version 1: %+v, %v", old, err)
	}
	for _, version := range []int64{0, 9} {
		if _, err := s.Policy(ctx, "none", version); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("version %d of none: %v", version, err)
		}
	}

	for _, w := range []struct {
		detail string
		globs  []string
	}{
		{"policy a v1", []string{"r.example/a/**"}},
		{"policy b v1", nil},
		{"policy a v2", []string{"r.example/a/**", "r.example/b/**"}},
		{"policy a v3 (deleted)", []string{"r.example/b/**"}},
		{"policy a v4", nil},
	} {
		if r := work(t, s); r.Cause != (store.Cause{Kind: core.CausePolicy, Detail: w.detail}) || cmp.Diff(w.globs, r.Repositories) != "" {
			t.Errorf("work %+v, want %+v", r, w)
		}
	}
	audits, err := s.Audits(ctx, 10)
	var told []string
	for _, a := range audits {
		told = append(told, a.ID+" "+a.Resource)
		if err := s.AuditPublished(ctx, a.ID); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([]string{"1 policy a v1", "12 policy a v3 (deleted)", "14 policy a v4", "4 policy b v1", "6 policy a v2"}, told); d != "" || err != nil {
		t.Errorf("audit: %v (-want +got):\n%s", err, d)
	}
	if left, err := s.Audits(ctx, 10); err != nil || len(left) > 0 {
		t.Errorf("left in the outbox: %+v, %v", left, err)
	}
}

func testPolicyFiles(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	by := store.Audit{ID: "files", Time: start.Add(time.Hour), Actor: "spiffe://x/service/verifier", Action: "policies.dir", Headers: "{}"}
	one, two := policyOf("one", "1", "", "x/**"), policyOf("two", "2", "", "y/**")
	for i, wantNew := range []int{2, 0} { // the second time nothing changes
		changed, err := s.SyncPolicies(ctx, []store.Policy{one, two}, by)
		if err != nil || len(changed) != wantNew {
			t.Errorf("sync %d: %+v, %v", i, changed, err)
		}
	}
	if r := work(t, s); r.Cause.Detail != "policy one v1, policy two v1" || cmp.Diff([]string{"x/**", "y/**"}, r.Repositories) != "" {
		t.Errorf("work: %+v", r)
	}
	got, err := s.Policy(ctx, "one", 0)
	if err != nil || !got.FromFile || got.Actor != by.Actor || !got.CreateTime.Equal(by.Time) {
		t.Errorf("one: %+v, %v", got, err)
	}
	if _, err := s.UpdatePolicy(ctx, policyOf("one", "x", ""), got.Etag(), auditOf("1")); !errors.Is(err, store.ErrFromFile) {
		t.Errorf("update one of a file: %v", err)
	}
	if err := s.DeletePolicy(ctx, policyOf("one", "", ""), "", auditOf("2")); !errors.Is(err, store.ErrFromFile) {
		t.Errorf("delete one of a file: %v", err)
	}
	if _, err := s.CreatePolicy(ctx, policyOf("api", "3", "", "z/**"), 9, auditOf("3")); err != nil {
		t.Fatal(err)
	}
	work(t, s)
	before := revision(t, s)
	one.Document, one.Digest = "1a", "sha256:1a"
	if _, err := s.SyncPolicies(ctx, []store.Policy{one, policyOf("api", "4", "")}, by); !errors.Is(err, store.ErrExists) {
		t.Errorf("a file with the name of the API: %v", err)
	}
	if d := cmp.Diff([]string{"api v1 3", "one v1 1", "two v1 2"}, inForce(t, s)); d != "" || revision(t, s) != before {
		t.Errorf("a sync that failed changed something (-want +got):\n%s", d)
	}
	changed, err := s.SyncPolicies(ctx, []store.Policy{one}, by)
	if err != nil || len(changed) != 2 {
		t.Errorf("one changed and one gone: %+v, %v", changed, err)
	}
	if r := work(t, s); r.Cause.Detail != "policy two v2 (deleted), policy one v2" || cmp.Diff([]string{"x/**", "y/**"}, r.Repositories) != "" {
		t.Errorf("work: %+v", r)
	}
	if d := cmp.Diff([]string{"api v1 3", "one v2 1a"}, inForce(t, s)); d != "" {
		t.Errorf("in force (-want +got):\n%s", d)
	}
}
