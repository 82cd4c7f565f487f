package app_test

import (
	"fmt"
	"testing"
	"time"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// TestWatchAcrossReplicas breaks a watch after every change and resumes it at the
// other replica, while both store verdicts: nothing is missing and nothing comes twice.
func TestWatchAcrossReplicas(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	replicas := []*verifier{f.start(), f.start()}
	const images = 12
	for i := range images {
		image := f.registry.PushImage(fmt.Sprintf("team/app%d", i), "v1")
		f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
		f.attested(t.Context(), fmt.Sprint("attested ", i), image)
	}
	var cursor int64
	for i := range int64(images) {
		cursor = watch(t, replicas[i%2], cursor, i+1)
	}
	// And all at once, from the beginning.
	all := make([]int64, images)
	for i := range all {
		all[i] = int64(i) + 1
	}
	watch(t, replicas[0], 0, all...)
}

// TestListVerdicts filters and turns pages.
func TestListVerdicts(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	good, bad, other := f.registry.PushImage("team/good", "v1"), f.registry.PushImage("team/bad", "v1"), f.registry.PushImage("team/other", "v1")
	f.registry.Attest(f.key, good, good.Digest, evidencetest.Report(good.Digest), time.Now())
	f.registry.Attest(f.key, bad, bad.Digest, evidencetest.Report(bad.Digest, evidencetest.Critical()), time.Now())
	f.registry.Attest(f.key, other, other.Digest, evidencetest.Report(other.Digest), time.Now())
	f.attested(t.Context(), "good", good)
	f.next()
	f.attested(t.Context(), "bad", bad)
	f.next()
	f.attested(t.Context(), "other", other)
	f.next()
	list := func(req *verifierv1.ListVerdictsRequest) (digests []string, token string) {
		t.Helper()
		r, err := v.verdicts.ListVerdicts(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range r.GetVerdicts() {
			digests = append(digests, one.GetImage().GetDigest())
		}
		return digests, r.GetNextPageToken()
	}
	want := func(name string, req *verifierv1.ListVerdictsRequest, want ...string) (token string) {
		t.Helper()
		got, token := list(req)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		return token
	}
	want("all, latest first", &verifierv1.ListVerdictsRequest{}, other.Digest, bad.Digest, good.Digest)
	want("failed", &verifierv1.ListVerdictsRequest{State: verifierv1.Verdict_STATE_FAIL}, bad.Digest)
	want("of a repository", &verifierv1.ListVerdictsRequest{Repository: good.Name()}, good.Digest)
	want("of one that failed nothing", &verifierv1.ListVerdictsRequest{Repository: good.Name(), State: verifierv1.Verdict_STATE_FAIL})
	token := want("first page", &verifierv1.ListVerdictsRequest{PageSize: 2}, other.Digest, bad.Digest)
	if last := want("second page", &verifierv1.ListVerdictsRequest{PageSize: 2, PageToken: token}, good.Digest); last != "" {
		t.Errorf("the last page has the token %q", last)
	}
	_, err := v.verdicts.ListVerdicts(t.Context(), &verifierv1.ListVerdictsRequest{PageSize: 2, PageToken: token, Repository: good.Name()})
	if violations := apierr.From(err).Violations(); len(violations) != 1 || violations[0].Field != "page_token" {
		t.Errorf("a token of another query: %v", err)
	}
}
