package app_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// scanner answers GetScan with what the test says was scanned.
type scanner struct {
	scannerv1.UnimplementedScannerServiceServer

	mu    sync.Mutex
	scans map[string]*scannerv1.Scan
}

func (s *scanner) GetScan(_ context.Context, req *scannerv1.GetScanRequest) (*scannerv1.GetScanResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.scans[req.GetScanId()]; found != nil {
		return &scannerv1.GetScanResponse{Scan: found}, nil
	}
	return nil, apierr.New(codes.NotFound, "SCAN_NOT_FOUND", "no such scan")
}

// serveScanner serves the scanner that the verifier asks.
func (f *fleet) serveScanner() {
	f.t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(f.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.cfg.ScannerAddress = listener.Addr().String()
	table := authz.Table{}
	for _, m := range scannerv1.ScannerService_ServiceDesc.Methods {
		table["/seaworthy.scanner.v1.ScannerService/"+m.MethodName] = authz.Rule{}
	}
	for _, m := range scannerv1.ScannerService_ServiceDesc.Streams {
		table["/seaworthy.scanner.v1.ScannerService/"+m.StreamName] = authz.Rule{}
	}
	table[scannerv1.ScannerService_GetScan_FullMethodName] = authz.Rule{Services: []string{events.Verifier}}
	srv, err := grpcx.NewServer(grpcx.DefaultServerConfig(f.cfg.ScannerAddress), grpcx.ServerDeps{
		TLS: f.service(events.Scanner), Telemetry: obs.Discard(events.Scanner), Readiness: lifecycle.NewReadiness(), Listener: listener, Authz: table,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	scannerv1.RegisterScannerServiceServer(srv, f.scanner)
	f.background(srv.Run)
}

// overdueFleet is a fleet whose scanner and signer are played by the test, with a clock
// that it sets.
type overdueFleet struct {
	*fleet
	ahead atomic.Int64
	// givesUp makes the signer give up on what it is sent.
	givesUp atomic.Bool
}

func (f *overdueFleet) now() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }

func newOverdueFleet(t *testing.T) *overdueFleet {
	t.Helper()
	f := &overdueFleet{fleet: newFleet(t)}
	f.background(func(ctx context.Context) error {
		return events.Consume(ctx, f.bus[events.Signer], events.ConsumerSignerAttest, 1,
			func(context.Context, *eventv1.ImageScannedEvent, *eventbus.Delivery) error {
				if f.givesUp.Load() {
					return eventbus.Permanent("REFERRERS_UNREADABLE", errors.New("the referrers tag is no index"))
				}
				return nil
			})
	})
	return f
}

// scanned has the scanner scan an image, and tells everybody.
func (f *overdueFleet) scanned(id string, image imageref.Ref, at time.Time, report *scannerv1.Report) {
	f.t.Helper()
	content, err := events.ContentDigest(report)
	if err != nil {
		f.t.Fatal(err)
	}
	basic := proto.CloneOf(report)
	basic.Packages, basic.Findings, basic.ContentDigest = nil, nil, content
	f.scanner.mu.Lock()
	f.scanner.scans[id] = &scannerv1.Scan{
		ScanId: id, Image: message(image), State: scannerv1.Scan_STATE_SUCCEEDED, Reports: []*scannerv1.Report{basic}, EndTime: timestamppb.New(at),
	}
	f.scanner.mu.Unlock()
	f.announced(id, image)
}

// announced publishes that a scan ended, with nothing but its name.
func (f *overdueFleet) announced(id string, image imageref.Ref) {
	f.t.Helper()
	f.publish(f.t.Context(), events.Scanner, "scanned-"+id, &eventv1.ImageScannedEvent{Image: message(image), ScanId: id})
}

// attest attaches a report of a scan that ended at a time, and tells the verifier.
func (f *overdueFleet) attest(id string, image imageref.Ref, at time.Time, report *scannerv1.Report) {
	f.t.Helper()
	f.registry.Attest(f.key, image, image.Digest, report, at)
	f.publish(f.t.Context(), events.Signer, "attested-"+id, &eventv1.ImageAttestedEvent{Image: message(image), ScanId: id, ScanTime: timestamppb.New(at)})
}

// passed is an image with a PASS.
func (f *overdueFleet) passed(repository string) imageref.Ref {
	f.t.Helper()
	image := f.registry.PushImage(repository, "v1")
	at := f.now()
	f.scanned("first-"+repository, image, at, evidencetest.Report(image.Digest))
	f.attest("first-"+repository, image, at, evidencetest.Report(image.Digest))
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		f.t.Fatalf("event: %v", e)
	}
	return image
}

// eventually waits until a question has the answer.
func (f *overdueFleet) eventually(what string, met func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !met() {
		if time.Now().After(deadline) {
			f.t.Fatalf("it did not come to that in time: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// condition waits until readiness tells operators of it.
func (f *overdueFleet) condition(v *verifier, want string) {
	f.t.Helper()
	f.eventually(want, func() bool {
		err := v.readiness.Components()["evidence"]
		return err != nil && strings.Contains(err.Error(), want) && v.readiness.Check() == nil
	})
}

// views asks for the verdict of an image in every way there is.
func (f *overdueFleet) views(v *verifier, image imageref.Ref) map[string]*verifierv1.Verdict {
	f.t.Helper()
	out := map[string]*verifierv1.Verdict{"get": v.get(f.t, image), "get by digest": v.get(f.t, imageref.Ref{Digest: image.Digest}), "wait": v.wait(f.t, image)}
	batch, err := v.verdicts.BatchGetVerdicts(f.t.Context(), &verifierv1.BatchGetVerdictsRequest{Images: []*typev1.ImageRef{message(image)}})
	if err != nil {
		f.t.Fatal(err)
	}
	out["batch"] = batch.GetVerdicts()[0]
	list, err := v.verdicts.ListVerdicts(f.t.Context(), &verifierv1.ListVerdictsRequest{Repository: image.Name()})
	if err != nil || len(list.GetVerdicts()) != 1 {
		f.t.Fatalf("list: %v, %v", list, err)
	}
	out["list"] = list.GetVerdicts()[0]
	return out
}

func (f *overdueFleet) every(what string, v *verifier, image imageref.Ref, state verifierv1.Verdict_State, reason string) {
	f.t.Helper()
	for name, got := range f.views(v, image) {
		if got.GetState() != state || reason != "" && code(got) != reason {
			f.t.Errorf("%s: %s: %v", what, name, got)
		}
	}
}

// TestOverdue is the attack of somebody who may push and has no key: after a PASS new
// advisories bring a critical finding, and the signer cannot attach the report because
// the referrers are broken. The verdict does not stay PASS.
func TestOverdue(t *testing.T) {
	t.Parallel()
	f := newOverdueFleet(t)
	v := f.startWith(f.now)
	image := f.passed("team/app")

	// A scan that says the same makes nothing overdue, nor does one that nobody made.
	f.scanned("same", image, f.now().Add(time.Second), evidencetest.Report(image.Digest))
	f.announced("forged", image)
	first := f.now().Add(2 * time.Second)
	critical := evidencetest.Report(image.Digest, evidencetest.Critical())
	before := v.get(t, image)
	if before.GetOverdueTime() != nil {
		t.Errorf("before: %v", before)
	}
	f.scanned("critical", image, first, critical)
	f.eventually("the report waits", func() bool { return v.get(t, image).GetOverdueTime() != nil })
	f.every("while it waits", v, image, verifierv1.Verdict_STATE_PASS, "")
	if got := v.get(t, image); got.GetOverdueTime().AsTime().Sub(f.now()) > 6*time.Hour || !proto.Equal(got.GetExpireTime(), before.GetExpireTime()) ||
		got.GetDigest() != before.GetDigest() {
		t.Errorf("while it waits: %v", got)
	}
	if got := f.views(v, image)["batch"]; got.GetExpireTime().AsTime().Sub(f.now()) > 6*time.Hour {
		t.Errorf("whoever keeps the answer keeps it too long: %v", got)
	}

	// Other reports do not set the clock back.
	f.ahead.Store(int64(2 * time.Hour))
	again := proto.CloneOf(critical)
	again.Findings[0].Kev = true
	f.scanned("exploited", image, f.now(), again)
	f.quiet(2 * time.Second)
	f.every("nothing from a later scan was judged", v, image, verifierv1.Verdict_STATE_PASS, "")

	// The signer works: it attests another image, scanned later.
	f.passed("team/other")
	e := f.next()
	if e.GetState() != eventv1.VerdictReachedEvent_STATE_UNKNOWN || e.GetPreviousState() != eventv1.VerdictReachedEvent_STATE_PASS ||
		!strings.HasPrefix(e.GetReasons()[0], "EVIDENCE_OVERDUE: a scan report of ") {
		t.Errorf("event: %v", e)
	}
	f.every("overtaken", v, image, verifierv1.Verdict_STATE_UNKNOWN, "EVIDENCE_OVERDUE")
	f.condition(v, "1 images are UNKNOWN because of it")
	history, err := v.verdicts.GetVerdictHistory(t.Context(), &verifierv1.GetVerdictHistoryRequest{Image: message(image)})
	if err != nil || history.GetChanges()[0].GetCause() != verifierv1.VerdictChange_CAUSE_OVERDUE {
		t.Errorf("history: %v, %v", history, err)
	}
	_, err = v.verdicts.ExplainVerdict(t.Context(), &verifierv1.ExplainVerdictRequest{VerdictDigest: history.GetChanges()[0].GetVerdict().GetDigest()})
	if !apierr.HasReason(err, "VERDICT_NOT_JUDGED") {
		t.Errorf("explain: %v", err)
	}

	// Neither an event without new evidence nor changed rules bring the PASS back.
	f.attested(t.Context(), "nothing new", image)
	if _, err := v.policies.CreatePolicy(t.Context(), &verifierv1.CreatePolicyRequest{Document: document("mild", "**", "true")}); err != nil {
		t.Fatal(err)
	}
	if e := f.next(); e.GetImage().GetRepository() != "team/other" {
		t.Errorf("event: %v", e)
	}
	f.quiet(2 * time.Second)
	f.every("judged again", v, image, verifierv1.Verdict_STATE_UNKNOWN, "EVIDENCE_OVERDUE")

	// The signer comes to the first report: the image is judged, and now waits for the
	// newest. Then it is judged by that.
	f.attest("critical", image, first, critical)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Errorf("event: %v", e)
	}
	if got := v.get(t, image); got.GetOverdueTime() == nil {
		t.Errorf("waiting for the newest report: %v", got)
	}
	f.attest("exploited", image, f.now(), again)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Errorf("event: %v", e)
	}
	if got := v.get(t, image); got.GetOverdueTime() != nil {
		t.Errorf("nothing waits: %v", got)
	}
	f.every("judged", v, image, verifierv1.Verdict_STATE_FAIL, "RULE_DENIED")
}

// TestOverdueByTheClock lets six hours pass in which nothing at all is attested, with a
// verifier that does not run when they end.
func TestOverdueByTheClock(t *testing.T) {
	t.Parallel()
	f := newOverdueFleet(t)
	v := f.startWith(f.now)
	image := f.passed("team/app")
	f.scanned("critical", image, f.now().Add(time.Second), evidencetest.Report(image.Digest, evidencetest.Critical()))
	f.eventually("the report waits", func() bool { return v.get(t, image).GetOverdueTime() != nil })
	f.ahead.Store(int64(6*time.Hour - time.Minute))
	f.quiet(1500 * time.Millisecond)
	f.every("a minute before", v, image, verifierv1.Verdict_STATE_PASS, "")
	f.ahead.Store(int64(6 * time.Hour))
	f.every("by the clock", v, image, verifierv1.Verdict_STATE_UNKNOWN, "EVIDENCE_OVERDUE")
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_UNKNOWN {
		t.Errorf("event: %v", e)
	}
	// Advisories that were taken back: the newest report says what was judged.
	f.scanned("clean", image, f.now(), evidencetest.Report(image.Digest))
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("event: %v", e)
	}
	f.every("the report was taken back", v, image, verifierv1.Verdict_STATE_PASS, "")
}

// TestGivenUp has the signer give up: the verdict is UNKNOWN at once, unless the scanner
// says that the report is no news. A scan that it does not know makes it UNKNOWN too, until
// a newer one is judged.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	f := newOverdueFleet(t)
	v := f.startWith(f.now)
	image := f.passed("team/app")
	f.givesUp.Store(true)
	f.announced("first-team/app", image) // it was judged
	f.quiet(2 * time.Second)
	f.every("judged already", v, image, verifierv1.Verdict_STATE_PASS, "")

	// The scanner's database was lost, or the event is forged.
	f.announced("lost", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_UNKNOWN || !strings.Contains(e.GetReasons()[0], "signer-attest gave up: REFERRERS_UNREADABLE") {
		t.Errorf("event: %v", e)
	}
	f.every("a scan that nobody knows", v, image, verifierv1.Verdict_STATE_UNKNOWN, "EVIDENCE_OVERDUE")
	f.scanned("same", image, f.now().Add(time.Second), evidencetest.Report(image.Digest))
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("event: %v", e)
	}
	f.every("a newer scan says what was judged", v, image, verifierv1.Verdict_STATE_PASS, "")

	at := f.now().Add(2 * time.Second)
	critical := evidencetest.Report(image.Digest, evidencetest.Critical())
	f.scanned("critical", image, at, critical)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_UNKNOWN || !strings.Contains(e.GetReasons()[0], "signer-attest gave up: REFERRERS_UNREADABLE") {
		t.Errorf("event: %v", e)
	}
	f.every("given up", v, image, verifierv1.Verdict_STATE_UNKNOWN, "EVIDENCE_OVERDUE")

	f.attest("critical", image, at, critical)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Errorf("event: %v", e)
	}
	// The same message fails again, after it was judged.
	f.publish(t.Context(), events.Scanner, "scanned-critical-again", &eventv1.ImageScannedEvent{Image: message(image), ScanId: "critical"})
	f.quiet(2 * time.Second)
	f.every("judged since", v, image, verifierv1.Verdict_STATE_FAIL, "RULE_DENIED")
}

// TestManyOverdue makes more images overdue at once than subscribers are told of one by
// one. All are UNKNOWN, and what recovers as it was is not told either.
func TestManyOverdue(t *testing.T) {
	t.Parallel()
	const images = 30
	f := newOverdueFleet(t)
	v := f.startWith(f.now)
	var all []imageref.Ref
	for i := range images {
		all = append(all, f.passed("team/app"+strings.Repeat("x", i)))
	}
	for i, image := range all {
		f.scanned("critical-"+all[i].Repository, image, f.now(), evidencetest.Report(image.Digest, evidencetest.Critical()))
	}
	f.eventually("all reports wait", func() bool {
		for _, image := range all {
			if v.get(t, image).GetOverdueTime() == nil {
				return false
			}
		}
		return true
	})
	f.ahead.Store(int64(6 * time.Hour))
	f.eventually("all are recorded", func() bool {
		list, err := v.verdicts.ListVerdicts(t.Context(), &verifierv1.ListVerdictsRequest{State: verifierv1.Verdict_STATE_UNKNOWN})
		recorded := 0
		for _, one := range list.GetVerdicts() {
			if one.GetDigest() != "" {
				recorded++
			}
		}
		return err == nil && recorded == images
	})
	told := 0
	for len(f.verdicts) > 0 {
		<-f.verdicts
		told++
	}
	if told > 20 {
		t.Errorf("%d images are told of", told)
	}
	f.condition(v, "30 images are UNKNOWN because of it")
	for i, image := range all {
		f.scanned("clean-"+all[i].Repository, image, f.now(), evidencetest.Report(image.Digest))
	}
	f.eventually("all are PASS", func() bool {
		list, err := v.verdicts.ListVerdicts(t.Context(), &verifierv1.ListVerdictsRequest{State: verifierv1.Verdict_STATE_PASS})
		return err == nil && len(list.GetVerdicts()) == images
	})
	time.Sleep(time.Second)
	if back := len(f.verdicts); back != told {
		t.Errorf("%d images are told of as UNKNOWN, %d as PASS again", told, back)
	}
	f.eventually("ready", func() bool { return v.readiness.Components()["evidence"] == nil })
}

// TestOverdueAtBothReplicas gives up on a report while two replicas keep the PASS ready: no
// more than a second later neither serves it.
func TestOverdueAtBothReplicas(t *testing.T) {
	t.Parallel()
	f := newOverdueFleet(t)
	replicas := []*verifier{f.startWith(f.now), f.startWith(f.now)}
	image := f.passed("team/app")
	for range 2 { // the second time from memory
		for _, v := range replicas {
			f.every("before", v, image, verifierv1.Verdict_STATE_PASS, "")
		}
	}
	f.givesUp.Store(true)
	f.scanned("critical", image, f.now().Add(time.Second), evidencetest.Report(image.Digest, evidencetest.Critical()))
	e := f.next()
	for n, v := range replicas {
		r, err := v.verdicts.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Image: message(image), MinSequence: e.GetSequence()})
		if err != nil || code(r.GetVerdict()) != "EVIDENCE_OVERDUE" {
			t.Errorf("replica %d, asked for the change: %v, %v", n, r, err)
		}
		f.eventually("the replica knows", func() bool { return v.get(t, image).GetState() == verifierv1.Verdict_STATE_UNKNOWN })
		f.every("after", v, image, verifierv1.Verdict_STATE_UNKNOWN, "EVIDENCE_OVERDUE")
	}
}
