package command_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

// fakePolicies keeps versions of policies by name, and answers one a page.
type fakePolicies struct {
	verifierv1.UnimplementedPolicyServiceServer
	recorder
	inForce []*verifierv1.Policy
	pages   []*verifierv1.TestPolicyResponse
	err     error
	chunks  []string
	// rollouts are the answers to GetRollout, one after the other and the last one again;
	// none is a verifier of an earlier release.
	rollouts []*verifierv1.GetRolloutResponse
}

func (p *fakePolicies) GetRollout(ctx context.Context, req *verifierv1.GetRolloutRequest) (*verifierv1.GetRolloutResponse, error) {
	if len(p.rollouts) == 0 {
		return p.UnimplementedPolicyServiceServer.GetRollout(ctx, req)
	}
	r := p.rollouts[0]
	if len(p.rollouts) > 1 {
		p.rollouts = p.rollouts[1:]
	}
	return r, nil
}

func (p *fakePolicies) find(name string) *verifierv1.Policy {
	i := slices.IndexFunc(p.inForce, func(o *verifierv1.Policy) bool { return o.GetName() == name })
	if i < 0 {
		return nil
	}
	return p.inForce[i]
}

func (p *fakePolicies) GetPolicy(_ context.Context, req *verifierv1.GetPolicyRequest) (*verifierv1.GetPolicyResponse, error) {
	found := p.find(req.GetName())
	if found == nil {
		return nil, apierr.New(codes.NotFound, "POLICY_NOT_FOUND", "no policy of that name")
	}
	return &verifierv1.GetPolicyResponse{Policy: found}, nil
}

func (p *fakePolicies) ListPolicies(_ context.Context, req *verifierv1.ListPoliciesRequest) (*verifierv1.ListPoliciesResponse, error) {
	if len(p.inForce) == 0 {
		return &verifierv1.ListPoliciesResponse{}, nil
	}
	if req.GetPageToken() == "" && len(p.inForce) > 1 {
		return &verifierv1.ListPoliciesResponse{Policies: p.inForce[:1], NextPageToken: "1"}, nil
	}
	return &verifierv1.ListPoliciesResponse{Policies: p.inForce[len(p.inForce)-1:]}, nil
}

func (p *fakePolicies) ListPolicyVersions(_ context.Context, req *verifierv1.ListPolicyVersionsRequest) (*verifierv1.ListPolicyVersionsResponse, error) {
	if req.GetPageToken() == "" {
		return &verifierv1.ListPolicyVersionsResponse{
			Versions: []*verifierv1.Policy{{Name: req.GetName(), Version: 2, Deleted: true, UpdateTime: at(1), Actor: "spiffe://x/operator/ann"}}, NextPageToken: "1",
		}, nil
	}
	return &verifierv1.ListPolicyVersionsResponse{Versions: []*verifierv1.Policy{{Name: req.GetName(), Version: 1, UpdateTime: at(0), Digest: digestA}}}, nil
}

func (p *fakePolicies) TestPolicy(_ context.Context, req *verifierv1.TestPolicyRequest) (*verifierv1.TestPolicyResponse, error) {
	i := 0
	if req.GetPageToken() != "" {
		i = int(req.GetPageToken()[0] - '0')
	}
	return p.pages[i], nil
}

func (p *fakePolicies) CreatePolicy(_ context.Context, req *verifierv1.CreatePolicyRequest) (*verifierv1.CreatePolicyResponse, error) {
	p.record(req)
	return &verifierv1.CreatePolicyResponse{Policy: &verifierv1.Policy{Version: 1}}, p.err
}

func (p *fakePolicies) UpdatePolicy(_ context.Context, req *verifierv1.UpdatePolicyRequest) (*verifierv1.UpdatePolicyResponse, error) {
	p.record(req)
	return &verifierv1.UpdatePolicyResponse{Policy: &verifierv1.Policy{Version: 2}}, p.err
}

func (p *fakePolicies) DeletePolicy(_ context.Context, req *verifierv1.DeletePolicyRequest) (*verifierv1.DeletePolicyResponse, error) {
	p.record(req)
	return &verifierv1.DeletePolicyResponse{}, p.err
}

func (p *fakePolicies) ExportEvidence(req *verifierv1.ExportEvidenceRequest, s grpc.ServerStreamingServer[verifierv1.ExportEvidenceResponse]) error {
	p.record(req)
	for _, c := range p.chunks {
		if err := s.Send(&verifierv1.ExportEvidenceResponse{Chunk: []byte(c)}); err != nil {
			return err
		}
	}
	return p.err
}

const mine = `apiVersion: seaworthy.dev/v1
kind: Policy
metadata: {name: mine}
spec:
  match: {repositories: ["**"]}
  rules:
    - {name: only, message: no, severity: deny, expression: 'image.user != ""'}
`

// write writes a file into the folder of the test.
func (f *testFleet) write(name, text string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

func TestPolicyWithoutFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	// These commands ask nobody: there is no context.
	run := func(args ...string) result { return runWith(t.Context(), fleetcontext.Places{}, args...) }
	if r := run("policy", "init"); r.code != 0 || !strings.Contains(r.out, "name: baseline") {
		t.Errorf("init: %+v", r)
	}
	r := run("policy", "init", "strict")
	strict := f.write("strict.yaml", r.out)
	f.golden("policy-init-none", run("policy", "init", "nope"))
	good, bad := f.write("mine.yaml", mine), f.write("bad.yaml", strings.Replace(mine, "image.user", "image.usr", 1))
	f.golden("policy-lint", run("policy", "lint", good, strict))
	f.golden("policy-lint-faulty", run("policy", "lint", good, bad))
	f.golden("policy-lint-faulty-json", run("policy", "lint", good, bad, "-o", "json"))
	if r := run("policy", "lint", f.dir+"/none.yaml"); r.code != 4 {
		t.Errorf("lint of no file: %+v", r)
	}
	if r := run("policy", "lint"); r.code != 4 {
		t.Errorf("lint of nothing: %+v", r)
	}
	tests := f.write("mine-test.yaml", `apiVersion: seaworthy.dev/v1
kind: PolicyTest
spec:
  policies: [mine.yaml]
  cases:
    - {name: root is refused, facts: {}, expect: {state: FAIL, rules: {only: denied}}}
    - {name: a user passes, facts: {image: {user: "65532"}}, expect: {state: PASS}}
`)
	f.golden("policy-test", run("policy", "test", tests))
	broken := f.write("broken-test.yaml", `apiVersion: seaworthy.dev/v1
kind: PolicyTest
spec:
  policies: [mine.yaml]
  cases:
    - {name: a user passes, facts: {image: {user: ""}}, expect: {state: PASS}}
`)
	f.golden("policy-test-fails", run("policy", "test", tests, broken))
	f.golden("policy-test-fails-json", run("policy", "test", broken, "-o", "json"))
	if r := run("policy", "test", good); r.code != 4 {
		t.Errorf("a policy is no test: %+v", r)
	}
}

func TestPolicyApply(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	flip := func(repository string) *verifierv1.VerdictFlip {
		return &verifierv1.VerdictFlip{
			Image:    &typev1.ImageRef{Registry: "r.example", Repository: repository, Tag: "1", Digest: digestA},
			Platform: &typev1.Platform{Os: "linux", Architecture: "amd64"}, From: verifierv1.Verdict_STATE_PASS, To: verifierv1.Verdict_STATE_FAIL,
			Reasons: []*verifierv1.Reason{{Code: "RULE_DENIED", Message: "no"}},
		}
	}
	change := []*verifierv1.StateChange{{From: verifierv1.Verdict_STATE_PASS, To: verifierv1.Verdict_STATE_FAIL, Count: 1}}
	f.policies.pages = []*verifierv1.TestPolicyResponse{
		{EvaluatedCount: 2, ChangedCount: 1, Flips: []*verifierv1.VerdictFlip{flip("shop/a")}, StateChanges: change, NextPageToken: "1"},
		{EvaluatedCount: 1, ChangedCount: 1, SkippedCount: 1, Flips: []*verifierv1.VerdictFlip{flip("shop/b")}, StateChanges: change},
	}
	file := f.write("mine.yaml", mine)
	f.golden("policy-apply-dry-run", f.run("policy", "apply", file, "--dry-run"))
	if f.policies.asked() != nil {
		t.Errorf("a dry run changed something: %v", f.policies.asked())
	}
	f.golden("policy-apply-create", f.run("policy", "apply", file))
	if req, ok := f.policies.asked().(*verifierv1.CreatePolicyRequest); !ok || req.GetDocument() != mine || req.GetRequestId() == "" {
		t.Errorf("asked: %v", f.policies.asked())
	}
	f.policies.inForce = []*verifierv1.Policy{
		{Name: "baseline", Version: 1, FromFile: true, Digest: digestA, UpdateTime: at(0), Actor: "spiffe://x/service/verifier"},
		{Name: "mine", Version: 1, Document: strings.Replace(mine, "deny", "warn", 1), Digest: digestB, Etag: "1-b", UpdateTime: at(0)},
	}
	f.golden("policy-apply-update", f.run("policy", "apply", file))
	if req, ok := f.policies.asked().(*verifierv1.UpdatePolicyRequest); !ok || req.GetEtag() != "1-b" {
		t.Errorf("asked: %v", f.policies.asked())
	}
	f.golden("policy-apply-json", f.run("policy", "apply", file, "-o", "json"))
	f.golden("policy-diff", f.run("policy", "diff", file))
	f.policies.err = apierr.New(codes.Aborted, "ETAG_MISMATCH", "the policy was changed meanwhile; read it again")
	f.golden("policy-apply-conflict", f.run("policy", "apply", file))
	f.policies.err = nil
	if r := f.run("policy", "apply", file, file); r.code != 4 || !strings.Contains(r.err, "there twice") {
		t.Errorf("twice: %+v", r)
	}
	faulty := f.write("faulty.yaml", strings.Replace(mine, "deny", "fatal", 1))
	f.golden("policy-apply-faulty", f.run("policy", "apply", faulty))
	typo := f.write("typo.yaml", strings.NewReplacer("image.user", "image.usr", "deny", "fatal").Replace(mine))
	f.golden("policy-apply-type-error", f.run("policy", "apply", typo))
	// A verifier of another release refuses what this one takes.
	f.policies.err = apierr.InvalidField("document.spec.rules[0].expression", "7:67: undefined field 'usr'\n    image.usr\n         ^").
		WithViolation("document.spec.rules[0].severity", "7:43: must be deny or warn\x1b[31m\nnext:  nothing")
	f.golden("policy-apply-refused", f.run("policy", "apply", file))
	f.policies.err = nil

	f.golden("policy-list", f.run("policy", "list"))
	f.golden("policy-history", f.run("policy", "history", "mine"))
	f.golden("policy-show", f.run("policy", "show", "mine"))
	f.golden("policy-show-none", f.run("policy", "show", "none"))
	f.golden("policy-delete-dry-run", f.run("policy", "delete", "mine", "--dry-run"))
	f.golden("policy-delete", f.run("policy", "delete", "mine"))
	if req, ok := f.policies.asked().(*verifierv1.DeletePolicyRequest); !ok || req.GetName() != "mine" || req.GetEtag() != "1-b" {
		t.Errorf("asked: %v", f.policies.asked())
	}
	for _, args := range [][]string{{"list", "-o", "json"}, {"history", "mine", "-o", "json"}, {"show", "mine", "-o", "json"}, {"delete", "mine", "-o", "json"}} {
		if r := f.run(append([]string{"policy"}, args...)...); r.code != 0 || !strings.HasPrefix(r.out, "{") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	f.policies.inForce = nil
	f.golden("policy-list-none", f.run("policy", "list"))
	for _, args := range [][]string{{"delete"}, {"show", "a", "b"}, {"history"}, {"apply"}, {"record"}} {
		if r := f.run(append([]string{"policy"}, args...)...); r.code != 4 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	f.policies.chunks = []string{"{\"a\":", "1}\n"}
	if r := f.run("policy", "record", "shop/ledger:1"); r.code != 0 || r.out != "{\"a\":1}\n" {
		t.Errorf("record: %+v", r)
	}
	f.policies.chunks, f.policies.err = nil, apierr.New(codes.NotFound, "EVIDENCE_NOT_FOUND", "no verdict of this image was reached")
	if r := f.run("policy", "record", "shop/ledger:1"); r.code != 5 {
		t.Errorf("record nothing: %+v", r)
	}
}

// TestPolicyRollout applies a policy while one image cannot be judged and another waits.
func TestPolicyRollout(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies.pages = []*verifierv1.TestPolicyResponse{{EvaluatedCount: 3}}
	unreadable := []*verifierv1.UnreadableImage{{
		Image:   &typev1.ImageRef{Registry: "r.example", Repository: "shop/b", Digest: digestB},
		Problem: "the registry answers 500\x1b[31m", Attempts: 2, NextTime: at(3),
	}}
	done := &verifierv1.GetRolloutResponse{JudgedCount: 7, UnreadableCount: 1, Unreadable: unreadable}
	f.policies.rollouts = []*verifierv1.GetRolloutResponse{{JudgedCount: 1, WaitingCount: 7}, done}
	file := f.write("mine.yaml", mine)
	f.golden("policy-rollout-apply", f.run("policy", "apply", file))
	f.golden("policy-rollout-apply-json", f.run("policy", "apply", file, "-o", "json"))
	f.policies.inForce = []*verifierv1.Policy{{Name: "mine", Version: 1, Document: mine, Digest: digestA}}
	f.policies.rollouts = []*verifierv1.GetRolloutResponse{{JudgedCount: 5, UnreadableCount: 1, WaitingCount: 2, Unreadable: unreadable}}
	f.golden("policy-rollout-show", f.run("policy", "show", "mine"))
}
