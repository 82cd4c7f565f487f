package app_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/registrytest"
)

var evidenceTypes = []string{core.PredicateSPDX, core.PredicateVulnsV02, core.PredicateCosignVuln}

func trusted(t *testing.T, k *signerv1.TrustedKey) attest.TrustedKey {
	t.Helper()
	pub, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(k.GetPublicKeyPem()))
	if err != nil {
		t.Fatal(err)
	}
	out := attest.TrustedKey{Key: pub, ID: k.GetKeyId()}
	if k.GetStartTime() != nil {
		out.NotBefore = k.GetStartTime().AsTime()
	}
	if k.GetEndTime() != nil {
		out.NotAfter = k.GetEndTime().AsTime()
	}
	if k.GetRevokeTime() != nil {
		out.Revoked = k.GetRevokeTime().AsTime()
	}
	return out
}

// types are the predicate types attached to a manifest, sorted; all of them
// verify with the signer's trust bundle.
func (f *fleet) types(ref imageref.Ref) []string {
	f.t.Helper()
	var out []string
	for _, v := range f.registry.Attestations(ref, f.roots()) {
		out = append(out, v.PredicateType)
	}
	slices.Sort(out)
	return out
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func TestSigner_AttestsAScan(t *testing.T) {
	f := newFleet(t)
	f.start()
	image := f.registry.PushImage("team/app")
	trace := f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))

	e := f.nextAttested()
	if e.GetScanId() != "scan-1" || e.GetImage().GetDigest() != image.Digest || len(e.GetPlatforms()) != 1 {
		t.Fatalf("event = %v", e)
	}
	if got := e.GetMeta().GetTraceId(); got != trace {
		t.Errorf("trace = %s, want that of the push, %s", got, trace)
	}
	found := f.registry.Attestations(image, f.roots())
	want := map[string]string{}
	for _, a := range e.GetPlatforms()[0].GetAttestations() {
		want[a.GetManifestDigest()] = a.GetPredicateType()
	}
	got := map[string]string{}
	for _, v := range found {
		got[v.ManifestDigest] = v.PredicateType
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 3 {
		t.Errorf("attestations (-event +registry):\n%s", diff)
	}
	for _, v := range found {
		if v.PredicateType != core.PredicateCosignVuln {
			continue
		}
		var p struct {
			Scanner struct{ Result json.RawMessage }
		}
		if err := json.Unmarshal(v.Predicate, &p); err != nil {
			t.Fatal(err)
		}
		if d := core.Digest(p.Scanner.Result); d != f.scanned("x", image, image).GetPlatforms()[0].GetReportDigest() {
			t.Errorf("the report in the attestation has digest %s", d)
		}
	}
}

func TestSigner_BillsOfMaterialsAsConfigured(t *testing.T) {
	for _, formats := range [][]core.SBOMFormat{{core.CycloneDXJSON}, {core.SPDXJSON, core.CycloneDXJSON}} {
		f := newFleet(t)
		f.cfg.SBOM.Formats = formats
		f.start()
		image := f.registry.PushImage("team/app")
		f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
		var named []string
		for _, a := range f.nextAttested().GetPlatforms()[0].GetAttestations() {
			named = append(named, a.GetPredicateType())
		}
		want := []string{core.PredicateCycloneDX, core.PredicateVulnsV02, core.PredicateCosignVuln}
		if len(formats) == 2 {
			want = append([]string{core.PredicateSPDX}, want...)
		}
		if diff := cmp.Diff(want, named); diff != "" {
			t.Errorf("%v: types of the event (-want +got):\n%s", formats, diff)
		}
		if diff := cmp.Diff(sorted(want), f.types(image)); diff != "" {
			t.Errorf("%v: types in the registry (-want +got):\n%s", formats, diff)
		}
	}
}

func TestSigner_SameFactFiveTimes(t *testing.T) {
	f := newFleet(t)
	f.start()
	image := f.registry.PushImage("team/app")
	var first *eventv1.ImageAttestedEvent
	for i := range 5 {
		// Other ids and scans, as re-pushes have them; the content is the same.
		f.publish(events.Scanner, strconv.Itoa(i), f.scanned("scan-"+strconv.Itoa(i), image, image))
		e := f.nextAttested()
		if first == nil {
			first = e
		}
		if diff := cmp.Diff(digests(first), digests(e)); diff != "" {
			t.Errorf("attested again (-first +now):\n%s", diff)
		}
	}
	if diff := cmp.Diff(sorted(evidenceTypes), f.types(image)); diff != "" {
		t.Error(diff)
	}
}

func digests(e *eventv1.ImageAttestedEvent) []string {
	var out []string
	for _, p := range e.GetPlatforms() {
		for _, a := range p.GetAttestations() {
			out = append(out, a.GetManifestDigest())
		}
	}
	return out
}

func TestSigner_IndexPerPlatform(t *testing.T) {
	f := newFleet(t)
	f.start()
	index, manifests := f.registry.PushIndex("team/multi", 2)
	f.publish(events.Scanner, "1", f.scanned("scan-1", index, manifests...))
	e := f.nextAttested()
	if len(e.GetPlatforms()) != 2 {
		t.Fatalf("event = %v", e)
	}
	for i, m := range manifests {
		if e.GetPlatforms()[i].GetDigest() != m.Digest {
			t.Errorf("platform %d = %s", i, e.GetPlatforms()[i].GetDigest())
		}
		if diff := cmp.Diff(sorted(evidenceTypes), f.types(m)); diff != "" {
			t.Errorf("platform %d:\n%s", i, diff)
		}
	}
	if diff := cmp.Diff([]string{core.PredicateReference}, f.types(index)); diff != "" {
		t.Errorf("the index itself:\n%s", diff)
	}
	var p struct {
		References []struct {
			Digest      map[string]string
			MediaType   string
			Annotations struct{ ReportDigest string }
		}
	}
	if err := json.Unmarshal(f.registry.Attestations(index, f.roots())[0].Predicate, &p); err != nil {
		t.Fatal(err)
	}
	for i, r := range p.References {
		if "sha256:"+r.Digest["sha256"] != manifests[i].Digest || r.MediaType == "" || !strings.HasSuffix(r.MediaType, "manifest.v2+json") && !strings.HasSuffix(r.MediaType, "manifest.v1+json") {
			t.Errorf("reference %d = %+v", i, r)
		}
	}
	if len(p.References) != 2 {
		t.Errorf("%d references, want 2", len(p.References))
	}
}

func TestSigner_DeletedComesBackWithTheNextScan(t *testing.T) {
	f := newFleet(t)
	f.start()
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	first := f.nextAttested()
	f.registry.Delete(image, digests(first)[0])
	f.publish(events.Scanner, "2", f.scanned("scan-2", image, image))
	if diff := cmp.Diff(digests(first), digests(f.nextAttested())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(sorted(evidenceTypes), f.types(image)); diff != "" {
		t.Error(diff)
	}
}

func TestSigner_RegistryDownThenUp(t *testing.T) {
	f := newFleet(t)
	f.Config.MaxDeliver = 1000
	failed := make(chan struct{}, 1000)
	f.registry.Fail(nil)
	image := f.registry.PushImage("team/app")
	f.registry.Fail(func(r *http.Request) int { failed <- struct{}{}; return registrytest.Down(r) })
	f.start()
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	for range 3 {
		select {
		case <-failed:
		case <-time.After(patience):
			t.Fatal("the signer does not try")
		}
	}
	f.registry.Fail(nil)
	f.nextAttested()
	if diff := cmp.Diff(sorted(evidenceTypes), f.types(image)); diff != "" {
		t.Error(diff)
	}
	if letters := f.deadLetters(); len(letters) != 0 {
		t.Errorf("dead letters: %v", letters)
	}
}

func TestSigner_StoppedInTheMiddle(t *testing.T) {
	f := newFleet(t)
	f.Config.DrainTimeout = 100 * time.Millisecond
	image := f.registry.PushImage("team/app")
	writing, stopped := make(chan struct{}, 100), make(chan struct{})
	f.registry.Fail(func(r *http.Request) int {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			writing <- struct{}{}
			<-stopped
		}
		return 0
	})
	f.start()
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	select {
	case <-writing:
	case <-time.After(patience):
		t.Fatal("nothing was written")
	}
	f.stop()
	close(stopped)
	f.registry.Fail(nil)
	f.start()
	f.nextAttested()
	if diff := cmp.Diff(sorted(evidenceTypes), f.types(image)); diff != "" {
		t.Error(diff)
	}
}

func TestSigner_DeadLetters(t *testing.T) {
	other := core.Digest([]byte("another"))
	tests := []struct {
		name, reason, says string
		spoil              func(f *fleet, e *eventv1.ImageScannedEvent)
	}{
		{"report changed", "REPORT_MISMATCH", "digest", func(_ *fleet, e *eventv1.ImageScannedEvent) { e.Platforms[0].ReportDigest = other }},
		{"report of another manifest", "REPORT_MISMATCH", "report is of", func(_ *fleet, e *eventv1.ImageScannedEvent) { e.Platforms[0].Digest = other }},
		{"scan of another image", "REPORT_MISMATCH", "team/other", func(_ *fleet, e *eventv1.ImageScannedEvent) {
			e.Image = proto.CloneOf(e.GetImage())
			e.Image.Repository = "team/other"
		}},
		{"platform too many", "REPORT_MISMATCH", "reports", func(_ *fleet, e *eventv1.ImageScannedEvent) { e.Platforms = append(e.Platforms, e.GetPlatforms()[0]) }},
		{"no platform", "INVALID_EVENT", "platforms", func(_ *fleet, e *eventv1.ImageScannedEvent) { e.Platforms = nil }},
		{"no digest", "INVALID_EVENT", "digest", func(_ *fleet, e *eventv1.ImageScannedEvent) {
			e.Image = proto.CloneOf(e.GetImage())
			e.Image.Digest = ""
		}},
		{"unknown scan", "SCAN_NOT_FOUND", "scan", func(_ *fleet, e *eventv1.ImageScannedEvent) { e.ScanId = "unknown" }},
		{"document of another image", "REPORT_INVALID", "SPDX", func(f *fleet, e *eventv1.ImageScannedEvent) {
			f.fakes.set(func(k *fakes) { k.sboms[e.GetPlatforms()[0].GetDigest()] = spdx(other) })
		}},
		{"document too large", "EVIDENCE_TOO_LARGE", "max_sbom", func(f *fleet, e *eventv1.ImageScannedEvent) {
			f.fakes.set(func(k *fakes) { k.sboms[e.GetPlatforms()[0].GetDigest()] = bytes.Repeat([]byte(" "), 2<<20) })
		}},
		{"registry denies", "REGISTRY_DENIED", "credentials", func(f *fleet, _ *eventv1.ImageScannedEvent) {
			f.registry.Fail(registrytest.DenyWrites(http.StatusForbidden))
		}},
		{"registry knows nobody", "REGISTRY_DENIED", "credentials", func(f *fleet, _ *eventv1.ImageScannedEvent) {
			f.registry.Fail(registrytest.DenyWrites(http.StatusUnauthorized))
		}},
		{"report too large", "EVIDENCE_TOO_LARGE", "max_report", func(f *fleet, e *eventv1.ImageScannedEvent) {
			f.fakes.set(func(k *fakes) {
				k.scans[e.GetScanId()].Reports[0].Problems = []string{strings.Repeat("x", 2<<20)}
			})
		}},
		{"registry is read only", "REGISTRY_REJECTED", "405", func(f *fleet, _ *eventv1.ImageScannedEvent) {
			f.registry.Fail(registrytest.DenyWrites(http.StatusMethodNotAllowed))
		}},
		{"image is gone", "IMAGE_NOT_FOUND", "no longer", func(f *fleet, e *eventv1.ImageScannedEvent) {
			f.registry.Delete(imageref.Ref{Registry: f.registry.Host, Repository: "team/app"}, e.GetImage().GetDigest())
		}},
	}
	f := newFleet(t)
	f.cfg.MaxSBOM, f.cfg.MaxReport = 1<<20, 1<<20
	f.start()
	roots := f.roots()
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			image := f.registry.PushImage("team/app")
			e := f.scanned(tt.name, image, image)
			tt.spoil(f, e)
			f.publish(events.Scanner, tt.name, e)
			letter := f.deadLetter(i)
			f.registry.Fail(nil)
			if letter.GetReason() != tt.reason || !strings.Contains(letter.GetMessage(), tt.says) || letter.GetAttempts() != 1 {
				t.Errorf("dead letter = %s after %d attempts: %s", letter.GetReason(), letter.GetAttempts(), letter.GetMessage())
			}
			if n := len(f.registry.Attestations(image, roots)); n != 0 {
				t.Errorf("%d attestations were attached", n)
			}
		})
	}
}

// TestSigner_RegistriesThatDoNotRecover: what may pass is tried as often as there
// are attempts, and then tells what the registry said.
func TestSigner_RegistriesThatDoNotRecover(t *testing.T) {
	tests := []struct {
		name, says string
		fault      registrytest.Fault
	}{
		{"too many requests", "429", registrytest.DenyWrites(http.StatusTooManyRequests)},
		{"internal error", "500", registrytest.DenyWrites(http.StatusInternalServerError)},
		{"unavailable", "503", registrytest.Down},
		// Whichever clock runs out first words it.
		{"slow", "timeout|deadline exceeded", func(req *http.Request) int {
			if req.Method == http.MethodPut {
				select {
				case <-req.Context().Done():
				case <-time.After(5 * time.Second):
				}
			}
			return 0
		}},
	}
	f := newFleet(t)
	f.cfg.Registry.Timeout = 300 * time.Millisecond
	f.cfg.Registry.MaxFailures = 1000 // each fault is to be met, not remembered
	f.start()
	roots := f.roots()
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			image := f.registry.PushImage("team/app")
			f.registry.Fail(tt.fault)
			f.publish(events.Scanner, tt.name, f.scanned(tt.name, image, image))
			letter := f.deadLetter(i)
			f.registry.Fail(nil)
			if letter.GetAttempts() != 3 || !regexp.MustCompile(tt.says).MatchString(letter.GetMessage()) {
				t.Errorf("dead letter = %s after %d attempts: %s", letter.GetReason(), letter.GetAttempts(), letter.GetMessage())
			}
			if n := len(f.registry.Attestations(image, roots)); n != 0 {
				t.Errorf("%d attestations were attached", n)
			}
		})
	}
}

// verdict has the fake verifier reach a verdict and returns its event.
func (f *fleet) verdict(state verifierv1.Verdict_State, image imageref.Ref, manifests ...imageref.Ref) *eventv1.VerdictReachedEvent {
	f.t.Helper()
	ref := &typev1.ImageRef{Registry: image.Registry, Repository: image.Repository, Digest: image.Digest}
	v := &verifierv1.Verdict{Image: ref, State: state, EvaluateTime: timestamppb.New(time.Date(2026, 3, 1, 12, 0, 2, 0, time.UTC))}
	for _, m := range manifests {
		v.Platforms = append(v.Platforms, &verifierv1.PlatformVerdict{
			Digest: m.Digest, State: state,
			Policies: []*verifierv1.PolicyResult{{Policy: "baseline", PolicyDigest: core.Digest([]byte("policy")), State: state}},
			Inputs:   &verifierv1.Inputs{Attestations: []*verifierv1.EvidenceRef{{ManifestDigest: core.Digest([]byte("evidence"))}}},
		})
	}
	return f.reached(v)
}

// reached has the fake verifier know a verdict and returns its event.
func (f *fleet) reached(v *verifierv1.Verdict) *eventv1.VerdictReachedEvent {
	f.t.Helper()
	v.TraceId, v.Sequence, v.Digest = "", 0, ""
	v.Digest = core.Digest(canonical(f.t, v))
	// What is not part of the canonical form.
	v.TraceId, v.Sequence = "trace", 7
	f.fakes.set(func(k *fakes) { k.verdicts[v.GetImage().GetDigest()] = v })
	return &eventv1.VerdictReachedEvent{Image: v.GetImage(), State: eventv1.VerdictReachedEvent_State(v.GetState()), VerdictDigest: v.GetDigest()}
}

// excepted has the fake verifier's verdict of an image rest on an exception.
func (f *fleet) excepted(image imageref.Ref) *eventv1.VerdictReachedEvent {
	f.t.Helper()
	v := f.fakes.verdict(image.Digest)
	v.EvaluateTime = timestamppb.New(v.GetEvaluateTime().AsTime().Add(time.Minute))
	v.Exceptions = []*verifierv1.ExceptionUse{{
		Name: "no-parsing", Target: "CVE-2022-32149", Owner: "team-b", Reason: "no languages are parsed",
		Justification: "vulnerable_code_not_in_execute_path", Purls: []string{"pkg:golang/golang.org/x/text@v0.3.7"},
		ExpireTime: timestamppb.New(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)),
	}}
	v.Platforms[0].Policies[0].Rules = []*verifierv1.RuleResult{{
		Rule: "no-high", Outcome: verifierv1.RuleResult_OUTCOME_EXCEPTED, Exceptions: []string{"no-parsing"},
	}}
	return f.reached(v)
}

func TestSigner_PublishesExceptions(t *testing.T) {
	f := newFleet(t)
	f.start()
	index, manifests := f.registry.PushIndex("team/multi", 2)
	f.verdict(verifierv1.Verdict_STATE_PASS, index, manifests...)
	f.publish(events.Verifier, "1", f.excepted(index))
	both := []string{core.PredicateOpenVEX, core.PredicateVSA}
	for _, ref := range []imageref.Ref{index, manifests[0]} {
		f.eventually("the exception on "+ref.Digest, func() bool { return slices.Equal(f.types(ref), both) })
	}
	f.eventually("the other platform's verdict", func() bool { return slices.Equal(f.types(manifests[1]), both[1:]) })

	f.verdict(verifierv1.Verdict_STATE_FAIL, index, manifests...)
	over := f.fakes.verdict(index.Digest)
	over.EvaluateTime = timestamppb.New(over.GetEvaluateTime().AsTime().Add(time.Hour))
	f.publish(events.Verifier, "2", f.reached(over))
	for _, ref := range []imageref.Ref{index, manifests[0]} {
		f.eventually("the end of the exception on "+ref.Digest, func() bool {
			for _, v := range f.registry.Attestations(ref, f.roots()) {
				if v.PredicateType == core.PredicateOpenVEX && strings.Contains(string(v.Predicate), "rests on this exception no longer") {
					return true
				}
			}
			return false
		})
	}
}

func TestSigner_AttachesVerdicts(t *testing.T) {
	f := newFleet(t)
	f.start()
	index, manifests := f.registry.PushIndex("team/multi", 2)
	e := f.verdict(verifierv1.Verdict_STATE_FAIL, index, manifests...)
	f.publish(events.Verifier, "1", e)
	f.publish(events.Verifier, "2", e)
	// Another one behind them tells when both have been handled.
	image := f.registry.PushImage("team/app")
	f.publish(events.Verifier, "3", f.verdict(verifierv1.Verdict_STATE_PASS, image, image))
	for _, ref := range append(manifests, index, image) {
		f.eventually("a verdict on "+ref.Digest, func() bool { return slices.Equal(f.types(ref), []string{core.PredicateVSA}) })
	}
	var vsa struct{ VerificationResult, ResourceURI string }
	if err := json.Unmarshal(f.registry.Attestations(image, f.roots())[0].Predicate, &vsa); err != nil {
		t.Fatal(err)
	}
	if vsa.VerificationResult != "PASSED" || vsa.ResourceURI != imageref.PURL(image.Name(), image.Digest) {
		t.Errorf("summary = %+v", vsa)
	}
}

func TestSigner_VerdictsWithNothingToSign(t *testing.T) {
	f := newFleet(t)
	f.cfg.Concurrency = 1 // in order, so that the last one's summary ends the wait
	f.start()
	unknown, replaced, lied, last := f.registry.PushImage("unknown"), f.registry.PushImage("replaced"), f.registry.PushImage("lied"), f.registry.PushImage("last")
	f.publish(events.Verifier, "1", f.verdict(verifierv1.Verdict_STATE_UNKNOWN, unknown, unknown))
	old := f.verdict(verifierv1.Verdict_STATE_PASS, replaced, replaced)
	f.verdict(verifierv1.Verdict_STATE_FAIL, replaced, replaced)
	f.publish(events.Verifier, "2", old)
	wrong := f.verdict(verifierv1.Verdict_STATE_PASS, lied, lied)
	f.fakes.set(func(k *fakes) { k.verdicts[lied.Digest].Platforms[0].Policies[0].Policy = "changed" })
	f.publish(events.Verifier, "3", wrong)
	f.publish(events.Verifier, "4", f.verdict(verifierv1.Verdict_STATE_PASS, last, last))

	if got := f.deadLetter(0).GetReason(); got != "VERDICT_MISMATCH" {
		t.Errorf("dead letter = %s, want VERDICT_MISMATCH", got)
	}
	f.eventually("the last verdict", func() bool { return len(f.types(last)) == 1 })
	for _, ref := range []imageref.Ref{unknown, replaced, lied} {
		if got := f.types(ref); len(got) != 0 {
			t.Errorf("%s got %v", ref.Repository, got)
		}
	}
}

func TestSigner_API(t *testing.T) {
	f := newFleet(t)
	f.start()
	image := f.registry.PushImage("team/app")
	trace := f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	f.nextAttested()
	operator := f.dial(tlsx.OperatorID(eventbustest.TrustDomain, "admin"))
	attestations, admin := signerv1.NewAttestationServiceClient(operator), signerv1.NewKeyAdminServiceClient(operator)

	keys, err := admin.ListKeys(t.Context(), &signerv1.ListKeysRequest{})
	if err != nil || len(keys.GetKeys()) != 1 {
		t.Fatalf("ListKeys() = %v, %v", keys, err)
	}
	var listed []string
	token := ""
	for {
		page, err := attestations.ListAttestations(t.Context(), &signerv1.ListAttestationsRequest{
			Image: &typev1.ImageRef{Digest: image.Digest}, PageSize: 2, PageToken: token,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page.GetAttestations() {
			listed = append(listed, a.GetPredicateType())
			if a.GetKeyId() != keys.GetKeys()[0].GetKeyId() || a.GetTraceId() != trace || a.GetImage().GetRepository() != "team/app" {
				t.Errorf("attestation = %v", a)
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if diff := cmp.Diff(sorted(evidenceTypes), sorted(listed)); diff != "" {
		t.Error(diff)
	}
	_, err = attestations.ListAttestations(t.Context(), &signerv1.ListAttestationsRequest{Image: &typev1.ImageRef{Digest: "sha256:1"}})
	wantCode(t, "malformed digest", err, codes.InvalidArgument)
	_, err = attestations.ListAttestations(t.Context(), &signerv1.ListAttestationsRequest{Image: &typev1.ImageRef{Digest: image.Digest}, PageToken: "x"})
	wantCode(t, "malformed token", err, codes.InvalidArgument)
	_, err = admin.RotateKey(t.Context(), &signerv1.RotateKeyRequest{})
	wantCode(t, "rotate without a request id", err, codes.InvalidArgument)

	scanner := f.dial(tlsx.ServiceID(eventbustest.TrustDomain, events.Scanner))
	_, err = signerv1.NewAttestationServiceClient(scanner).ListAttestations(t.Context(), &signerv1.ListAttestationsRequest{})
	wantCode(t, "a service lists", err, codes.PermissionDenied)
	client := f.dial(tlsx.ClientID(eventbustest.TrustDomain, "ci"))
	_, err = signerv1.NewKeyAdminServiceClient(client).ListKeys(t.Context(), &signerv1.ListKeysRequest{})
	wantCode(t, "a client lists keys", err, codes.PermissionDenied)
}

func TestSigner_KeyOutlivesRestartAndReplacement(t *testing.T) {
	f := newFleet(t)
	f.start()
	first := f.roots()
	f.stop()
	f.start()
	if diff := cmp.Diff(first.Keys[0].ID, f.roots().Keys[0].ID); diff != "" {
		t.Errorf("another key after a restart:\n%s", diff)
	}
	f.stop()
	f.cfg.Keystore.Dir, f.cfg.Keystore.Generate = t.TempDir(), true
	f.start()
	roots := f.roots()
	if len(roots.Keys) != 2 || roots.Keys[0].ID == first.Keys[0].ID || roots.Keys[1].ID != first.Keys[0].ID {
		t.Errorf("trust bundle after a new key = %v", roots.Keys)
	}
}

// TestSigner_RotateAndRevoke: a rotation takes effect at once and survives a restart,
// what the old key signed stays good until it is revoked, and a revoked key's
// attestation is signed anew.
func TestSigner_RotateAndRevoke(t *testing.T) {
	for _, algorithm := range []keystore.Algorithm{keystore.ECDSAP256, keystore.Ed25519} {
		t.Run(string(algorithm), func(t *testing.T) {
			f := newFleet(t)
			f.cfg.Keystore.Algorithm = algorithm
			f.start()
			image := f.registry.PushImage("team/app")
			f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
			f.nextAttested()
			admin := signerv1.NewKeyAdminServiceClient(f.dial(tlsx.OperatorID(eventbustest.TrustDomain, "admin")))
			old := f.roots().Keys[0].ID
			_, err := admin.RevokeKey(t.Context(), &signerv1.RevokeKeyRequest{KeyId: old})
			wantCode(t, "revoke the key in use", err, codes.FailedPrecondition)
			_, err = admin.RevokeKey(t.Context(), &signerv1.RevokeKeyRequest{KeyId: strings.Repeat("0", 64)})
			wantCode(t, "revoke an unknown key", err, codes.NotFound)

			const request = "0b0e2f7c-5d52-4b52-9d6f-3c1d5f7c9a01"
			first, err := admin.RotateKey(t.Context(), &signerv1.RotateKeyRequest{RequestId: request})
			if err != nil {
				t.Fatal(err)
			}
			f.stop()
			f.start()
			admin = signerv1.NewKeyAdminServiceClient(f.dial(tlsx.OperatorID(eventbustest.TrustDomain, "admin")))
			again, err := admin.RotateKey(t.Context(), &signerv1.RotateKeyRequest{RequestId: request})
			if err != nil || again.GetKey().GetKeyId() != first.GetKey().GetKeyId() {
				t.Fatalf("the same request again = %v, %v, want %v", again, err, first)
			}
			roots := f.roots()
			if len(roots.Keys) != 2 || roots.Keys[0].ID != first.GetKey().GetKeyId() || roots.Keys[1].ID != old || roots.Keys[1].NotAfter.IsZero() {
				t.Fatalf("trust bundle = %v", roots.Keys)
			}
			if n := len(f.registry.Attestations(image, roots)); n != len(evidenceTypes) {
				t.Errorf("%d attestations of before verify, want all %d", n, len(evidenceTypes))
			}
			other := f.registry.PushImage("team/app")
			f.publish(events.Scanner, "2", f.scanned("scan-2", other, other))
			f.nextAttested()
			for _, v := range f.registry.Attestations(other, roots) {
				if v.KeyID != first.GetKey().GetKeyId() {
					t.Errorf("%s is signed with %s", v.PredicateType, v.KeyID)
				}
			}

			if _, err := admin.RevokeKey(t.Context(), &signerv1.RevokeKeyRequest{KeyId: old}); err != nil {
				t.Fatal(err)
			}
			roots = f.roots()
			roots.Keys = slices.DeleteFunc(roots.Keys, func(k attest.TrustedKey) bool { return !k.Revoked.IsZero() })
			f.publish(events.Scanner, "3", f.scanned("scan-1", image, image))
			f.nextAttested()
			found, err := attest.Fetch(t.Context(), f.registry.Client(), image, attest.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			good := 0
			for _, r := range found {
				if _, err := r.Verify(image.Digest, roots); err == nil {
					good++
				}
			}
			if good != len(evidenceTypes) {
				t.Errorf("%d attestations by the new key, want %d", good, len(evidenceTypes))
			}
		})
	}
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if err == nil || apierr.From(err).Code() != want {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}
