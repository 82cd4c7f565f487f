package evidence

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/vex"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// roots are trust roots of a test; next replaces them at Refresh.
type roots struct {
	keys    []attest.TrustedKey
	version uint64
	next    []attest.TrustedKey
	asked   int
}

func (r *roots) Roots() (attest.TrustRoots, uint64, error) {
	if len(r.keys) == 0 {
		return attest.TrustRoots{}, r.version, errors.New("no trust")
	}
	return attest.TrustRoots{Keys: r.keys}, r.version, nil
}

func (r *roots) Refresh(context.Context) bool {
	r.asked++
	if r.next == nil {
		return false
	}
	r.keys, r.next = r.next, nil
	r.version++
	return true
}

func collector(reg *evidencetest.Registry, r Roots, limits Limits) *Collector {
	if limits.Cache == 0 {
		limits.Cache = 1 << 20
	}
	return NewCollector(reg.Client(), r, nil, limits, slog.New(slog.DiscardHandler), func() time.Time { return evidencetest.Now })
}

func trusting(keys ...*evidencetest.Key) *roots {
	r := &roots{version: 1}
	for _, k := range keys {
		r.keys = append(r.keys, k.Trusted())
	}
	return r
}

// TestHostileEvidence attaches what an attacker with write access to the
// repository could attach: none of it is evidence.
func TestHostileEvidence(t *testing.T) {
	t.Parallel()
	ours, theirs := evidencetest.NewKey(t), evidencetest.NewKey(t)
	attachReport := func(reg *evidencetest.Registry, image imageref.Ref, bundle []byte) {
		reg.Attach(image, image.Digest, attest.PredicateCosignVuln, bundle)
	}
	signed := func(k *evidencetest.Key, about string, report *scannerv1.Report) []byte {
		return k.Sign(about, attest.PredicateCosignVuln, evidencetest.Predicate(t, report, evidencetest.Now))
	}
	tests := map[string]struct {
		attach func(reg *evidencetest.Registry, image imageref.Ref)
		// why is part of the reason; empty if nothing is found at all.
		why string
	}{
		"nothing": {func(*evidencetest.Registry, imageref.Ref) {}, ""},
		"unknown key": {func(reg *evidencetest.Registry, image imageref.Ref) {
			attachReport(reg, image, signed(theirs, image.Digest, evidencetest.Report(image.Digest)))
		}, "not signed with a trusted key"},
		"another image": {func(reg *evidencetest.Registry, image imageref.Ref) {
			other := "sha256:" + strings.Repeat("d", 64)
			attachReport(reg, image, signed(ours, other, evidencetest.Report(other)))
		}, "about another subject"},
		"report of another image": {func(reg *evidencetest.Registry, image imageref.Ref) {
			attachReport(reg, image, signed(ours, image.Digest, evidencetest.Report("sha256:"+strings.Repeat("d", 64))))
		}, "the report is about"},
		"tampered payload": {func(reg *evidencetest.Registry, image imageref.Ref) {
			attachReport(reg, image, tamper(t, signed(ours, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()))))
		}, "signature of the attestation is wrong"},
		"not signed": {func(reg *evidencetest.Registry, image imageref.Ref) {
			attachReport(reg, image, unsign(t, signed(ours, image.Digest, evidencetest.Report(image.Digest))))
		}, "malformed"},
		"not a bundle": {func(reg *evidencetest.Registry, image imageref.Ref) {
			attachReport(reg, image, []byte(`{"hello":"world"}`))
		}, "malformed"},
		"not a report": {func(reg *evidencetest.Registry, image imageref.Ref) {
			attachReport(reg, image, ours.Sign(image.Digest, attest.PredicateCosignVuln, map[string]any{"scanner": map[string]any{"result": "clean"}}))
		}, "no report"},
		"report without its lists": {func(reg *evidencetest.Registry, image imageref.Ref) {
			r := evidencetest.Report(image.Digest, evidencetest.Critical())
			r.Findings = nil
			attachReport(reg, image, signed(ours, image.Digest, r))
		}, "as it counts"},
		"report of another type": {func(reg *evidencetest.Registry, image imageref.Ref) {
			attachReport(reg, image, ours.Sign(image.Digest, attest.PredicateVulnsV02, evidencetest.Predicate(t, evidencetest.Report(image.Digest), evidencetest.Now)))
		}, ""},
		"too large": {func(reg *evidencetest.Registry, image imageref.Ref) {
			attachReport(reg, image, signed(ours, image.Digest, evidencetest.Report(image.Digest, many(2000)...)))
		}, "too large"},
		"too many": {func(reg *evidencetest.Registry, image imageref.Ref) {
			for i := range 6 {
				attachReport(reg, image, theirs.Sign(image.Digest, attest.PredicateSPDX, map[string]any{"n": i}))
			}
			attachReport(reg, image, signed(ours, image.Digest, evidencetest.Report(image.Digest)))
		}, "too large"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := evidencetest.NewRegistry(t)
			image := reg.PushImage("team/app", "v1")
			tc.attach(reg, image)
			c := collector(reg, trusting(ours), Limits{MaxAttestations: 5, MaxAttestation: 128 << 10})
			for range 2 { // the second time out of the cache
				found, err := c.Collect(t.Context(), image)
				if err != nil {
					t.Fatal(err)
				}
				if len(found.Platforms) != 1 || found.Platforms[0].Report != nil {
					t.Fatalf("a report was believed: %+v", found)
				}
				rejected := found.Platforms[0].Rejected
				if tc.why == "" && len(rejected) > 0 || tc.why != "" && (len(rejected) != 1 || !strings.Contains(rejected[0].Why, tc.why)) {
					t.Errorf("rejected %+v, want %q", rejected, tc.why)
				}
			}
		})
	}
}

func many(n int) []*scannerv1.Finding {
	out := make([]*scannerv1.Finding, n)
	for i := range out {
		out[i] = evidencetest.Critical()
		out[i].Id = fmt.Sprintf("CVE-2020-%d", i)
	}
	return out
}

// tamper takes the finding out of a signed report.
func tamper(t *testing.T, bundle []byte) []byte {
	t.Helper()
	return edit(t, bundle, func(envelope map[string]any) {
		payload, ok := envelope["payload"].(string)
		if !ok {
			t.Fatal("bundle without payload")
		}
		// The statement stays well-formed: only the signature can tell.
		statement, err := base64.StdEncoding.DecodeString(payload)
		if err != nil {
			t.Fatal(err)
		}
		other := bytes.ReplaceAll(statement, []byte("65532"), []byte("0"))
		if bytes.Equal(other, statement) {
			t.Fatal("nothing to tamper with")
		}
		envelope["payload"] = base64.StdEncoding.EncodeToString(other)
	})
}

func unsign(t *testing.T, bundle []byte) []byte {
	t.Helper()
	return edit(t, bundle, func(envelope map[string]any) { envelope["signatures"] = []any{} })
}

func edit(t *testing.T, bundle []byte, f func(envelope map[string]any)) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(bundle, &m); err != nil {
		t.Fatal(err)
	}
	envelope, ok := m["dsseEnvelope"].(map[string]any)
	if !ok {
		t.Fatal("bundle without envelope")
	}
	f(envelope)
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCollect(t *testing.T) {
	t.Parallel()
	key, foreign := evidencetest.NewKey(t), evidencetest.NewKey(t)
	reg := evidencetest.NewRegistry(t)
	image := reg.PushImage("team/app", "v1")
	older := reg.Attest(key, image, image.Digest, evidencetest.Report(image.Digest), evidencetest.Now.Add(-time.Hour))
	newer := reg.Attest(key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), evidencetest.Now)
	reg.Attach(image, image.Digest, attest.PredicateVSA, key.Sign(image.Digest, attest.PredicateVSA, map[string]any{"verificationResult": "PASSED"}))
	reg.Attach(image, image.Digest, attest.PredicateOpenVEX, key.Sign(image.Digest, attest.PredicateOpenVEX, map[string]any{"tooling": attest.VEXTooling}))
	reg.Attach(image, image.Digest, attest.PredicateCosignVuln, foreign.Sign(image.Digest, attest.PredicateCosignVuln, map[string]any{}))

	c := collector(reg, trusting(key), Limits{})
	found, err := c.Collect(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	e := found.Platforms[0]
	if e.Report == nil || e.Report.Source.ManifestDigest != newer || len(e.Report.Findings) != 1 {
		t.Fatalf("report %+v, want that of %s", e.Report, newer)
	}
	if !e.Report.Source.SignTime.Equal(evidencetest.Now) || e.Report.Source.KeyID != attest.KeyID(key.Public()) {
		t.Errorf("source %+v", e.Report.Source)
	}
	if f := e.Report.Findings[0]; f.Severity != "CRITICAL" || f.SeverityRank != core.SeverityCritical || f.FixedVersions[0] != "0.3.8" || f.CVSS != 9.8 {
		t.Errorf("finding %+v", f)
	}
	if e.Platform.String() != "linux/amd64" || e.Report.Image.User != "65532" || !e.Report.Image.NonRoot || e.Report.Image.Distro.ID != "alpine" {
		t.Errorf("platform %s, image %+v", e.Platform, e.Report.Image)
	}
	// One SBOM and one report: the older report, and our own verdict, are left out.
	if len(e.Attestations) != 2 || len(e.Rejected) != 1 {
		t.Errorf("attestations %+v, rejected %+v", e.Attestations, e.Rejected)
	}
	if !found.Present[older] || !found.Present[newer] {
		t.Errorf("present: %v", found.Present)
	}
}

func TestIndexNeedsEvidenceOfEveryPlatform(t *testing.T) {
	t.Parallel()
	key := evidencetest.NewKey(t)
	reg := evidencetest.NewRegistry(t)
	image, digests := reg.PushIndex("team/app", "v1",
		v1.Platform{OS: "linux", Architecture: "amd64"},
		evidencetest.BuildKit,
		v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"},
		v1.Platform{OS: "unknown", Architecture: "unknown"})
	reg.Attest(key, image, digests[0], evidencetest.Report(digests[0]), evidencetest.Now)

	found, err := collector(reg, trusting(key), Limits{}).Collect(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	p := found.Platforms
	// The attestation is left out by its content; the image cannot hide behind the name
	// that the index gives it.
	if len(p) != 3 || p[0].Digest != digests[0] || p[1].Digest != digests[2] || p[1].Platform.String() != "linux/arm64/v8" || p[2].Digest != digests[3] {
		t.Fatalf("platforms %+v", p)
	}
	image, _ = reg.PushIndex("team/app", "evidence", evidencetest.BuildKit)
	if _, err := collector(reg, trusting(key), Limits{}).Collect(t.Context(), image); !errors.Is(err, ErrNotAnImage) {
		t.Errorf("an index of attestations: error %v", err)
	}
	if p[0].Report == nil || p[1].Report != nil || p[2].Report != nil {
		t.Errorf("reports %v and %v", p[0].Report, p[1].Report)
	}
}

func TestCollectFailures(t *testing.T) {
	t.Parallel()
	key := evidencetest.NewKey(t)
	reg := evidencetest.NewRegistry(t)
	image := reg.PushImage("team/app", "v1")
	gone := image.WithDigest("sha256:" + strings.Repeat("0", 64))
	other := image
	other.Registry = "elsewhere.example"
	c := collector(reg, trusting(key), Limits{})
	if _, err := c.Collect(t.Context(), gone); !errors.Is(err, ErrNotFound) {
		t.Errorf("image that is not there: %v", err)
	}
	if _, err := c.Collect(t.Context(), other); !errors.Is(err, ErrRefused) {
		t.Errorf("registry that is not allowed: %v", err)
	}
	if _, err := collector(reg, &roots{}, Limits{}).Collect(t.Context(), image); err == nil {
		t.Error("collected without trust roots")
	}
	reg.Down.Store(true)
	if _, err := c.Collect(t.Context(), image); !registry.Temporary(err) || errors.Is(err, ErrNotFound) {
		t.Errorf("registry down: %v", err)
	}
}

// TestRefresh learns a key that the signer has just begun to use.
func TestRefresh(t *testing.T) {
	t.Parallel()
	old, rotated := evidencetest.NewKey(t), evidencetest.NewKey(t)
	reg := evidencetest.NewRegistry(t)
	image := reg.PushImage("team/app", "v1")
	reg.Attest(rotated, image, image.Digest, evidencetest.Report(image.Digest), evidencetest.Now)
	r := trusting(old)
	r.next = trusting(rotated).keys
	c := collector(reg, r, Limits{})
	found, err := c.Collect(t.Context(), image)
	if err != nil || found.Platforms[0].Report == nil || r.asked != 1 {
		t.Errorf("found %+v, %v; asked %d times", found, err, r.asked)
	}
	// A key that is no longer trusted makes even cached evidence worthless.
	r.keys, r.version = trusting(old).keys, 3
	if found, err = c.Collect(t.Context(), image); err != nil || found.Platforms[0].Report != nil {
		t.Errorf("evidence by a key that was taken away: %+v, %v", found, err)
	}
}

func TestRevokedKey(t *testing.T) {
	t.Parallel()
	key := evidencetest.NewKey(t)
	reg := evidencetest.NewRegistry(t)
	image := reg.PushImage("team/app", "v1")
	reg.Attest(key, image, image.Digest, evidencetest.Report(image.Digest), evidencetest.Now)
	r := trusting(key)
	c := collector(reg, r, Limits{Cache: 1 << 20})
	// A clock that is ahead of ours has revoked it: that is no reason to wait.
	for _, revoked := range []time.Time{{}, evidencetest.Now.Add(time.Hour), evidencetest.Now.Add(-time.Hour)} {
		r.keys[0].Revoked = revoked
		found, err := c.Collect(t.Context(), image)
		if err != nil || (found.Platforms[0].Report != nil) != revoked.IsZero() {
			t.Errorf("revoked %s: %+v, %v", revoked, found, err)
		}
	}
}

// TestTheFutureIsNoEvidence: what is dated in the future does not count, does not hide
// what is true, and counts when its time has come, also out of the cache.
func TestTheFutureIsNoEvidence(t *testing.T) {
	t.Parallel()
	key, author := evidencetest.NewKey(t), evidencetest.NewKey(t)
	reg := evidencetest.NewRegistry(t)
	image := reg.PushImage("team/app", "v1")
	reg.Attest(key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), evidencetest.Now)
	later := evidencetest.Now.Add(time.Hour)
	reg.Attest(key, image, image.Digest, evidencetest.Report(image.Digest), later)
	reg.Attach(image, image.Digest, attest.PredicateOpenVEX, author.Sign(image.Digest, attest.PredicateOpenVEX, map[string]any{
		"@context": "https://openvex.dev/ns/v0.2.0", "timestamp": later, "statements": []any{},
	}))
	now := evidencetest.Now
	authors := vex.Authors{{Name: "vendor", Roots: attest.TrustRoots{Keys: []attest.TrustedKey{author.Trusted()}}.Stating(attest.AuthorStates())}}
	c := NewCollector(reg.Client(), trusting(key), authors, Limits{Cache: 1 << 20}, slog.New(slog.DiscardHandler), func() time.Time { return now })
	for _, step := range []struct {
		at       time.Duration
		findings int
		vex      int
	}{{0, 1, 0}, {time.Hour - attest.ClockSkew - time.Second, 1, 0}, {time.Hour, 0, 1}} {
		now = evidencetest.Now.Add(step.at)
		for range 2 {
			found, err := c.Collect(t.Context(), image)
			if err != nil {
				t.Fatal(err)
			}
			p := found.Platforms[0]
			if p.Report == nil || len(p.Report.Findings) != step.findings || len(p.VEX) != step.vex {
				t.Errorf("after %s: %+v", step.at, p)
			}
			future := 0
			for _, r := range p.Rejected {
				if strings.Contains(r.Why, attest.ErrFuture.Error()) {
					future++
				}
			}
			// The report, the bill of materials beside it, and the VEX document.
			if (future >= 2) != (step.vex == 0) {
				t.Errorf("after %s: rejected %+v", step.at, p.Rejected)
			}
		}
	}
	roots := attest.TrustRoots{Keys: []attest.TrustedKey{key.Trusted()}, At: evidencetest.Now}
	for _, predicateType := range []string{core.PredicateReport, attest.PredicateSPDX, attest.PredicateSLSAProvenance} {
		recorded := core.Attestation{PredicateType: predicateType, KeyID: key.Trusted().ID, SignTime: later}
		if Believed(roots, recorded) {
			t.Errorf("a recorded %s of the future is believed", predicateType)
		}
	}
}

// TestAdvisoriesAreNotNewerThanTheScan: a snapshot that calls itself newer would never
// be too old.
func TestAdvisoriesAreNotNewerThanTheScan(t *testing.T) {
	t.Parallel()
	key := evidencetest.NewKey(t)
	reg := evidencetest.NewRegistry(t)
	image := reg.PushImage("team/app", "v1")
	report := evidencetest.Report(image.Digest)
	report.Snapshot.DataTime = timestamppb.New(evidencetest.Now.AddDate(10, 0, 0))
	reg.Attest(key, image, image.Digest, report, evidencetest.Now)
	found, err := collector(reg, trusting(key), Limits{}).Collect(t.Context(), image)
	if err != nil || found.Platforms[0].Report == nil || !found.Platforms[0].Report.AdvisoryTime.Equal(evidencetest.Now) {
		t.Errorf("%+v, %v", found.Platforms[0].Report, err)
	}
}

// TestBuildersStateNoScan: the key of a build service may sign a report as well as any
// other; nobody believes it.
func TestBuildersStateNoScan(t *testing.T) {
	t.Parallel()
	signer, builder := evidencetest.NewKey(t), evidencetest.NewKey(t)
	reg := evidencetest.NewRegistry(t)
	image := reg.PushImage("team/app", "v1")
	reg.Attest(signer, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), evidencetest.Now.Add(-time.Hour))
	reg.Attest(builder, image, image.Digest, evidencetest.Report(image.Digest), evidencetest.Now)
	for predicateType, predicate := range map[string]any{
		attest.PredicateSLSAProvenance: map[string]any{"buildDefinition": map[string]any{}}, attest.PredicateCosignSign: map[string]any{},
	} {
		reg.Attach(image, image.Digest, predicateType, builder.Sign(image.Digest, predicateType, predicate))
	}
	r := trusting(signer, builder)
	r.keys[0].States, r.keys[1].States = attest.SignerStates(), attest.BuilderStates()
	found, err := collector(reg, r, Limits{}).Collect(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	p := found.Platforms[0]
	if p.Report == nil || len(p.Report.Findings) != 1 || p.Report.Source.KeyID != signer.Trusted().ID {
		t.Errorf("the report is %+v", p.Report)
	}
	var types []string
	for _, a := range p.Attestations {
		if a.KeyID == builder.Trusted().ID {
			types = append(types, a.PredicateType)
		}
	}
	if !slices.Equal(types, []string{attest.PredicateCosignSign, attest.PredicateSLSAProvenance}) {
		t.Errorf("the builder states %v", types)
	}
}

// TestPolicyNeverWidensARoot: a policy that asks for a statement by a signer gets none that
// the signer's root may not make, although the signer made it.
func TestPolicyNeverWidensARoot(t *testing.T) {
	t.Parallel()
	signer, builder := evidencetest.NewKey(t), evidencetest.NewKey(t)
	reg := evidencetest.NewRegistry(t)
	image := reg.PushImage("team/app", "v1")
	reg.Attest(signer, image, image.Digest, evidencetest.Report(image.Digest), evidencetest.Now.Add(-time.Hour))
	reg.Attest(builder, image, image.Digest, evidencetest.Report(image.Digest), evidencetest.Now)
	provenance := attest.PredicateSLSAProvenance
	for _, k := range []*evidencetest.Key{signer, builder} {
		reg.Attach(image, image.Digest, provenance, k.Sign(image.Digest, provenance, map[string]any{"buildDefinition": map[string]any{}}))
	}
	r := trusting(signer, builder)
	r.keys[0].States, r.keys[1].States = attest.SignerStates(), attest.BuilderStates()
	found, err := collector(reg, r, Limits{}).Collect(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		predicateType, signer string
		want                  core.State
	}{
		{provenance, "builder", core.StatePass},
		{provenance, "signer", core.StateUnknown},
		{attest.PredicateCosignVuln, "signer", core.StatePass},
		{attest.PredicateCosignVuln, "builder", core.StateUnknown},
	} {
		v, err := core.Judge(t.Context(), core.Input{
			Image: image, Platforms: found.Platforms, Now: evidencetest.Now,
			Policies: []core.Policy{{
				Name: "p", Matches: func(string) bool { return true }, Trust: &core.Trust{Signers: []core.Signer{
					{Name: "signer", KeyIDs: []string{signer.Trusted().ID}}, {Name: "builder", KeyIDs: []string{builder.Trusted().ID}},
				}},
				Require: []core.Requirement{{PredicateType: tc.predicateType, Signer: tc.signer}},
			}},
		})
		if err != nil || v.State != tc.want {
			t.Errorf("%s by the %s: %s, %v, %+v", tc.predicateType, tc.signer, v.State, err, v.Reasons)
		}
	}
}

// TestKeyPastItsTime: what a key signed in its time stays evidence after it, what
// says that it was found later is none.
func TestKeyPastItsTime(t *testing.T) {
	t.Parallel()
	key := evidencetest.NewKey(t)
	reg := evidencetest.NewRegistry(t)
	for name, after := range map[string]time.Duration{"in time": 0, "too late": 2 * time.Hour} {
		image := reg.PushImage("team/app", "v1")
		reg.Attest(key, image, image.Digest, evidencetest.Report(image.Digest), evidencetest.Now.Add(after))
		r := trusting(key)
		r.keys[0].NotAfter = evidencetest.Now.Add(time.Hour)
		c := NewCollector(reg.Client(), r, nil, Limits{Cache: 1 << 20}, slog.New(slog.DiscardHandler), func() time.Time {
			return evidencetest.Now.Add(100 * time.Hour)
		})
		for range 2 { // the second time out of the cache
			found, err := c.Collect(t.Context(), image)
			if err != nil || (found.Platforms[0].Report != nil) != (after == 0) {
				t.Errorf("%s: %+v, %v", name, found, err)
			}
		}
	}
}

func FuzzDecodeReport(f *testing.F) {
	digest := "sha256:" + strings.Repeat("a", 64)
	seed, err := json.Marshal(evidencetest.Predicate(f, evidencetest.Report(digest, evidencetest.Critical()), evidencetest.Now))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"scanner":{"result":{}}}`))
	f.Add([]byte(`{"scanner":{"result":{"imageDigest":"` + digest + `","findings":[{}]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeReport(data, digest)
		if (r == nil) == (err == nil) {
			t.Errorf("report %v, error %v", r, err)
		}
	})
}
