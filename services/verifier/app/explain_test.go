package app_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

func TestExplainAndHistory(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	f.pushed(t.Context(), "push", image)
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), time.Now())
	f.attested(t.Context(), "one", image)
	f.next()
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now().Add(time.Second))
	f.attested(t.Context(), "two", image)
	f.next()

	byTag := imageref.Ref{Registry: image.Registry, Repository: image.Repository, Tag: "v1"}
	first, err := v.verdicts.GetVerdictHistory(t.Context(), &verifierv1.GetVerdictHistoryRequest{Image: message(byTag), PageSize: 1})
	if err != nil || len(first.GetChanges()) != 1 || first.GetNextPageToken() == "" {
		t.Fatalf("first page: %v, %v", first, err)
	}
	second, err := v.verdicts.GetVerdictHistory(t.Context(), &verifierv1.GetVerdictHistoryRequest{Image: message(byTag), PageToken: first.GetNextPageToken()})
	if err != nil || len(second.GetChanges()) != 1 || second.GetNextPageToken() != "" {
		t.Fatalf("second page: %v, %v", second, err)
	}
	newest, oldest := first.GetChanges()[0], second.GetChanges()[0]
	if newest.GetCause() != verifierv1.VerdictChange_CAUSE_EVIDENCE || newest.GetPreviousState() != verifierv1.Verdict_STATE_FAIL ||
		oldest.GetCause() != verifierv1.VerdictChange_CAUSE_FIRST || oldest.GetVerdict().GetState() != verifierv1.Verdict_STATE_FAIL {
		t.Errorf("history: %v\n%v", newest, oldest)
	}
	for _, change := range []*verifierv1.VerdictChange{newest, oldest} {
		r, err := v.verdicts.ExplainVerdict(t.Context(), &verifierv1.ExplainVerdictRequest{VerdictDigest: change.GetVerdict().GetDigest()})
		if err != nil || !r.GetEqual() || len(r.GetMissingInputs()) > 0 {
			t.Errorf("explanation: %v, %v", r, err)
		}
		if d := cmp.Diff(change.GetVerdict(), r.GetRecorded(), protocmp.Transform()); d != "" {
			t.Errorf("recorded verdict (-want +got):\n%s", d)
		}
	}

	for name, tc := range map[string]struct {
		call   func() error
		reason string
	}{
		"malformed digest": {func() error {
			_, err := v.verdicts.ExplainVerdict(t.Context(), &verifierv1.ExplainVerdictRequest{VerdictDigest: "sha512:x"})
			return err
		}, "INVALID_ARGUMENT"},
		"unknown verdict": {func() error {
			_, err := v.verdicts.ExplainVerdict(t.Context(), &verifierv1.ExplainVerdictRequest{VerdictDigest: image.Digest})
			return err
		}, "VERDICT_NOT_FOUND"},
		"unknown tag": {func() error {
			none := byTag
			none.Tag = "none"
			_, err := v.verdicts.GetVerdictHistory(t.Context(), &verifierv1.GetVerdictHistoryRequest{Image: message(none)})
			return err
		}, "TAG_UNKNOWN"},
		"token of another query": {func() error {
			_, err := v.verdicts.GetVerdictHistory(t.Context(), &verifierv1.GetVerdictHistoryRequest{
				Image: message(imageref.Ref{Digest: image.Digest}), PageToken: first.GetNextPageToken(),
			})
			return err
		}, "INVALID_PAGE_TOKEN"},
	} {
		if err := tc.call(); !apierr.HasReason(err, tc.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
