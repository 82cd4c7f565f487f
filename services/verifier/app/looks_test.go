package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// provenanceOnly requires provenance and nothing else.
const provenanceOnly = `apiVersion: seaworthy.dev/v1
kind: Policy
metadata: {name: built, description: test}
spec:
  match: {repositories: ["**"]}
  require:
    - predicate_type: ` + attest.PredicateSLSAProvenance + `
  rules:
    - {name: only, message: no, severity: deny, expression: 'true'}
`

// clock is the real one, put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time           { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(by time.Duration) { c.ahead.Add(int64(by)) }

// newBuiltFleet is a fleet whose policy requires provenance, with a builder that is
// trusted to state it.
func newBuiltFleet(t *testing.T) (*fleet, *evidencetest.Key) {
	t.Helper()
	f, builder := newFleet(t), evidencetest.NewKey(t)
	dir := t.TempDir()
	key, policy := filepath.Join(dir, "builder.pem"), filepath.Join(dir, "built.yaml")
	for file, content := range map[string][]byte{key: builder.PEM(), policy: []byte(provenanceOnly)} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.cfg.Trust.Keys = append(f.cfg.Trust.Keys, key)
	f.cfg.Policies.Builtin, f.cfg.Policies.Files = nil, []string{policy}
	return f, builder
}

func (f *fleet) provenance(builder *evidencetest.Key, image imageref.Ref) string {
	f.t.Helper()
	return f.registry.Attach(image, image.Digest, attest.PredicateSLSAProvenance,
		builder.Sign(image.Digest, attest.PredicateSLSAProvenance, map[string]any{"buildDefinition": map[string]any{"buildType": "test"}}))
}

// hint publishes that a referrer was pushed whose subject the publisher does not know.
func (f *fleet) hint(id string, image imageref.Ref, referrer string) {
	f.t.Helper()
	m := message(image)
	m.Digest, m.Tag = "", ""
	f.publish(f.t.Context(), events.Gateway, id, &eventv1.ImageReferrerEvent{Image: m, ReferrerDigest: referrer})
}

func (f *fleet) deletion(id string, image imageref.Ref) {
	f.t.Helper()
	m := message(image)
	m.Tag = ""
	f.publish(f.t.Context(), events.Gateway, id, &eventv1.ImageDeletedEvent{Image: m})
}

func (f *fleet) want(state eventv1.VerdictReachedEvent_State, reason, why string) {
	f.t.Helper()
	e := f.next()
	if e.GetState() != state || reason != "" && !slices.ContainsFunc(e.GetReasons(), func(r string) bool { return strings.Contains(r, reason) }) {
		f.t.Fatalf("%s: %v", why, e)
	}
}

// TestLateProvenance attaches provenance after the image was judged, which is the normal
// order in CI, to a single image and to an index.
func TestLateProvenance(t *testing.T) {
	t.Parallel()
	f, builder := newBuiltFleet(t)
	v := f.start()
	now := time.Now()
	single := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, single, single.Digest, evidencetest.Report(single.Digest), now)
	f.attested(t.Context(), "single", single)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, attest.PredicateSLSAProvenance, "without provenance")
	if got := v.get(t, single); code(got) != "EVIDENCE_MISSING" {
		t.Fatalf("verdict: %v", got)
	}
	f.hint("stranger", single, f.provenance(evidencetest.NewKey(t), single))
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, "", "provenance of a stranger")
	if got := v.get(t, single); code(got) != "EVIDENCE_INVALID" {
		t.Fatalf("verdict: %v", got)
	}

	index, platforms := f.registry.PushIndex("team/multi", "v1", v1.Platform{OS: "linux", Architecture: "amd64"}, v1.Platform{OS: "linux", Architecture: "arm64"})
	for _, p := range platforms {
		f.registry.Attest(f.key, index, p, evidencetest.Report(p), now)
	}
	f.attested(t.Context(), "index", index)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, attest.PredicateSLSAProvenance, "index without provenance")
	attached := f.provenance(builder, index)
	f.hint("index hint", index, attached)
	f.want(eventv1.VerdictReachedEvent_STATE_PASS, "", "provenance of the index")
	got := v.get(t, index)
	for _, p := range got.GetPlatforms() {
		if !slices.ContainsFunc(p.GetInputs().GetAttestations(), func(a *verifierv1.EvidenceRef) bool { return a.GetManifestDigest() == attached }) {
			t.Errorf("platform %s does not rest on the provenance of the index: %v", p.GetDigest(), p.GetInputs())
		}
	}
	v.explained(t, got)

	// What the verdict rests on, and a summary of a verdict, make no further look.
	f.hint("again", index, attached)
	f.hint("summary", index, f.registry.Attach(index, index.Digest, attest.PredicateVSA, f.key.Sign(index.Digest, attest.PredicateVSA, map[string]any{})))
	f.quiet(3 * time.Second)
}

// TestIndexEvidence: a scan result or an SBOM of an index says nothing of its platforms.
func TestIndexEvidence(t *testing.T) {
	t.Parallel()
	f, _ := newBuiltFleet(t)
	v := f.start()
	index, platforms := f.registry.PushIndex("team/multi", "v1", v1.Platform{OS: "linux", Architecture: "amd64"})
	f.registry.Attest(f.key, index, index.Digest, evidencetest.Report(index.Digest), time.Now())
	f.attested(t.Context(), "index", index)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, "", "scanned index")
	got := v.get(t, index)
	if len(got.GetPlatforms()) != 1 || got.GetPlatforms()[0].GetDigest() != platforms[0] || len(got.GetPlatforms()[0].GetInputs().GetAttestations()) != 0 {
		t.Errorf("verdict: %v", got)
	}
}

// TestLateVex: an author's newer word changes the verdict without anybody asking.
func TestLateVex(t *testing.T) {
	t.Parallel()
	f, vendor := newVexFleet(t)
	f.start()
	image := f.registry.PushImage("team/app", "v1")
	now := time.Now()
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), now)
	attach := func(status string, at time.Time) string {
		return f.registry.Attach(image, image.Digest, attest.PredicateOpenVEX, vendor.Sign(image.Digest, attest.PredicateOpenVEX, vexDocument(status, "", at)))
	}
	attach("not_affected", now.Add(-2*time.Second))
	f.attested(t.Context(), "one", image)
	f.want(eventv1.VerdictReachedEvent_STATE_PASS, "", "not affected")
	f.hint("two", image, attach("affected", now.Add(-time.Second)))
	f.want(eventv1.VerdictReachedEvent_STATE_FAIL, "", "affected after all")
}

// TestMissingEvidence is found although no webhook came, and after a restart.
func TestMissingEvidence(t *testing.T) {
	t.Parallel()
	f, builder := newBuiltFleet(t)
	var c clock
	v := f.startWith(c.now)
	image := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.attested(t.Context(), "one", image)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, "", "without provenance")
	v.stop()
	f.provenance(builder, image)
	c.forward(20 * time.Second)
	f.startWith(c.now)
	f.want(eventv1.VerdictReachedEvent_STATE_PASS, "", "found by looking")
}

// TestImageGone deletes an image. A forged hint, an outage and a refusal change nothing.
func TestImageGone(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	var c clock
	v := f.startWith(c.now)
	image := f.registry.PushImage("team/app", "v1")
	kept := f.registry.Copy(image, "team/kept")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.attested(t.Context(), "one", image)
	f.want(eventv1.VerdictReachedEvent_STATE_PASS, "", "first")

	f.deletion("forged", image)
	f.quiet(4 * time.Second)
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusInternalServerError, http.StatusNotFound} {
		// The last is the 404 of something that is no registry.
		f.registry.Fail(status)
		c.forward(time.Minute)
		f.deletion("outage "+http.StatusText(status), image)
		f.quiet(3 * time.Second)
		c.forward(time.Minute)
		f.quiet(2 * time.Second)
	}
	f.registry.Fail(0)
	if got := v.get(t, image); got.GetState() != verifierv1.Verdict_STATE_PASS {
		t.Fatalf("after the outages: %v", got)
	}

	f.registry.Delete(image.Repository, image.Digest)
	c.forward(40 * time.Minute)
	f.deletion("deleted", image)
	f.quiet(4 * time.Second)
	c.forward(20 * time.Second)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, "", "gone")
	if got := v.get(t, image); code(got) != "IMAGE_GONE" {
		t.Fatalf("verdict: %v", got)
	} else if _, err := v.verdicts.ExplainVerdict(t.Context(), &verifierv1.ExplainVerdictRequest{VerdictDigest: got.GetDigest()}); !apierr.HasReason(err, "VERDICT_NOT_JUDGED") {
		t.Errorf("a verdict that was made from no evidence is explained: %v", err)
	}
	history, err := v.verdicts.GetVerdictHistory(t.Context(), &verifierv1.GetVerdictHistoryRequest{Image: message(image)})
	if err != nil || len(history.GetChanges()) != 2 {
		t.Errorf("history: %v, %v", history, err)
	}

	f.registry.DeleteTag(image.Repository, image.Tag)
	f.registry.Copy(kept, image.Repository)
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now().Add(time.Second))
	f.attested(t.Context(), "back", image)
	f.want(eventv1.VerdictReachedEvent_STATE_PASS, "", "pushed again")
}

func TestRefreshVerdict(t *testing.T) {
	t.Parallel()
	f, builder := newBuiltFleet(t)
	var c clock
	v := f.startWith(c.now)
	refresh := func(image imageref.Ref) (*verifierv1.Verdict, error) {
		r, err := v.verdicts.RefreshVerdict(t.Context(), &verifierv1.RefreshVerdictRequest{Image: message(image)})
		return r.GetVerdict(), err
	}
	fails := func(image imageref.Ref, reason string) {
		t.Helper()
		if _, err := refresh(image); !apierr.HasReason(err, reason) {
			t.Errorf("refresh %s: %v, want %s", image.String(), err, reason)
		}
	}
	image := f.registry.PushImage("team/app", "v1")
	fails(image, "IMAGE_NOT_JUDGED")
	fails(imageref.Ref{Digest: image.Digest}, "INVALID_ARGUMENT")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.attested(t.Context(), "one", image)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, "", "without provenance")
	f.provenance(builder, image)
	c.forward(11 * time.Second)
	got, err := refresh(image)
	if err != nil || got.GetState() != verifierv1.Verdict_STATE_PASS {
		t.Fatalf("refresh: %v, %v", got, err)
	}
	f.want(eventv1.VerdictReachedEvent_STATE_PASS, "", "refreshed")
	fails(image, "REFRESHED_RECENTLY")
	c.forward(11 * time.Second)
	f.registry.Fail(http.StatusInternalServerError)
	fails(image, "REGISTRY_UNAVAILABLE")
	f.registry.Fail(0)
	f.registry.Delete(image.Repository, image.Digest)
	c.forward(11 * time.Second)
	fails(image, "IMAGE_NOT_FOUND")
	if got := v.get(t, image); got.GetState() != verifierv1.Verdict_STATE_PASS {
		t.Errorf("gone before it was confirmed: %v", got)
	}
	c.forward(time.Minute)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, "", "gone")
}

// TestLookAtRepository: where hints were too many to keep, every judged image of the
// repository is looked at, and what was attached is found.
func TestLookAtRepository(t *testing.T) {
	t.Parallel()
	f, builder := newBuiltFleet(t)
	f.start()
	image := f.registry.PushImage("team/app", "v1")
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest), time.Now())
	f.attested(t.Context(), "one", image)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, "", "without provenance")
	db, err := sqldb.Open(t.Context(), f.db, "verifier")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// Sooner than missing evidence is looked for.
	f.provenance(builder, image)
	if err := store.New(db).RequestLook(t.Context(), imageref.Ref{Registry: image.Registry, Repository: image.Repository}, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	f.want(eventv1.VerdictReachedEvent_STATE_PASS, "", "found by the look at the repository")
	if took := time.Since(begin); took > store.FirstLook-2*time.Second {
		t.Errorf("it took %s", took)
	}
}
