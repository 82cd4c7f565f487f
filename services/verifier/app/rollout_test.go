package app_test

import (
	"context"
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

// vexRow is the digest of a VEX document that nobody can read.
var vexRow = "sha256:" + strings.Repeat("1", 64)

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

// TestUnreadableRule has the store hold a rule that this release cannot read when other
// rules change. The images that it may be for do not keep the PASS of before; the others are
// judged, and so are all of them once the rule is gone.
func TestUnreadableRule(t *testing.T) {
	t.Parallel()
	everywhere := map[string]verifierv1.Verdict_State{"team/a": verifierv1.Verdict_STATE_UNKNOWN, "elsewhere/x": verifierv1.Verdict_STATE_UNKNOWN}
	for name, tc := range map[string]struct {
		poison string
		remove func(context.Context, *verifier) error
		want   map[string]verifierv1.Verdict_State
	}{
		"policy": {
			poison: `UPDATE policy_versions SET document = 'apiVersion: seaworthy.dev/v9', digest = 'sha256:9' WHERE name = 'theirs'`,
			remove: func(ctx context.Context, v *verifier) error {
				_, err := v.policies.DeletePolicy(ctx, &verifierv1.DeletePolicyRequest{Name: "theirs"})
				return err
			},
			want: map[string]verifierv1.Verdict_State{"team/a": verifierv1.Verdict_STATE_UNKNOWN, "elsewhere/x": verifierv1.Verdict_STATE_FAIL},
		},
		"policy with an unreadable scope": {
			poison: `UPDATE policy_versions SET document = 'apiVersion: seaworthy.dev/v9', digest = 'sha256:9', repositories = '["r.example/app:1"]' WHERE name = 'theirs'`,
			remove: func(ctx context.Context, v *verifier) error {
				_, err := v.policies.DeletePolicy(ctx, &verifierv1.DeletePolicyRequest{Name: "theirs"})
				return err
			},
			want: everywhere,
		},
		"exception": {
			poison: `INSERT INTO exceptions (name, from_file, request_id, create_time, body) VALUES ('new', 0, '', 1,
				CAST('{"name":"new","target":"CVE-2022-32149","repositories":"**","owner":"a","reason":"b","expire_time":"2099-01-01T00:00:00Z","clusters":["test"]}' AS BLOB))`,
			remove: func(ctx context.Context, v *verifier) error {
				_, err := v.except.DeleteException(ctx, &verifierv1.DeleteExceptionRequest{Name: "new"})
				return err
			},
			want: everywhere,
		},
		"VEX document": {
			poison: `INSERT INTO vex_documents (digest, from_file, document, bundle, import_time) VALUES ('` + vexRow + `', 0, CAST('{}' AS BLOB), CAST('{}' AS BLOB), 1)`,
			remove: func(ctx context.Context, v *verifier) error {
				_, err := v.vex.DeleteVexDocument(ctx, &verifierv1.DeleteVexDocumentRequest{Digest: vexRow})
				return err
			},
			want: everywhere,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			v := f.start()
			if _, err := v.policies.CreatePolicy(t.Context(), &verifierv1.CreatePolicyRequest{Document: document("theirs", "**/team/*", "true")}); err != nil {
				t.Fatal(err)
			}
			images := []imageref.Ref{f.judged("team/a"), f.judged("elsewhere/x")}
			v.stop()
			f.sql(tc.poison)
			v = f.start()
			if _, err := v.policies.CreatePolicy(t.Context(), &verifierv1.CreatePolicyRequest{Document: document(denyAll, "**", "false")}); err != nil {
				t.Fatal(err)
			}
			f.within(30*time.Second, "judged or UNKNOWN", func() bool {
				for _, i := range images {
					if v.get(t, i).GetState() != tc.want[i.Repository] {
						return false
					}
				}
				return true
			})
			for _, i := range images {
				if got := v.get(t, i); tc.want[i.Repository] == verifierv1.Verdict_STATE_UNKNOWN && code(got) != "RULES_UNREADABLE" {
					t.Errorf("%s: %v", i.Repository, got)
				}
			}
			// New evidence is not judged without the rule either.
			f.registry.Attest(f.key, images[0], images[0].Digest, evidencetest.Report(images[0].Digest, evidencetest.Critical()), time.Now())
			if err := tc.remove(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			f.within(30*time.Second, "all are judged by the evidence there is", func() bool {
				for _, i := range images {
					if got := v.get(t, i); got.GetState() != verifierv1.Verdict_STATE_FAIL || code(got) != "RULE_DENIED" {
						return false
					}
				}
				return v.rollout(t, "").GetUnreadableCount() == 0
			})
		})
	}
}

// TestManyUnreadable changes a policy while the registry gives nothing of many images.
// Subscribers are told of some of them, operators of all at once.
func TestManyUnreadable(t *testing.T) {
	t.Parallel()
	const images = 30
	f := newFleet(t)
	v := f.start()
	for i := range images {
		f.judged("team/app" + strings.Repeat("x", i))
	}
	v.stop()
	f.forgetDocuments()
	forbid := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	f.registry.Before.Store(&forbid)
	v = f.start()
	if _, err := v.policies.CreatePolicy(t.Context(), &verifierv1.CreatePolicyRequest{Document: document(denyAll, "**", "false")}); err != nil {
		t.Fatal(err)
	}
	f.within(60*time.Second, "none can be judged", func() bool {
		r := v.rollout(t, denyAll)
		return r.GetUnreadableCount() == images && r.GetWaitingCount() == 0 && len(r.GetUnreadable()) == 20
	})
	f.within(30*time.Second, "operators know", func() bool {
		err := v.readiness.Components()["evidence"]
		return err != nil && strings.Contains(err.Error(), "30 images are UNKNOWN because they could not be judged") && v.readiness.Check() == nil
	})
	list, err := v.verdicts.ListVerdicts(t.Context(), &verifierv1.ListVerdictsRequest{State: verifierv1.Verdict_STATE_UNKNOWN})
	if err != nil || len(list.GetVerdicts()) != images {
		t.Errorf("%d are UNKNOWN, %v", len(list.GetVerdicts()), err)
	}
	time.Sleep(time.Second)
	if told := len(f.verdicts); told == 0 || told > 20 {
		t.Errorf("%d images are told of", told)
	}
}

// TestRolloutIsTrue changes a policy again and again at one replica while another one may
// judge: once the replica says that no image waits, it answers by the rules in force.
func TestRolloutIsTrue(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	replicas := []*verifier{f.start(), f.start()}
	image := f.judged("team/a")
	for turn := range 6 {
		v := replicas[turn%2]
		for _, r := range replicas {
			r.get(t, image) // kept ready from now on
		}
		var err error
		want := verifierv1.Verdict_STATE_FAIL
		if turn%2 == 0 {
			_, err = v.policies.CreatePolicy(t.Context(), &verifierv1.CreatePolicyRequest{Document: document(denyAll, "**/team/*", "false")})
		} else {
			want = verifierv1.Verdict_STATE_PASS
			_, err = v.policies.DeletePolicy(t.Context(), &verifierv1.DeletePolicyRequest{Name: denyAll})
		}
		if err != nil {
			t.Fatal(err)
		}
		f.within(30*time.Second, "no image waits", func() bool { return v.rollout(t, denyAll).GetWaitingCount() == 0 })
		if got := v.get(t, image); got.GetState() != want {
			t.Fatalf("turn %d: %v after the rollout", turn, got.GetState())
		}
	}
}

// TestRolloutOfNarrowedPolicy: images that a policy is for no longer are judged again too,
// and count until they are.
func TestRolloutOfNarrowedPolicy(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	f.judged("team/a")
	other := f.judged("elsewhere/x")
	created, err := v.policies.CreatePolicy(t.Context(), &verifierv1.CreatePolicyRequest{Document: document(denyAll, "**", "false")})
	if err != nil {
		t.Fatal(err)
	}
	f.within(30*time.Second, "both are denied", func() bool {
		r := v.rollout(t, denyAll)
		return r.GetJudgedCount() == 2 && r.GetWaitingCount() == 0
	})
	v.stop()
	// The evidence is read again, and the registry does not give that of the other one.
	f.forgetDocuments()
	f.fault(other.Repository, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	v = f.start()
	if _, err := v.policies.UpdatePolicy(t.Context(), &verifierv1.UpdatePolicyRequest{
		Document: document(denyAll, "**/team/*", "false"), Etag: created.GetPolicy().GetEtag(),
	}); err != nil {
		t.Fatal(err)
	}
	f.within(45*time.Second, "one could not be judged", func() bool {
		r := v.rollout(t, denyAll)
		if r.GetUnreadableCount() == 0 && r.GetWaitingCount() == 0 {
			t.Fatalf("all are said to be judged: %v", r)
		}
		return r.GetJudgedCount() == 1 && r.GetUnreadableCount() == 1
	})
	f.registry.Before.Store(nil)
	f.within(60*time.Second, "it is judged, and the policy is not for it", func() bool {
		r := v.rollout(t, denyAll)
		return r.GetJudgedCount() == 1 && r.GetUnreadableCount() == 0
	})
	if got := v.get(t, other); got.GetState() != verifierv1.Verdict_STATE_PASS {
		t.Errorf("the other one: %v", got)
	}
}
