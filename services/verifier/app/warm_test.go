package app_test

import (
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// TestWarmVerdictsOfReplicas asks two replicas that keep answers ready: a change that
// one of them stores reaches the other, at once for whoever knows of it.
func TestWarmVerdictsOfReplicas(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	replicas := []*verifier{f.startWith(clock), f.startWith(clock)}
	image := f.registry.PushImage("team/app", "v1")
	for _, v := range replicas {
		if got := v.get(t, image); code(got) != "NEVER_SEEN" {
			t.Errorf("before the push: %v", got)
		}
	}
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.attested(t.Context(), "one", image)
	e := f.next()
	get := func(v *verifier, req *verifierv1.GetVerdictRequest) *verifierv1.Verdict {
		t.Helper()
		req.Image = message(image)
		r, err := v.verdicts.GetVerdict(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return r.GetVerdict()
	}
	for range 2 { // the second time from memory
		for _, v := range replicas {
			full := get(v, &verifierv1.GetVerdictRequest{MinSequence: e.GetSequence()})
			if full.GetState() != verifierv1.Verdict_STATE_PASS || len(full.GetPlatforms()) != 1 || full.GetDigest() != e.GetVerdictDigest() ||
				full.GetSequence() != e.GetSequence() || full.GetTraceId() == "" {
				t.Errorf("full: %v", full)
			}
			basic := get(v, &verifierv1.GetVerdictRequest{View: verifierv1.VerdictView_VERDICT_VIEW_BASIC})
			if basic.GetState() != verifierv1.Verdict_STATE_PASS || basic.GetPlatforms() != nil || basic.GetDigest() != full.GetDigest() {
				t.Errorf("basic: %v", basic)
			}
			batch, err := v.verdicts.BatchGetVerdicts(t.Context(), &verifierv1.BatchGetVerdictsRequest{Images: []*typev1.ImageRef{
				{Digest: image.Digest}, {Registry: image.Registry, Repository: image.Repository, Tag: "never"}, message(image),
			}})
			if err != nil || len(batch.GetVerdicts()) != 3 || batch.GetVerdicts()[0].GetDigest() != full.GetDigest() ||
				code(batch.GetVerdicts()[1]) != "NEVER_SEEN" || batch.GetVerdicts()[2].GetDigest() != full.GetDigest() {
				t.Errorf("batch: %v, %v", batch, err)
			}
			// Only who leaves the image open is told which one it is.
			if open, named := batch.GetVerdicts()[0], batch.GetVerdicts()[2]; open.GetImage().GetRepository() != image.Repository || named.GetImage() != nil ||
				named.GetState() != full.GetState() || !proto.Equal(named.GetExpireTime(), full.GetExpireTime()) || named.GetSequence() != full.GetSequence() {
				t.Errorf("decisions: %v", batch)
			}
			decision := get(v, &verifierv1.GetVerdictRequest{View: verifierv1.VerdictView_VERDICT_VIEW_DECISION})
			if !proto.Equal(decision, batch.GetVerdicts()[2]) {
				t.Errorf("decision: %v", decision)
			}
			whole, err := v.verdicts.BatchGetVerdicts(t.Context(), &verifierv1.BatchGetVerdictsRequest{
				Images: []*typev1.ImageRef{message(image)}, View: verifierv1.VerdictView_VERDICT_VIEW_FULL,
			})
			if err != nil || !proto.Equal(whole.GetVerdicts()[0], full) {
				t.Errorf("batch of whole verdicts: %v, %v", whole, err)
			}
		}
	}

	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), time.Now())
	f.attested(t.Context(), "two", image)
	if e = f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Fatalf("event: %v", e)
	}
	for _, v := range replicas {
		if got := get(v, &verifierv1.GetVerdictRequest{MinSequence: e.GetSequence()}); got.GetState() != verifierv1.Verdict_STATE_FAIL {
			t.Errorf("asked with the sequence of the event: %v", got)
		}
	}
	for _, v := range replicas {
		// The promise is a second; a busy machine gets more.
		deadline := time.Now().Add(10 * time.Second)
		for get(v, &verifierv1.GetVerdictRequest{}).GetState() != verifierv1.Verdict_STATE_FAIL {
			if time.Now().After(deadline) {
				t.Fatal("the change did not reach the replica")
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	for name, req := range map[string]*verifierv1.GetVerdictRequest{
		"view":         {Image: message(image), View: 9},
		"min_sequence": {Image: message(image), MinSequence: -1},
	} {
		_, err := replicas[0].verdicts.GetVerdict(t.Context(), req)
		if v := apierr.From(err).Violations(); len(v) != 1 || v[0].Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNeverPassPastItsEnd asks for a verdict when it ends, in every way there is: at a
// replica that keeps it ready and at one that was never asked.
func TestNeverPassPastItsEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	warm, cold := f.startWith(clock), f.startWith(clock)
	image := f.registry.PushImage("team/app", "v1")
	f.pushed(t.Context(), "push", image)
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.attested(t.Context(), "one", image)
	f.next()
	got := warm.get(t, image)
	if got.GetState() != verifierv1.Verdict_STATE_PASS || got.GetExpireTime() == nil {
		t.Fatalf("the verdict does not end: %v", got)
	}
	refs := []*typev1.ImageRef{message(image), {Digest: image.Digest}, message(image.WithDigest(""))}
	ask := func(v *verifier, want verifierv1.Verdict_State) {
		t.Helper()
		for view := range verifierv1.VerdictView_name {
			view := verifierv1.VerdictView(view)
			for _, ref := range refs {
				for _, wait := range []bool{false, true} {
					r, err := v.verdicts.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Image: ref, View: view, Wait: wait})
					if err != nil || r.GetVerdict().GetState() != want {
						t.Errorf("%v in %v, waiting %t: %v, %v", ref, view, wait, r, err)
					}
				}
			}
			r, err := v.verdicts.BatchGetVerdicts(t.Context(), &verifierv1.BatchGetVerdictsRequest{Images: refs, View: view})
			if err != nil || len(r.GetVerdicts()) != len(refs) {
				t.Fatalf("batch in %v: %v, %v", view, r, err)
			}
			for _, one := range r.GetVerdicts() {
				if one.GetState() != want {
					t.Errorf("batch in %v: %v", view, one)
				}
			}
		}
	}
	ask(warm, verifierv1.Verdict_STATE_PASS)
	f.registry.Down.Store(true)
	ahead.Store(int64(time.Until(got.GetExpireTime().AsTime())))
	for _, v := range []*verifier{warm, cold} {
		ask(v, verifierv1.Verdict_STATE_UNKNOWN)
		list, err := v.verdicts.ListVerdicts(t.Context(), &verifierv1.ListVerdictsRequest{})
		if err != nil || len(list.GetVerdicts()) != 1 || list.GetVerdicts()[0].GetState() != verifierv1.Verdict_STATE_UNKNOWN {
			t.Errorf("list: %v, %v", list, err)
		}
		if list, err = v.verdicts.ListVerdicts(t.Context(), &verifierv1.ListVerdictsRequest{State: verifierv1.Verdict_STATE_PASS}); err != nil || len(list.GetVerdicts()) != 0 {
			t.Errorf("list of those that pass: %v, %v", list, err)
		}
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	var ahead atomic.Int64
	v := f.startWith(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	old := f.registry.PushImage("team/app", "v1")
	f.pushed(t.Context(), "push", old)
	f.registry.Attest(f.key, old, old.Digest, evidencetest.Report(old.Digest), time.Now())
	f.attested(t.Context(), "one", old)
	f.next()
	tag := old.WithDigest("")
	ask := func() (*verifierv1.Verdict, error) {
		r, err := v.verdicts.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Image: message(tag), Resolve: true})
		return r.GetVerdict(), err
	}
	if got, err := ask(); err != nil || got.GetState() != verifierv1.Verdict_STATE_PASS || got.GetImage().GetDigest() != old.Digest {
		t.Errorf("the tag as it was pushed: %v, %v", got, err)
	}
	// Somebody moves the tag, and no push is reported.
	moved := f.registry.PushImage("team/app", "v1")
	if moved.Digest == old.Digest {
		t.Fatal("the tag was not moved")
	}
	if got, err := ask(); err != nil || got.GetImage().GetDigest() != old.Digest {
		t.Errorf("within seconds: %v, %v", got, err)
	}
	ahead.Store(int64(6 * time.Second))
	if got, err := ask(); err != nil || code(got) != "NEVER_SEEN" || got.GetImage().GetDigest() != moved.Digest {
		t.Errorf("later: %v, %v", got, err)
	}
	if got := v.get(t, tag); got.GetImage().GetDigest() != old.Digest {
		t.Errorf("without resolve the last push counts: %v", got)
	}
	tag.Tag = "none"
	if _, err := ask(); !apierr.HasReason(err, "TAG_NOT_FOUND") {
		t.Errorf("a tag that is not there: %v", err)
	}
	tag.Registry = "elsewhere.example"
	if _, err := ask(); !apierr.HasReason(err, "REGISTRY_REFUSED") {
		t.Errorf("a registry that is not allowed: %v", err)
	}
	f.registry.Down.Store(true)
	tag = old.WithDigest("")
	ahead.Store(int64(12 * time.Second))
	if _, err := ask(); !apierr.HasReason(err, "REGISTRY_UNAVAILABLE") {
		t.Errorf("a registry that is down: %v", err)
	}
	r, err := v.verdicts.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Image: message(old), Resolve: true})
	if err != nil || r.GetVerdict().GetState() != verifierv1.Verdict_STATE_PASS {
		t.Errorf("an image by digest needs no registry: %v, %v", r, err)
	}
}
