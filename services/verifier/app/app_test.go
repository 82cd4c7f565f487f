package app_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// traced returns a context inside a span of a new trace.
func traced(t *testing.T) (context.Context, string) {
	t.Helper()
	ctx, span := obs.Discard("test").Tracer().Start(t.Context(), "push")
	t.Cleanup(func() { span.End() })
	return ctx, trace.SpanContextFromContext(ctx).TraceID().String()
}

func TestPushToVerdict(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()

	good := f.registry.PushImage("team/good", "v1")
	if got := v.get(t, good); got.GetState() != verifierv1.Verdict_STATE_UNKNOWN || code(got) != "NEVER_SEEN" || got.GetPending() {
		t.Errorf("before the push: %v", got)
	}
	ctx, traceID := traced(t)
	f.pushed(ctx, "push-good", good)
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	// Waiting ends with the answer so far, before the deadline.
	for {
		r, err := v.verdicts.GetVerdict(short, &verifierv1.GetVerdictRequest{Image: message(good), Wait: true})
		if err != nil {
			t.Fatalf("wait for a pending verdict: %v", err)
		}
		if code(r.GetVerdict()) == "PENDING" && r.GetVerdict().GetPending() {
			break
		}
	}

	manifest := f.registry.Attest(f.key, good, good.Digest, evidencetest.Report(good.Digest), time.Now())
	f.attested(ctx, "attested-good", good, &eventv1.ImageAttestedEvent_PlatformEvidence{
		Digest: good.Digest, Attestations: []*eventv1.ImageAttestedEvent_Attestation{
			{PredicateType: attest.PredicateCosignVuln, ManifestDigest: manifest},
		},
	})
	got := v.wait(t, good)
	if got.GetState() != verifierv1.Verdict_STATE_PASS || got.GetTraceId() != traceID || got.GetSequence() != 1 || got.GetExpireTime() == nil {
		t.Fatalf("verdict: %v", got)
	}
	if in := got.GetPlatforms()[0].GetInputs(); len(in.GetAttestations()) != 2 || in.GetAdvisorySnapshotDigest() == "" {
		t.Errorf("inputs: %v", in)
	}
	e := f.next()
	if e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS || e.GetPreviousState() != eventv1.VerdictReachedEvent_STATE_UNSPECIFIED ||
		e.GetVerdictDigest() != got.GetDigest() || e.GetSequence() != 1 || e.GetMeta().GetTraceId() != traceID ||
		e.GetImage().GetTag() != "v1" || len(e.GetPlatformDigests()) != 1 || e.GetPlatformDigests()[0] != good.Digest {
		t.Errorf("event: %v", e)
	}

	bad := f.registry.PushImage("team/bad", "v1")
	f.registry.Attest(f.key, bad, bad.Digest, evidencetest.Report(bad.Digest, evidencetest.Critical()), time.Now())
	f.attested(ctx, "attested-bad", bad)
	if got := v.wait(t, bad); got.GetState() != verifierv1.Verdict_STATE_FAIL || code(got) != "RULE_DENIED" ||
		!strings.Contains(got.GetReasons()[0].GetMessage(), "CVE-2022-32149 in golang.org/x/text 0.3.7, fixed in 0.3.8") {
		t.Errorf("verdict of the bad image: %v", got)
	}
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL || e.GetSequence() != 2 || !strings.HasPrefix(e.GetReasons()[0], "RULE_DENIED: ") {
		t.Errorf("event of the bad image: %v", e)
	}

	// The same image attested again says nothing new; a fix of the bad one does.
	f.attested(ctx, "attested-good-again", good)
	f.registry.Attest(f.key, bad, bad.Digest, evidencetest.Report(bad.Digest), time.Now().Add(time.Second))
	f.attested(ctx, "attested-bad-again", bad)
	if e := f.next(); e.GetImage().GetDigest() != bad.Digest || e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS || e.GetPreviousState() != eventv1.VerdictReachedEvent_STATE_FAIL || e.GetSequence() != 3 {
		t.Errorf("event after the fix: %v", e)
	}

	byTag := v.get(t, imageref.Ref{Registry: good.Registry, Repository: good.Repository, Tag: "v1"})
	byDigest := v.get(t, imageref.Ref{Digest: good.Digest})
	if byTag.GetDigest() != got.GetDigest() || byDigest.GetDigest() != got.GetDigest() {
		t.Errorf("by tag %v, by digest %v", byTag, byDigest)
	}
}

// TestReplayedReport takes the newest report away, so that an older, cleaner one
// is the newest that is left.
func TestReplayedReport(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), evidencetest.Now)
	bad := f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), evidencetest.Now.Add(time.Hour))
	f.attested(t.Context(), "one", image)
	if got := v.wait(t, image); got.GetState() != verifierv1.Verdict_STATE_FAIL {
		t.Fatalf("verdict: %v", got)
	}
	f.next()
	f.registry.Delete("team/app", bad)
	f.attested(t.Context(), "two", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_UNKNOWN || !strings.HasPrefix(e.GetReasons()[0], "EVIDENCE_INVALID") {
		t.Errorf("event: %v", e)
	}
	// An event that names a report which is gone makes it no better either.
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), evidencetest.Now.Add(2*time.Hour))
	f.attested(t.Context(), "three", image, &eventv1.ImageAttestedEvent_PlatformEvidence{
		Digest: image.Digest, Attestations: []*eventv1.ImageAttestedEvent_Attestation{
			{PredicateType: attest.PredicateCosignVuln, ManifestDigest: bad},
		},
	})
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_UNKNOWN || !strings.Contains(e.GetReasons()[0], "is gone") {
		t.Errorf("event: %v", e)
	}
}

func TestPipelineFailed(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	f.background(func(ctx context.Context) error {
		return events.Consume(ctx, f.bus[events.Scanner], events.ConsumerScannerScan, 1,
			func(context.Context, *eventv1.ImagePushedEvent, *eventbus.Delivery) error {
				return eventbus.Permanent("LAYER_CORRUPT", errors.New("layer 3 is no gzip"))
			})
	})
	image := f.registry.PushImage("team/app", "v1")
	ctx, traceID := traced(t)
	f.pushed(ctx, "push", image)
	e := f.next()
	if e.GetState() != eventv1.VerdictReachedEvent_STATE_UNKNOWN || e.GetMeta().GetTraceId() != traceID ||
		!strings.Contains(e.GetReasons()[0], "PIPELINE_FAILED: scanner-scan gave up: LAYER_CORRUPT") {
		t.Errorf("event: %v", e)
	}
	if got := v.wait(t, image); code(got) != "PIPELINE_FAILED" || got.GetPending() {
		t.Errorf("verdict: %v", got)
	}

	// A push by tag alone, of which nobody learns the digest.
	tagged := imageref.Ref{Registry: image.Registry, Repository: "team/tagged", Tag: "v1"}
	f.pushed(ctx, "push-tag", tagged)
	deadline := time.Now().Add(20 * time.Second)
	for code(v.get(t, tagged)) != "PIPELINE_FAILED" {
		if time.Now().After(deadline) {
			t.Fatalf("verdict of the tag: %v", v.get(t, tagged))
		}
		time.Sleep(20 * time.Millisecond)
	}

	// What was judged before stands although a later push fails.
	judged := f.registry.PushImage("team/judged", "v1")
	f.registry.Attest(f.key, judged, judged.Digest, evidencetest.Report(judged.Digest), time.Now())
	f.attested(ctx, "attested", judged)
	f.next()
	f.pushed(ctx, "push-judged", judged)
	if got := v.wait(t, judged); got.GetState() != verifierv1.Verdict_STATE_PASS {
		t.Errorf("verdict after a failed push: %v", got)
	}
}

// TestSameImageAtOnce judges one image several times at the same time, and again
// after a restart: there is one verdict, published once.
func TestSameImageAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	image := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	v := f.start()
	for i := range 12 {
		f.attested(t.Context(), fmt.Sprintf("attested-%d", i), image)
	}
	f.next()
	v.stop()
	v = f.start()
	f.attested(t.Context(), "attested-again", image)
	other := f.registry.PushImage("team/other", "v1")
	f.attested(t.Context(), "attested-other", other)
	// The next event is of the other image, so there was no second of the first.
	if e := f.next(); e.GetImage().GetDigest() != other.Digest || e.GetSequence() != 2 || !strings.HasPrefix(e.GetReasons()[0], "EVIDENCE_MISSING") {
		t.Errorf("event: %v", e)
	}
	if got := v.get(t, image); got.GetSequence() != 1 || got.GetState() != verifierv1.Verdict_STATE_PASS {
		t.Errorf("verdict: %v", got)
	}
}

// TestTrustBundle starts before the signer and learns its keys when it comes.
func TestTrustBundle(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.cfg.Trust.Roots, f.cfg.Trust.SignerAddress = nil, listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	if err := v.readiness.Check(); err == nil || !strings.Contains(err.Error(), "trust: no trusted key is known yet") {
		t.Errorf("readiness without trust: %v", err)
	}
	stopSigner := f.startSigner(f.cfg.Trust.SignerAddress)
	f.attested(t.Context(), "attested", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("event: %v", e)
	}
	if err := v.readiness.Check(); err != nil {
		t.Errorf("readiness: %v", err)
	}
	// The last good bundle outlives a restart while the signer is down.
	v.stop()
	stopSigner()
	f.start()
	other := f.registry.PushImage("team/other", "v1")
	f.registry.Attest(f.key, other, other.Digest, evidencetest.Report(other.Digest), time.Now())
	f.attested(t.Context(), "attested-other", other)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("event while the signer is down: %v", e)
	}
}

func TestVerdictWithRegistryDownForAWhile(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.registry.Down.Store(true)
	f.attested(t.Context(), "attested", image)
	time.Sleep(30 * time.Millisecond)
	f.registry.Down.Store(false)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("event: %v", e)
	}
	if got := v.get(t, image); got.GetState() != verifierv1.Verdict_STATE_PASS {
		t.Errorf("verdict: %v", got)
	}
}

// TestRestart changes a verdict, stops the verifier and starts it again: verdicts
// are there and end in time, and a watcher goes on where it was.
func TestRestart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	var images []imageref.Ref
	for _, name := range []string{"a", "b", "c"} {
		image := f.registry.PushImage("team/"+name, "v1")
		f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
		images = append(images, image)
		f.attested(t.Context(), "attested-"+name, image)
		f.next()
	}
	cursor := watch(t, v, 0, 1, 2)
	v.stop()

	v = f.start()
	watch(t, v, cursor, 3)
	if got := v.get(t, images[0]); got.GetState() != verifierv1.Verdict_STATE_PASS {
		t.Errorf("after the restart: %v", got)
	}
	last, err := v.verdicts.ListVerdicts(t.Context(), &verifierv1.ListVerdictsRequest{PageSize: 2})
	if err != nil || len(last.GetVerdicts()) != 2 || last.GetVerdicts()[0].GetSequence() != 3 {
		t.Fatalf("list: %v, %v", last, err)
	}
	rest, err := v.verdicts.ListVerdicts(t.Context(), &verifierv1.ListVerdictsRequest{PageSize: 2, PageToken: last.GetNextPageToken()})
	if err != nil || len(rest.GetVerdicts()) != 1 || rest.GetNextPageToken() != "" || rest.GetVerdicts()[0].GetSequence() != 1 {
		t.Errorf("second page: %v, %v", rest, err)
	}
	v.stop()

	later := time.Now().Add(20 * 365 * 24 * time.Hour)
	v = f.startWith(func() time.Time { return later })
	// Until it was judged again it is served as ended, afterwards as what it is then.
	if got := v.get(t, images[0]); got.GetState() != verifierv1.Verdict_STATE_UNKNOWN || code(got) != "EVIDENCE_STALE" && (code(got) != "EXPIRED" || got.GetDigest() != "") {
		t.Errorf("a verdict past its end: %v", got)
	}
}

// watch expects the sequences after a cursor and returns the last.
func watch(t *testing.T, v *verifier, cursor int64, want ...int64) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := v.verdicts.WatchVerdicts(ctx, &verifierv1.WatchVerdictsRequest{Cursor: cursor})
	if err != nil {
		t.Fatal(err)
	}
	for len(want) > 0 {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.GetVerdict() == nil {
			continue
		}
		if m.GetCursor() != want[0] || m.GetVerdict().GetSequence() != want[0] {
			t.Errorf("cursor %d, sequence %d, want %d", m.GetCursor(), m.GetVerdict().GetSequence(), want[0])
		}
		cursor, want = m.GetCursor(), want[1:]
	}
	return cursor
}

func TestWatchSeesWhatComes(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	stream, err := v.verdicts.WatchVerdicts(t.Context(), &verifierv1.WatchVerdictsRequest{Cursor: -1})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || m.GetVerdict() != nil || m.GetCursor() != 0 {
		t.Fatalf("first message: %v, %v", m, err)
	}
	image := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.attested(t.Context(), "attested", image)
	if m, err := stream.Recv(); err != nil || m.GetVerdict().GetState() != verifierv1.Verdict_STATE_PASS || m.GetCursor() != 1 {
		t.Errorf("change: %v, %v", m, err)
	}
	future, err := v.verdicts.WatchVerdicts(t.Context(), &verifierv1.WatchVerdictsRequest{Cursor: 99})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := future.Recv(); !apierr.HasReason(err, "CURSOR_UNKNOWN") || apierr.From(err).Code() != codes.OutOfRange {
		t.Errorf("cursor of the future: %v", err)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	v := f.start()
	ctx := t.Context()
	digest := "sha256:" + strings.Repeat("a", 64)
	for name, tc := range map[string]struct {
		image *typev1.ImageRef
		field string
	}{
		"nothing":       {nil, "image"},
		"no digest":     {&typev1.ImageRef{Registry: "r.example", Repository: "app"}, "image"},
		"other digest":  {&typev1.ImageRef{Digest: "sha512:" + strings.Repeat("a", 128)}, "image.digest"},
		"short digest":  {&typev1.ImageRef{Digest: "sha256:aa"}, "image.digest"},
		"bad name":      {&typev1.ImageRef{Registry: "r.example", Repository: "A B", Digest: digest}, "image.repository"},
		"tag, no name":  {&typev1.ImageRef{Tag: "v1"}, "image.registry"},
		"half a name":   {&typev1.ImageRef{Repository: "app", Digest: digest}, "image.registry"},
		"tag too long":  {&typev1.ImageRef{Registry: "r.example", Repository: "app", Tag: strings.Repeat("a", 129)}, "image.tag"},
		"tag with name": {&typev1.ImageRef{Registry: "r.example", Repository: "app", Tag: "a b"}, "image.tag"},
	} {
		_, err := v.verdicts.GetVerdict(ctx, &verifierv1.GetVerdictRequest{Image: tc.image})
		if got := apierr.From(err).Violations(); apierr.From(err).Code() != codes.InvalidArgument || len(got) != 1 || got[0].Field != tc.field {
			t.Errorf("%s: %v, violations %v", name, err, got)
		}
		if tc.image == nil {
			continue // a batch has no missing references
		}
		batch, err := v.verdicts.BatchGetVerdicts(ctx, &verifierv1.BatchGetVerdictsRequest{Images: []*typev1.ImageRef{{Digest: digest}, tc.image}})
		if got := batch.GetVerdicts(); err != nil || len(got) != 2 || code(got[0]) != "NEVER_SEEN" || code(got[1]) != "INVALID_REFERENCE" ||
			got[1].GetState() != verifierv1.Verdict_STATE_UNKNOWN {
			t.Errorf("%s in a batch: %v, %v", name, batch, err)
		}
	}
	many := make([]*typev1.ImageRef, 501)
	for i := range many {
		many[i] = &typev1.ImageRef{Digest: digest}
	}
	if _, err := v.verdicts.BatchGetVerdicts(ctx, &verifierv1.BatchGetVerdictsRequest{Images: many}); apierr.From(err).Code() != codes.InvalidArgument {
		t.Errorf("501 images: %v", err)
	}
	if r, err := v.verdicts.BatchGetVerdicts(ctx, &verifierv1.BatchGetVerdictsRequest{Images: many[:500]}); err != nil || len(r.GetVerdicts()) != 500 || code(r.GetVerdicts()[499]) != "NEVER_SEEN" {
		t.Errorf("500 images: %v", err)
	}
	for name, req := range map[string]*verifierv1.ListVerdictsRequest{
		"page token": {PageToken: "nonsense"}, "page token of another query": {PageToken: page.Encode("verdicts state=1 repository=", "7")}, "page size": {PageSize: -1}, "state": {State: 9}, "repository": {Repository: "app"},
	} {
		if _, err := v.verdicts.ListVerdicts(ctx, req); apierr.From(err).Code() != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}

	list, err := v.policies.ListPolicies(ctx, &verifierv1.ListPoliciesRequest{})
	if err != nil || len(list.GetPolicies()) != 1 || list.GetPolicies()[0].GetName() != "baseline" {
		t.Fatalf("policies: %v, %v", list, err)
	}
	one, err := v.policies.GetPolicy(ctx, &verifierv1.GetPolicyRequest{Name: "baseline"})
	if err != nil || one.GetPolicy().GetDigest() != list.GetPolicies()[0].GetDigest() || !strings.Contains(one.GetPolicy().GetDocument(), "kind: Policy") {
		t.Errorf("policy: %v, %v", one, err)
	}
	if _, err := v.policies.GetPolicy(ctx, &verifierv1.GetPolicyRequest{Name: "nope"}); !apierr.HasReason(err, "POLICY_NOT_FOUND") {
		t.Errorf("policy that is not there: %v", err)
	}

	scanner := verifierv1.NewVerdictServiceClient(f.dial(v, f.service(events.Scanner)))
	if _, err := scanner.GetVerdict(ctx, &verifierv1.GetVerdictRequest{Image: many[0]}); apierr.From(err).Code() != codes.PermissionDenied {
		t.Errorf("the scanner asked for a verdict: %v", err)
	}
	signer := verifierv1.NewVerdictServiceClient(f.dial(v, f.service(events.Signer)))
	if _, err := signer.GetVerdict(ctx, &verifierv1.GetVerdictRequest{Image: many[0]}); err != nil {
		t.Errorf("the signer asked for a verdict: %v", err)
	}
}
