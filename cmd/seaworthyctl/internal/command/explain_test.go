package command_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

func recorded(state verifierv1.Verdict_State, sequence int64) *verifierv1.Verdict {
	v := verdict(state)
	v.Sequence, v.Digest = sequence, digestB
	v.Platforms = []*verifierv1.PlatformVerdict{{
		Digest: digestA, State: state, Inputs: &verifierv1.Inputs{
			EvidenceDigest: digestB, PolicyDigests: []string{digestA}, AdvisorySnapshotDigest: digestB,
			Attestations: []*verifierv1.EvidenceRef{{ManifestDigest: digestA}},
		},
	}}
	return v
}

func TestVerdictHistory(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.verifier.history = []*verifierv1.VerdictChange{
		{Verdict: recorded(verifierv1.Verdict_STATE_FAIL, 7), PreviousState: verifierv1.Verdict_STATE_PASS, Cause: verifierv1.VerdictChange_CAUSE_ADVISORIES, Detail: "advisories " + digestB},
		{Verdict: recorded(verifierv1.Verdict_STATE_PASS, 3), Cause: verifierv1.VerdictChange_CAUSE_FIRST, Detail: "the first verdict of the image"},
	}
	f.golden("history", f.run("verdict", "history", "shop/ledger:1.4.0"))
	f.golden("history-json", f.run("verdict", "history", "shop/ledger:1.4.0", "--limit", "1", "-o", "json"))
	want := &verifierv1.GetVerdictHistoryRequest{PageSize: 1, Image: &typev1.ImageRef{Registry: "registry.test:5000", Repository: "shop/ledger", Tag: "1.4.0"}}
	if d := cmp.Diff(want, f.verifier.asked(), protocmp.Transform()); d != "" {
		t.Errorf("request (-want +got):\n%s", d)
	}
	f.verifier.history = nil
	f.golden("history-none", f.run("verdict", "history", "shop/ledger:1.4.0"))
	if r := f.run("verdict", "history", "shop/ledger", "--limit", "0"); r.code != 4 {
		t.Errorf("--limit 0: %+v", r)
	}
	f.verifier.err = apierr.New(codes.NotFound, "TAG_UNKNOWN", "it was never pushed")
	if r := f.run("verdict", "history", "shop/ledger:0"); r.code != 5 {
		t.Errorf("an unknown tag: %+v", r)
	}
}

func TestVerdictExplain(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.verifier.history = []*verifierv1.VerdictChange{{Verdict: recorded(verifierv1.Verdict_STATE_FAIL, 7)}}
	f.verifier.proof = &verifierv1.ExplainVerdictResponse{
		Recorded: recorded(verifierv1.Verdict_STATE_FAIL, 7), Replayed: recorded(verifierv1.Verdict_STATE_FAIL, 0), Equal: true,
	}
	f.verifier.proof.VexMismatches = []*verifierv1.VexMismatch{{
		Vulnerability: "CVE-1", Purl: "pkg:npm/a@1", Status: "fixed", Author: "vendor", StatementTime: at(-1), Why: "pkg:npm/b is another package than pkg:npm/a@1",
	}}
	f.golden("explain-equal", f.run("verdict", "explain", "shop/ledger:1.4.0"))
	if d := cmp.Diff(&verifierv1.ExplainVerdictRequest{VerdictDigest: digestB}, f.verifier.asked(), protocmp.Transform()); d != "" {
		t.Errorf("request (-want +got):\n%s", d)
	}
	f.verifier.proof.Equal = false
	f.golden("explain-different", f.run("verdict", "explain", "--verdict", digestA))
	if d := cmp.Diff(&verifierv1.ExplainVerdictRequest{VerdictDigest: digestA}, f.verifier.asked(), protocmp.Transform()); d != "" {
		t.Errorf("request by digest (-want +got):\n%s", d)
	}
	f.verifier.proof.Replayed, f.verifier.proof.MissingInputs = nil, []string{digestA}
	f.golden("explain-missing", f.run("verdict", "explain", digestB))
	for _, args := range [][]string{{}, {"a", "b"}, {"--verdict", "sha512:x"}, {"--verdict", digestA, "shop/ledger"}} {
		if r := f.run(append([]string{"verdict", "explain"}, args...)...); r.code != 4 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	f.verifier.history = nil
	if r := f.run("verdict", "explain", "shop/ledger:1.4.0"); r.code != 5 {
		t.Errorf("an image without verdict: %+v", r)
	}
	f.verifier.err = apierr.New(codes.FailedPrecondition, "VERDICT_NOT_JUDGED", "no policy was evaluated")
	f.golden("explain-not-judged", f.run("verdict", "explain", "--verdict", digestA))
}
