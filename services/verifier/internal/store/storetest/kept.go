package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

func testOutbox(t *testing.T, s store.Store) {
	t.Helper()
	save(t, s, verdict(image, core.StatePass, "one", 0))
	save(t, s, verdict(image, core.StateFail, "two", 1))
	out, err := s.Outbox(t.Context(), 10)
	if err != nil || len(out) != 2 {
		t.Fatalf("outbox: %+v, %v", out, err)
	}
	if out[0].Sequence != 1 || out[0].Headers != `{"h":"one"}` || string(out[0].Body) != "one" || out[1].PreviousState != core.StatePass {
		t.Errorf("outbox: %+v", out)
	}
	if one, err := s.Outbox(t.Context(), 1); err != nil || len(one) != 1 {
		t.Errorf("outbox of one: %+v, %v", one, err)
	}
	for range 2 { // taking out twice is no error
		if err := s.Published(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if out, err = s.Outbox(t.Context(), 10); err != nil || len(out) != 1 || out[0].Sequence != 2 {
		t.Errorf("outbox after publishing: %+v, %v", out, err)
	}
}

func testReportTimes(t *testing.T, s store.Store) {
	t.Helper()
	v := verdict(image, core.StatePass, "one", 0)
	v.ReportTimes = map[string]time.Time{digest: start}
	save(t, s, v)
	// An unchanged verdict moves the time too, an older report does not.
	for i, at := range []time.Time{start.Add(time.Hour), start.Add(time.Minute)} {
		v = verdict(image, core.StatePass, "one", 1)
		v.ReportTimes, v.CreateTime = map[string]time.Time{digest: at}, start.Add(time.Hour)
		save(t, s, v)
		got, err := s.ReportTimes(t.Context(), image, []string{digest, "sha256:none"})
		if diff := cmp.Diff(map[string]time.Time{digest: start.Add(time.Hour)}, got); err != nil || diff != "" {
			t.Errorf("step %d: %v, %s", i, err, diff)
		}
	}
	// A time of the future is not kept, and one that an earlier release kept goes.
	for i, step := range []struct{ now, signed, want time.Time }{
		{start.Add(time.Hour), start.Add(48 * time.Hour), start.Add(time.Hour)},
		{start, start.Add(time.Minute), start.Add(time.Minute)},
	} {
		v = verdict(image, core.StatePass, "one", 1)
		v.ReportTimes, v.CreateTime = map[string]time.Time{digest: step.signed}, step.now
		save(t, s, v)
		got, err := s.ReportTimes(t.Context(), image, []string{digest})
		if diff := cmp.Diff(map[string]time.Time{digest: step.want}, got); err != nil || diff != "" {
			t.Errorf("the future, step %d: %v, %s", i, err, diff)
		}
	}
	// A copy in another repository has reports of its own.
	elsewhere := image
	elsewhere.Repository = "another/app"
	if got, err := s.ReportTimes(t.Context(), elsewhere, []string{digest}); err != nil || len(got) != 0 {
		t.Errorf("another repository: %v, %v", got, err)
	}
}

func testTrust(t *testing.T, s store.Store) {
	t.Helper()
	if _, _, err := s.LoadTrust(t.Context(), "signer"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("nothing kept: %v", err)
	}
	for _, body := range []string{"one", "two"} {
		if err := s.SaveTrust(t.Context(), "signer", []byte(body), start); err != nil {
			t.Fatal(err)
		}
	}
	body, fetched, err := s.LoadTrust(t.Context(), "signer")
	if err != nil || string(body) != "two" || !fetched.Equal(start) {
		t.Errorf("kept %q of %s, %v", body, fetched, err)
	}
}

// testSyncTrust: each change of trust orders the images to be judged again once, however
// many replicas find it.
func testSyncTrust(t *testing.T, s store.Store) {
	t.Helper()
	if got, err := s.Trust(t.Context()); err != nil || got != "" {
		t.Errorf("at first: %q, %v", got, err)
	}
	by, cause := auditor(), store.Cause{Kind: core.CauseTrust, Detail: "test"}
	before, err := s.RulesRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		fingerprint string
		orders      bool
	}{{"one", true}, {"one", false}, {"two", true}, {"one", true}, {"one", false}} {
		if err := s.SyncTrust(t.Context(), step.fingerprint, cause, by()); err != nil {
			t.Fatal(err)
		}
		after, err := s.RulesRevision(t.Context())
		if err != nil || (after > before) != step.orders {
			t.Errorf("step %d: revision %d after %d, %v", i, after, before, err)
		}
		before = after
		if got, err := s.Trust(t.Context()); err != nil || got != step.fingerprint {
			t.Errorf("step %d: %q, %v", i, got, err)
		}
		work, err := s.NextReevaluation(t.Context())
		if (err == nil) != step.orders || step.orders && (work.Cause != cause || len(work.Repositories) > 0) {
			t.Errorf("step %d: %+v, %v", i, work, err)
		}
		if err == nil {
			if err := s.AdvanceReevaluation(t.Context(), work, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	if audits, err := s.Audits(t.Context(), 10); err != nil || len(audits) != 3 || audits[0].Resource != "trust roots one" {
		t.Errorf("audits: %+v, %v", audits, err)
	}
}

func testDocuments(t *testing.T, s store.Store) {
	t.Helper()
	d := record.Document{Digest: "sha256:doc", Packed: []byte{0, 1, 2}}
	v := verdict(image, core.StateFail, "one", 0)
	v.Documents = []record.Document{d}
	save(t, s, v)
	again := verdict(image, core.StatePass, "two", 1)
	again.Documents = []record.Document{{Digest: d.Digest, Packed: []byte("other")}, {Digest: "sha256:new", Packed: []byte("new")}}
	save(t, s, again)
	got, err := s.Document(t.Context(), d.Digest)
	if err != nil || cmp.Diff(d, got) != "" {
		t.Errorf("document: %+v, %v", got, err)
	}
	if got, err := s.Document(t.Context(), "sha256:new"); err != nil || string(got.Packed) != "new" {
		t.Errorf("second document: %+v, %v", got, err)
	}
	if _, err := s.Document(t.Context(), "sha256:none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no document: %v", err)
	}
	for _, tc := range []struct {
		digests []string
		limit   int64
		want    int
	}{
		{nil, 1 << 20, 0},
		{[]string{"sha256:none"}, 1 << 20, 0},
		{[]string{"sha256:new", "sha256:none", d.Digest}, 1 << 20, 2},
		{[]string{"sha256:new", d.Digest}, 4, 2},
		{[]string{"sha256:new", d.Digest}, 3, 1},
	} {
		got, err := s.Documents(t.Context(), tc.digests, tc.limit)
		if err != nil || len(got) != tc.want {
			t.Errorf("%q within %d bytes: %+v, %v", tc.digests, tc.limit, got, err)
		}
		for digest, g := range got {
			want := map[string]string{"sha256:new": "new", d.Digest: string(d.Packed)}[digest]
			if g.Digest != digest || string(g.Packed) != want {
				t.Errorf("%s is %+v", digest, g)
			}
		}
	}
	// A verdict that says nothing new leaves no documents behind.
	same := verdict(image, core.StatePass, "two", 2)
	same.Documents = []record.Document{{Digest: "sha256:same", Packed: []byte("same")}}
	save(t, s, same)
	if _, err := s.Document(t.Context(), "sha256:same"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("document of an unchanged verdict: %v", err)
	}
}
