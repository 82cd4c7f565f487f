package app_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

const denyAll = "deny-all"

// rollout counts the images of a policy.
func (v *verifier) rollout(t *testing.T, policy string) *verifierv1.GetRolloutResponse {
	t.Helper()
	r, err := v.policies.GetRollout(t.Context(), &verifierv1.GetRolloutRequest{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fleet) within(d time.Duration, what string, met func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(d)
	for !met() {
		if time.Now().After(deadline) {
			f.t.Fatalf("it did not come to that in time: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// fault makes the registry answer requests about a repository otherwise.
func (f *fleet) fault(repository string, answer func(http.ResponseWriter, *http.Request)) {
	before := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v2/"+repository+"/") {
			return false
		}
		answer(w, r)
		return true
	}
	f.registry.Before.Store(&before)
}

// TestOneUnreadableImage changes a policy after the recorded evidence is trusted no more,
// so that all evidence is read from the registry, and the registry does not give that of
// one image. All others are judged; the one is UNKNOWN and judged as soon as it can be.
func TestOneUnreadableImage(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"refused":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"hanging":  func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			v := f.start()
			var images []imageref.Ref
			for _, r := range []string{"team/a", "team/b", "team/c", "team/d"} {
				images = append(images, f.judged(r))
			}
			other := f.judged("elsewhere/x")
			v.stop()
			// The record is gone, as good as by a key that is trusted no more.
			f.forgetDocuments()
			f.fault("team/b", answer)
			v = f.start()
			if _, err := v.policies.CreatePolicy(t.Context(), &verifierv1.CreatePolicyRequest{Document: document(denyAll, "**/team/*", "false")}); err != nil {
				t.Fatal(err)
			}
			want := map[string]verifierv1.Verdict_State{
				"team/a": verifierv1.Verdict_STATE_FAIL, "team/b": verifierv1.Verdict_STATE_UNKNOWN,
				"team/c": verifierv1.Verdict_STATE_FAIL, "team/d": verifierv1.Verdict_STATE_FAIL,
			}
			f.within(45*time.Second, "all are judged but one", func() bool {
				for _, i := range images {
					if v.get(t, i).GetState() != want[i.Repository] {
						return false
					}
				}
				return true
			})
			if got := v.get(t, images[1]); code(got) != "EVIDENCE_UNREADABLE" {
				t.Errorf("unreadable: %v", got)
			}
			if got := v.get(t, other); got.GetState() != verifierv1.Verdict_STATE_PASS {
				t.Errorf("an image that the policy is not for: %v", got)
			}
			f.within(10*time.Second, "the rollout says so", func() bool {
				r := v.rollout(t, denyAll)
				return r.GetJudgedCount() == 3 && r.GetUnreadableCount() == 1 && r.GetWaitingCount() == 0 &&
					len(r.GetUnreadable()) == 1 && r.GetUnreadable()[0].GetImage().GetRepository() == "team/b" && r.GetUnreadable()[0].GetProblem() != ""
			})
			if r := v.rollout(t, ""); r.GetJudgedCount() != 4 || r.GetUnreadableCount() != 1 {
				t.Errorf("of all images: %v", r)
			}
			f.registry.Before.Store(nil)
			f.within(60*time.Second, "it is judged", func() bool { return v.get(t, images[1]).GetState() == verifierv1.Verdict_STATE_FAIL })
			if r := v.rollout(t, denyAll); r.GetJudgedCount() != 4 || r.GetUnreadableCount() != 0 {
				t.Errorf("in the end: %v", r)
			}
		})
	}
}

// forgetDocuments takes the recorded evidence out of the database.
func (f *fleet) forgetDocuments() { f.sql(`DELETE FROM documents`) }

func (f *fleet) sql(statement string) {
	f.t.Helper()
	db, err := sqldb.Open(f.t.Context(), f.db, "test")
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(f.t.Context(), statement); err != nil {
		f.t.Fatal(err)
	}
}

// TestPoisonRecord changes a policy while the record of an image is damaged: the verdict
// itself or the evidence. It is judged by what the registry has, and so are the others.
func TestPoisonRecord(t *testing.T) {
	t.Parallel()
	for name, poison := range map[string]string{
		"verdict":  `UPDATE verdicts SET body = CAST('\xff no verdict' AS BLOB) WHERE sequence = 1`,
		"document": `UPDATE documents SET body = CAST('no document' AS BLOB)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			v := f.start()
			images := []imageref.Ref{f.judged("team/a"), f.judged("team/b")}
			v.stop()
			f.sql(poison)
			v = f.start()
			if _, err := v.policies.CreatePolicy(t.Context(), &verifierv1.CreatePolicyRequest{Document: document(denyAll, "**", "false")}); err != nil {
				t.Fatal(err)
			}
			for range images {
				if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
					t.Errorf("event: %v", e)
				}
			}
			for _, i := range images {
				if got := v.get(t, i); got.GetState() != verifierv1.Verdict_STATE_FAIL {
					t.Errorf("%s: %v", i.Repository, got)
				}
			}
			// New evidence is judged as ever.
			f.registry.Attest(f.key, images[0], images[0].Digest, evidencetest.Report(images[0].Digest, evidencetest.Critical()), time.Now())
			f.attested(t.Context(), "again", images[0])
			if e := f.next(); !strings.HasPrefix(e.GetReasons()[0], "RULE_DENIED") {
				t.Errorf("event: %v", e)
			}
		})
	}
}
