package app_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
)

// document is a policy for images of a repository, with one rule.
func document(name, globs, expression string) string {
	return `apiVersion: seaworthy.dev/v1
kind: Policy
metadata: {name: ` + name + `}
spec:
  match: {repositories: ["` + globs + `"]}
  rules:
    - {name: only, message: no, severity: deny, expression: '` + expression + `'}
`
}

// judged pushes an image without findings and waits for its verdict.
func (f *fleet) judged(repository string) imageref.Ref {
	f.t.Helper()
	image := f.registry.PushImage(repository, "v1")
	f.pushed(f.t.Context(), "push-"+repository, image)
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.attested(f.t.Context(), "attested-"+repository, image)
	f.next()
	return image
}

// quiet fails if a verdict is published.
func (f *fleet) quiet(d time.Duration) {
	f.t.Helper()
	select {
	case e := <-f.verdicts:
		f.t.Errorf("a verdict was published: %v", e)
	case <-time.After(d):
	}
}

// TestPolicyChanges creates, changes and deletes a policy: every change reaches the
// verdicts of the images that it is for, from recorded evidence, on every replica.
func TestPolicyChanges(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	second := f.start()
	ours, theirs := f.judged("team/app"), f.judged("other/app")
	f.registry.Down.Store(true)
	ctx := t.Context()

	create := &verifierv1.CreatePolicyRequest{Document: document("extra", "*/team/**", "image.user == \"\""), RequestId: "one"}
	created, err := v.policies.CreatePolicy(ctx, create)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := second.policies.CreatePolicy(ctx, create); err != nil || again.GetPolicy().GetEtag() != created.GetPolicy().GetEtag() {
		t.Errorf("the same request at another replica: %v, %v", again, err)
	}
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL || e.GetImage().GetRepository() != "team/app" {
		t.Errorf("with the policy: %v", e)
	}
	// A new wording that comes to the same publishes nothing.
	reworded, err := v.policies.UpdatePolicy(ctx, &verifierv1.UpdatePolicyRequest{
		Document: "# reworded\n" + create.GetDocument(), Etag: created.GetPolicy().GetEtag(),
	})
	if err != nil || reworded.GetPolicy().GetVersion() != 2 {
		t.Fatalf("reworded: %v, %v", reworded, err)
	}
	f.quiet(3 * time.Second)
	if _, err := second.policies.UpdatePolicy(ctx, &verifierv1.UpdatePolicyRequest{
		Document: document("extra", "*/team/**", "true"), Etag: reworded.GetPolicy().GetEtag(),
	}); err != nil {
		t.Fatal(err)
	}
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS || e.GetImage().GetRepository() != "team/app" {
		t.Errorf("with the changed policy: %v", e)
	}
	if _, err := v.policies.DeletePolicy(ctx, &verifierv1.DeletePolicyRequest{Name: "extra"}); err != nil {
		t.Fatal(err)
	}
	if e := f.next(); e.GetImage().GetRepository() != "team/app" {
		t.Errorf("without the policy: %v", e)
	}
	for image, want := range map[imageref.Ref][]string{
		ours:   {"policy extra v4 (deleted)", "policy extra v3", "policy extra v1", "the first verdict of the image"},
		theirs: {"the first verdict of the image"},
	} {
		history, err := v.verdicts.GetVerdictHistory(ctx, &verifierv1.GetVerdictHistoryRequest{Image: message(image)})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range history.GetChanges() {
			got = append(got, c.GetDetail())
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("history of %s: %q, want %q", image.Repository, got, want)
		}
	}
	versions, err := v.policies.ListPolicyVersions(ctx, &verifierv1.ListPolicyVersionsRequest{Name: "extra", PageSize: 3})
	if err != nil || len(versions.GetVersions()) != 3 || !versions.GetVersions()[0].GetDeleted() ||
		!strings.HasSuffix(versions.GetVersions()[0].GetActor(), "/operator/test") {
		t.Errorf("versions: %v, %v", versions, err)
	}
	rest, err := v.policies.ListPolicyVersions(ctx, &verifierv1.ListPolicyVersionsRequest{Name: "extra", PageSize: 3, PageToken: versions.GetNextPageToken()})
	if err != nil || len(rest.GetVersions()) != 1 || rest.GetNextPageToken() != "" || rest.GetVersions()[0].GetDocument() != create.GetDocument() {
		t.Errorf("the last page of versions: %v, %v", rest, err)
	}
	old, err := v.policies.GetPolicy(ctx, &verifierv1.GetPolicyRequest{Name: "extra", Version: 2})
	if err != nil || old.GetPolicy().GetDigest() != reworded.GetPolicy().GetDigest() {
		t.Errorf("version 2: %v, %v", old, err)
	}
}

// TestPolicyRequests sends what is refused; nothing of it has an effect.
func TestPolicyRequests(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	ctx := t.Context()
	good := document("mine", "**", "true")
	created, err := v.policies.CreatePolicy(ctx, &verifierv1.CreatePolicyRequest{Document: good})
	if err != nil {
		t.Fatal(err)
	}
	etag := created.GetPolicy().GetEtag()
	create := func(document string) error {
		_, err := v.policies.CreatePolicy(ctx, &verifierv1.CreatePolicyRequest{Document: document})
		return err
	}
	update := func(document, etag string) error {
		_, err := v.policies.UpdatePolicy(ctx, &verifierv1.UpdatePolicyRequest{Document: document, Etag: etag})
		return err
	}
	remove := func(name, etag string) error {
		_, err := v.policies.DeletePolicy(ctx, &verifierv1.DeletePolicyRequest{Name: name, Etag: etag})
		return err
	}
	get := func(name string, version int64) error {
		_, err := v.policies.GetPolicy(ctx, &verifierv1.GetPolicyRequest{Name: name, Version: version})
		return err
	}
	for name, tc := range map[string]struct {
		err    error
		reason string
		// violations are the fields, and beginnings of the texts about them.
		violations []string
	}{
		"type error":          {create(document("a", "**", "findings.all(f, f.kevv)")), "INVALID_ARGUMENT", []string{"document.spec.rules[0].expression: 7:79: undefined field 'kevv'\n    findings.all(f, f.kevv)\n                     ^"}},
		"two faults":          {create(strings.Replace(document("a", "a b", "nope"), "deny", "fatal", 1)), "INVALID_ARGUMENT", []string{"document.spec.match.repositories[0]: 5:26: invalid pattern \"a b\"", "document.spec.rules[0].severity: 7:43: rule \"only\": must be deny or warn", "document.spec.rules[0].expression: 7:63: undeclared"}},
		"too expensive":       {create(document("a", "**", "findings.all(f, findings.all(g, f.id != g.id))")), "INVALID_ARGUMENT", []string{"document.spec.rules[0].expression: 7:61: the expression can cost"}},
		"unknown field":       {create(strings.Replace(good, "kind:", "knd:", 1)), "INVALID_ARGUMENT", []string{"document.knd: 2:1: unknown field; there are apiVersion, kind"}},
		"no YAML":             {create("a: ["), "INVALID_ARGUMENT", []string{"document: line 1: did not find expected"}},
		"nothing":             {create(""), "INVALID_ARGUMENT", []string{"document: the file holds no policy"}},
		"two policies":        {create(good + "---\n" + document("b", "**", "true")), "INVALID_ARGUMENT", []string{"document: one policy is expected, there are 2"}},
		"name is used":        {create(good), "POLICY_EXISTS", nil},
		"name of a file":      {create(document("baseline", "**", "true")), "POLICY_EXISTS", nil},
		"update a file":       {update(document("baseline", "**", "true"), "1-x"), "POLICY_FROM_FILE", nil},
		"two rules of a name": {create(strings.Replace(document("a", "**", "true"), "  rules:\n", "  rules:\n    - {name: only, message: m, severity: deny, expression: 'true'}\n", 1)), "INVALID_ARGUMENT", []string{"document.spec.rules[1].name: 8:14: the name \"only\" is used by another rule"}},
		"no age":              {create(strings.Replace(good, "  rules:", "  require: [{predicate_type: x}, {predicate_type: y, max_age: old}]\n  rules:", 1)), "INVALID_ARGUMENT", []string{"document.spec.require[1].max_age: 6:63: invalid duration \"old\""}},
		"bad name":            {create(strings.Replace(good, "name: mine", "name: My Policy", 1)), "INVALID_ARGUMENT", []string{"document.metadata.name: "}},
		"no etag":             {update(good, ""), "INVALID_ARGUMENT", []string{"etag: the etag of the policy to change is needed"}},
		"old etag":            {update(document("mine", "**", "false"), "0-x"), "ETAG_MISMATCH", []string{"etag: it is of another version"}},
		"update none":         {update(document("none", "**", "true"), etag), "POLICY_NOT_FOUND", nil},
		"faulty update":       {update(document("mine", "**", "1"), etag), "INVALID_ARGUMENT", []string{"document.spec.rules[0].expression: 7:61: the expression gives int"}},
		"delete a file":       {remove("baseline", ""), "POLICY_FROM_FILE", nil},
		"delete none":         {remove("none", ""), "POLICY_NOT_FOUND", nil},
		"delete, etag":        {remove("mine", "0-x"), "ETAG_MISMATCH", []string{"etag: it is of another version"}},
		"delete nothing":      {remove("", ""), "INVALID_ARGUMENT", []string{"name: a name is needed"}},
		"get none":            {get("none", 0), "POLICY_NOT_FOUND", nil},
		"get version":         {get("mine", 9), "POLICY_NOT_FOUND", nil},
		"get minus one":       {get("mine", -1), "INVALID_ARGUMENT", []string{"version: must not be negative"}},
		"versions of none": {func() error {
			_, err := v.policies.ListPolicyVersions(ctx, &verifierv1.ListPolicyVersionsRequest{Name: "none"})
			return err
		}(), "POLICY_NOT_FOUND", nil},
	} {
		var got []string
		for _, violation := range apierr.From(tc.err).Violations() {
			got = append(got, violation.Field+": "+violation.Description)
		}
		ok := apierr.HasReason(tc.err, tc.reason) && len(got) == len(tc.violations)
		for i := range min(len(got), len(tc.violations)) {
			ok = ok && strings.HasPrefix(got[i], tc.violations[i])
		}
		if !ok {
			t.Errorf("%s: %v, violations %q", name, tc.err, got)
		}
	}
	list, err := v.policies.ListPolicies(ctx, &verifierv1.ListPoliciesRequest{})
	if err != nil || len(list.GetPolicies()) != 2 || !list.GetPolicies()[0].GetFromFile() || list.GetPolicies()[1].GetEtag() != etag {
		t.Errorf("after all that: %v, %v", list, err)
	}
}

// TestPolicyFiles changes a directory of policies under a running verifier.
func TestPolicyFiles(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(document("mine", "**", "true"))
	f.cfg.Policies.Dir, f.cfg.Policies.Refresh = dir, 20*time.Millisecond
	v := f.start()
	f.judged("team/app")
	write(document("mine", "**", "false"))
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Errorf("after the file was changed: %v", e)
	}
	write(document("mine", "**", "findings.all(f, f.kevv)"))
	f.degraded(v, "undefined field 'kevv'")
	if err := v.readiness.Check(); err != nil {
		t.Errorf("a faulty file made the service not ready: %v", err)
	}
	write(document("mine", "**", "true"))
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("after the file was repaired: %v", e)
	}
	f.degraded(v, "")
	if err := os.Remove(filepath.Join(dir, "p.yaml")); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := v.policies.GetPolicy(t.Context(), &verifierv1.GetPolicyRequest{Name: "mine"})
		if apierr.HasReason(err, "POLICY_NOT_FOUND") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the policy of a file that is gone is still in force")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// degraded waits until readiness says so of the policies; empty is ready.
func (f *fleet) degraded(v *verifier, want string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	for {
		err := v.readiness.Components()["policies"]
		if want == "" && err == nil || want != "" && err != nil && strings.Contains(err.Error(), want) {
			return
		}
		select {
		case <-ctx.Done():
			f.t.Fatalf("readiness of the policies: %v, want %q", err, want)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestEnvironment asks for the verdict of an image in several environments.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	file := filepath.Join(t.TempDir(), "p.yaml")
	text := strings.Replace(document("prod-only", "**", "false"), "  rules:", "  environments: [prod]\n  rules:", 1) + "---\n" +
		strings.Replace(document("everywhere", "**", "true"), "  rules:", "  environments: [dev, prod]\n  rules:", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f.cfg.Policies.Files = []string{file}
	v := f.start()
	image := f.judged("team/app")
	for range 2 { // read, and from memory
		for environment, want := range map[string]verifierv1.Verdict_State{
			"": verifierv1.Verdict_STATE_FAIL, "prod": verifierv1.Verdict_STATE_FAIL, "dve": verifierv1.Verdict_STATE_FAIL, "dev": verifierv1.Verdict_STATE_PASS,
		} {
			one, err := v.verdicts.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Image: message(image), Environment: environment})
			if err != nil || one.GetVerdict().GetState() != want {
				t.Errorf("%q: %v, %v", environment, one, err)
			}
			many, err := v.verdicts.BatchGetVerdicts(t.Context(), &verifierv1.BatchGetVerdictsRequest{
				Images: []*typev1.ImageRef{message(image), message(image)}, Environment: environment,
			})
			if err != nil || len(many.GetVerdicts()) != 2 || many.GetVerdicts()[1].GetState() != want {
				t.Errorf("%q in a batch: %v, %v", environment, many, err)
			}
		}
	}
	waited, err := v.verdicts.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Image: message(image), Environment: "dev", Wait: true})
	if err != nil || waited.GetVerdict().GetState() != verifierv1.Verdict_STATE_PASS || waited.GetVerdict().GetEnvironment() != "dev" {
		t.Errorf("waiting: %v, %v", waited, err)
	}
	for name, req := range map[string]*verifierv1.GetVerdictRequest{
		"no name":       {Image: message(image), Environment: "Prod!"},
		"no repository": {Image: &typev1.ImageRef{Digest: image.Digest}, Environment: "dev"},
	} {
		if _, err := v.verdicts.GetVerdict(t.Context(), req); !apierr.HasReason(err, "INVALID_ARGUMENT") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPolicyTest tries changes without making them, page by page.
func TestPolicyTest(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	ctx := t.Context()
	for _, repository := range []string{"team/a", "team/b", "other/c"} {
		f.judged(repository)
	}
	unjudged := f.registry.PushImage("team/d", "v1")
	f.pushed(ctx, "push-d", unjudged)
	f.background(func(ctx context.Context) error {
		return events.Consume(ctx, f.bus[events.Scanner], events.ConsumerScannerScan, 1,
			func(context.Context, *eventv1.ImagePushedEvent, *eventbus.Delivery) error {
				return eventbus.Permanent("LAYER_CORRUPT", errors.New("layer 3 is no gzip"))
			})
	})
	f.next()
	f.registry.Down.Store(true)

	// sum adds up the pages of one image each.
	sum := func(req *verifierv1.TestPolicyRequest) *verifierv1.TestPolicyResponse {
		t.Helper()
		req.PageSize = 1
		all := &verifierv1.TestPolicyResponse{}
		for range 10 {
			r, err := v.policies.TestPolicy(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			all.EvaluatedCount += r.GetEvaluatedCount()
			all.ChangedCount += r.GetChangedCount()
			all.UnmatchedCount += r.GetUnmatchedCount()
			all.SkippedCount += r.GetSkippedCount()
			all.Flips = append(all.Flips, r.GetFlips()...)
			all.StateChanges = append(all.StateChanges, r.GetStateChanges()...)
			if req.PageToken = r.GetNextPageToken(); req.PageToken == "" {
				return all
			}
		}
		t.Fatal("the pages do not end")
		return nil
	}
	denying := document("extra", "*/team/**", "image.user == \"\"")
	got := sum(&verifierv1.TestPolicyRequest{Document: denying})
	if got.GetEvaluatedCount() != 2 || got.GetChangedCount() != 2 || got.GetUnmatchedCount() != 1 || got.GetSkippedCount() != 1 || len(got.GetFlips()) != 2 {
		t.Fatalf("a policy that denies: %v", got)
	}
	flip := got.GetFlips()[0]
	if flip.GetFrom() != verifierv1.Verdict_STATE_PASS || flip.GetTo() != verifierv1.Verdict_STATE_FAIL || flip.GetPlatformDigest() == "" ||
		len(flip.GetReasons()) != 1 || flip.GetReasons()[0].GetRule() != "only" {
		t.Errorf("flip: %v", flip)
	}
	if c := got.GetStateChanges()[0]; c.GetCount() != 1 || c.GetTo() != verifierv1.Verdict_STATE_FAIL {
		t.Errorf("state changes: %v", got.GetStateChanges())
	}
	got = sum(&verifierv1.TestPolicyRequest{DeleteName: "baseline"})
	if len(got.GetFlips()) != 3 || got.GetFlips()[0].GetTo() != verifierv1.Verdict_STATE_UNKNOWN || got.GetFlips()[0].GetReasons()[0].GetCode() != "NO_POLICY" {
		t.Errorf("without the baseline: %v", got)
	}
	if got = sum(&verifierv1.TestPolicyRequest{Document: document("extra", "**", "true")}); got.GetChangedCount() != 3 || len(got.GetFlips()) != 0 {
		t.Errorf("a policy that allows: %v", got)
	}
	f.quiet(2 * time.Second)
	list, err := v.policies.ListPolicies(ctx, &verifierv1.ListPoliciesRequest{})
	if err != nil || len(list.GetPolicies()) != 1 {
		t.Errorf("after trying: %v, %v", list, err)
	}

	first, err := v.policies.TestPolicy(ctx, &verifierv1.TestPolicyRequest{Document: denying, PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.policies.CreatePolicy(ctx, &verifierv1.CreatePolicyRequest{Document: document("x", "none/x", "true")}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		req    *verifierv1.TestPolicyRequest
		reason string
	}{
		"rules changed": {&verifierv1.TestPolicyRequest{Document: denying, PageSize: 1, PageToken: first.GetNextPageToken()}, "POLICIES_CHANGED"},
		"other token":   {&verifierv1.TestPolicyRequest{DeleteName: "baseline", PageToken: first.GetNextPageToken()}, "INVALID_PAGE_TOKEN"},
		"nothing":       {&verifierv1.TestPolicyRequest{}, "INVALID_ARGUMENT"},
		"both":          {&verifierv1.TestPolicyRequest{Document: denying, DeleteName: "x"}, "INVALID_ARGUMENT"},
		"faulty":        {&verifierv1.TestPolicyRequest{Document: document("a", "**", "nope")}, "INVALID_ARGUMENT"},
		"delete none":   {&verifierv1.TestPolicyRequest{DeleteName: "none"}, "POLICY_NOT_FOUND"},
		"size":          {&verifierv1.TestPolicyRequest{Document: denying, PageSize: -1}, "INVALID_ARGUMENT"},
	} {
		if _, err := v.policies.TestPolicy(ctx, tc.req); !apierr.HasReason(err, tc.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.export(v, unjudged)
}

// export asks for recorded evidence: of an image that has some, and of others.
func (f *fleet) export(v *verifier, unjudged imageref.Ref) {
	f.t.Helper()
	ctx := f.t.Context()
	read := func(image *typev1.ImageRef) ([]byte, error) {
		stream, err := v.policies.ExportEvidence(ctx, &verifierv1.ExportEvidenceRequest{Image: image})
		if err != nil {
			return nil, err
		}
		var all []byte
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return all, nil
			}
			if err != nil {
				return nil, err
			}
			all = append(all, r.GetChunk()...)
		}
	}
	data, err := read(&typev1.ImageRef{Registry: unjudged.Registry, Repository: "team/a", Tag: "v1"})
	if err != nil {
		f.t.Fatal(err)
	}
	recorded, err := record.DecodeImage(data)
	if err != nil || len(recorded.Platforms) != 1 || recorded.Platforms[0].Report == nil || !strings.Contains(recorded.Image, "/team/a:v1@sha256:") {
		f.t.Errorf("recorded: %+v, %v", recorded, err)
	}
	for name, tc := range map[string]struct {
		image  *typev1.ImageRef
		reason string
	}{
		"never judged": {message(unjudged), "EVIDENCE_NOT_FOUND"},
		"never pushed": {&typev1.ImageRef{Registry: "r.example", Repository: "x", Tag: "v1"}, "EVIDENCE_NOT_FOUND"},
		"no digest":    {&typev1.ImageRef{Digest: "sha256:" + strings.Repeat("0", 64)}, "EVIDENCE_NOT_FOUND"},
		"nothing":      {nil, "INVALID_ARGUMENT"},
	} {
		if _, err := read(tc.image); !apierr.HasReason(err, tc.reason) {
			f.t.Errorf("export of %s: %v", name, err)
		}
	}
}
