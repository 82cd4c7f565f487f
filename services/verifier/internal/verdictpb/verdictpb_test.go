package verdictpb_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

func verdict() core.Verdict {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return core.Verdict{
		Image: imageref.Ref{Registry: "r.example", Repository: "app", Tag: "v1", Digest: "sha256:aa"},
		State: core.StateFail, EvaluateTime: at, ExpireTime: at.Add(time.Hour),
		Reasons: []core.Reason{{Code: core.CodeRuleDenied, Message: "<no> & \"yes\"", Policy: "p", Rule: "r", PlatformDigest: "sha256:aa"}},
		Platforms: []core.PlatformVerdict{{
			Digest: "sha256:aa", Platform: core.Platform{OS: "linux", Architecture: "amd64"}, State: core.StateFail,
			Policies: []core.PolicyResult{{Policy: "p", Digest: "sha256:pp", State: core.StateFail, Rules: []core.RuleResult{
				{Rule: "r", Outcome: core.OutcomeDenied, Message: "m", Control: "c", Items: []string{"i"}, ItemCount: 3},
			}}},
			Inputs: core.Inputs{
				Attestations:   []core.Attestation{{PredicateType: "t", ManifestDigest: "sha256:mm", KeyID: "k", SignTime: at}},
				AdvisoryDigest: "sha256:dd", AdvisoryTime: at,
			},
		}},
	}
}

// TestCanonicalForm holds the form still: a change of these bytes changes the
// digest of every verdict ever signed.
func TestCanonicalForm(t *testing.T) {
	t.Parallel()
	m, err := verdictpb.FromCore(verdict())
	if err != nil {
		t.Fatal(err)
	}
	m.TraceId, m.Sequence = "trace", 7
	got, err := verdictpb.Canonical(m)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"image":{"registry":"r.example","repository":"app","tag":"v1","digest":"sha256:aa"},"state":"STATE_FAIL",` +
		`"reasons":[{"code":"RULE_DENIED","message":"<no> & \"yes\"","policy":"p","rule":"r","platformDigest":"sha256:aa"}],` +
		`"platforms":[{"digest":"sha256:aa","platform":{"os":"linux","architecture":"amd64"},"state":"STATE_FAIL",` +
		`"policies":[{"policy":"p","policyDigest":"sha256:pp","state":"STATE_FAIL","rules":[{"rule":"r","outcome":"OUTCOME_DENIED",` +
		`"message":"m","control":"c","items":["i"],"itemCount":3}]}],"inputs":{"attestations":[{"predicateType":"t",` +
		`"manifestDigest":"sha256:mm","keyId":"k","signTime":"2026-03-01T12:00:00Z"}],"advisorySnapshotDigest":"sha256:dd",` +
		`"advisoryDataTime":"2026-03-01T12:00:00Z"}}],"evaluateTime":"2026-03-01T12:00:00Z","expireTime":"2026-03-01T13:00:00Z"}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("canonical form (-want +got):\n%s", diff)
	}
	again, err := verdictpb.Digest(m)
	if err != nil || again != m.GetDigest() || !strings.HasPrefix(again, "sha256:") {
		t.Errorf("digest %s, %v, want %s", again, err, m.GetDigest())
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	m, err := verdictpb.FromCore(verdict())
	if err != nil {
		t.Fatal(err)
	}
	m.TraceId, m.Sequence = "trace", 7
	body, err := verdictpb.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := verdictpb.Decode(body, 7, m.GetDigest(), "trace")
	if diff := cmp.Diff(m, got, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if _, err := verdictpb.Decode([]byte("\xff"), 7, "", ""); err == nil {
		t.Error("garbage was decoded")
	}
}

func TestChangeKey(t *testing.T) {
	t.Parallel()
	key := func(change func(*core.Verdict)) string {
		t.Helper()
		v := verdict()
		change(&v)
		m, err := verdictpb.FromCore(v)
		if err != nil {
			t.Fatal(err)
		}
		k, err := verdictpb.ChangeKey(m)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	base := key(func(*core.Verdict) {})
	stored, err := verdictpb.FromCore(verdict())
	if err != nil {
		t.Fatal(err)
	}
	body, err := verdictpb.Encode(stored)
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := verdictpb.Decode(body, 7, stored.GetDigest(), "trace")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*core.Verdict)
		same   bool
	}{
		"later":        {func(v *core.Verdict) { v.EvaluateTime = v.EvaluateTime.Add(time.Hour) }, true},
		"another tag":  {func(v *core.Verdict) { v.Image.Tag = "v2" }, true},
		"state":        {func(v *core.Verdict) { v.State = core.StatePass }, false},
		"reasons":      {func(v *core.Verdict) { v.Reasons = nil }, false},
		"attestation":  {func(v *core.Verdict) { v.Platforms[0].Inputs.Attestations[0].ManifestDigest = "x" }, false},
		"advisories":   {func(v *core.Verdict) { v.Platforms[0].Inputs.AdvisoryDigest = "x" }, false},
		"wording":      {func(v *core.Verdict) { v.Platforms[0].Policies[0].Digest = "x" }, true},
		"policy":       {func(v *core.Verdict) { v.Platforms[0].Policies[0].Policy = "x" }, false},
		"other digest": {func(v *core.Verdict) { v.Image.Digest = "x" }, false},
		"ends later":   {func(v *core.Verdict) { v.ExpireTime = v.ExpireTime.Add(time.Hour) }, false},
	} {
		if got := key(tc.change) == base; got != tc.same {
			t.Errorf("%s: the same verdict: %t", name, got)
		}
		v := verdict()
		tc.change(&v)
		if got := verdictpb.SaysTheSame(recorded, v); got != tc.same {
			t.Errorf("%s: says the same: %t", name, got)
		}
	}
}

// TestEncodedAnswers compares what is sent without a message with the message.
func TestEncodedAnswers(t *testing.T) {
	t.Parallel()
	v, err := verdictpb.FromCore(verdict())
	if err != nil {
		t.Fatal(err)
	}
	v.Sequence, v.TraceId = 7, "trace"
	body, err := verdictpb.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	field, err := verdictpb.AppendField(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"AppendField": field, "AppendStored": verdictpb.AppendStored(nil, body, 7, v.GetDigest(), "trace")} {
		one, all := &verifierv1.GetVerdictResponse{}, &verifierv1.BatchGetVerdictsResponse{}
		if err := proto.Unmarshal(raw, one); err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(append(raw, raw...), all); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(v, one.GetVerdict()) || len(all.GetVerdicts()) != 2 || !proto.Equal(v, all.GetVerdicts()[1]) {
			t.Errorf("%s: %v\n%v", name, one, all)
		}
	}
	empty := &verifierv1.GetVerdictResponse{}
	if err := proto.Unmarshal(verdictpb.AppendStored(nil, nil, 0, "", ""), empty); err != nil || !proto.Equal(empty.GetVerdict(), &verifierv1.Verdict{}) {
		t.Errorf("an empty one: %v, %v", empty, err)
	}
}
