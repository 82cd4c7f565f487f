package app_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/app"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/vex"
)

// vexDocument is an OpenVEX document about the critical finding of tests.
func vexDocument(status, product string, at time.Time) map[string]any {
	s := map[string]any{"vulnerability": map[string]any{"name": "CVE-2022-32149"}, "status": status}
	if status == "not_affected" {
		s["justification"] = "vulnerable_code_not_in_execute_path"
	}
	if product != "" {
		s["products"] = []any{map[string]any{"@id": product}}
	}
	return map[string]any{
		"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://vex.example/1", "author": "whoever", "timestamp": at, "version": 1,
		"statements": []any{s},
	}
}

// newVexFleet is a fleet with a trusted author.
func newVexFleet(t *testing.T) (*fleet, *evidencetest.Key) {
	t.Helper()
	f, vendor := newFleet(t), evidencetest.NewKey(t)
	key := filepath.Join(t.TempDir(), "vendor.pem")
	if err := os.WriteFile(key, vendor.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	f.cfg.Vex.Authors = []app.VexAuthorConfig{{Name: "vendor", Keys: []string{key}}}
	return f, vendor
}

func (v *verifier) explained(t *testing.T, of *verifierv1.Verdict) *verifierv1.ExplainVerdictResponse {
	t.Helper()
	r, err := v.verdicts.ExplainVerdict(t.Context(), &verifierv1.ExplainVerdictRequest{VerdictDigest: of.GetDigest()})
	if err != nil || !r.GetEqual() {
		t.Errorf("explanation: %v, %v", r, err)
	}
	return r
}

// TestAttachedVex attaches documents to an image, by who may speak of it and by others.
func TestAttachedVex(t *testing.T) {
	t.Parallel()
	f, vendor := newVexFleet(t)
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	now := time.Now()
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), now)
	attach := func(k *evidencetest.Key, document map[string]any) string {
		return f.registry.Attach(image, image.Digest, attest.PredicateOpenVEX, k.Sign(image.Digest, attest.PredicateOpenVEX, document))
	}
	// The signer is a trust root and no author: what it says of vulnerabilities does
	// not count, least of all what it made of an exception.
	attach(f.key, vexDocument("not_affected", "", now))
	own := vexDocument("not_affected", "", now)
	own["tooling"] = attest.VEXTooling
	attach(vendor, own)
	attach(evidencetest.NewKey(t), vexDocument("not_affected", "", now))
	f.attested(t.Context(), "one", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Fatalf("by nobody who is trusted: %v", e)
	}
	if got := v.get(t, image); len(got.GetVex()) != 0 || len(v.explained(t, got).GetVexMismatches()) != 0 {
		t.Errorf("verdict: %v", got)
	}

	attach(vendor, vexDocument("not_affected", "pkg:npm/other", now.Add(-3*time.Second)))
	manifest := attach(vendor, vexDocument("not_affected", "", now.Add(-2*time.Second)))
	f.attested(t.Context(), "two", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("by the author: %v", e)
	}
	got := v.get(t, image)
	if len(got.GetVex()) != 1 || got.GetVexCount() != 1 {
		t.Fatalf("verdict: %v", got)
	}
	if u := got.GetVex()[0]; u.GetAuthor() != "vendor" || u.GetStatus() != "not_affected" || u.GetDocumentDigest() != manifest ||
		u.GetJustification() != "vulnerable_code_not_in_execute_path" || u.GetPurl() != evidencetest.Critical().GetPurl() {
		t.Errorf("use: %v", u)
	}
	why := v.explained(t, got).GetVexMismatches()
	if len(why) != 1 || !strings.Contains(why[0].GetWhy(), "pkg:npm/other is another package") {
		t.Errorf("mismatches: %v", why)
	}

	// The author takes it back; then somebody takes that away.
	newer := attach(vendor, vexDocument("affected", "", now.Add(-time.Second)))
	f.attested(t.Context(), "three", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Fatalf("taken back: %v", e)
	}
	f.registry.Delete(image.Repository, newer)
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), now.Add(time.Second))
	f.attested(t.Context(), "four", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Fatalf("the older statement came back when the newer one was stripped: %v", e)
	}
	history, err := v.verdicts.GetVerdictHistory(t.Context(), &verifierv1.GetVerdictHistoryRequest{Image: message(image)})
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, c := range history.GetChanges() {
		states = append(states, strings.TrimPrefix(c.GetVerdict().GetState().String(), "STATE_")+" "+strings.TrimPrefix(c.GetCause().String(), "CAUSE_"))
	}
	if got := strings.Join(states, ", "); got != "FAIL EVIDENCE, FAIL VEX, PASS VEX, FAIL FIRST" {
		t.Errorf("history: %s", got)
	}
}

// TestUnreadableVex: an author's newest document cannot be read, so what the author said
// before takes nothing out any more, attached or imported, until a newer one can be read.
func TestUnreadableVex(t *testing.T) {
	t.Parallel()
	f, vendor := newVexFleet(t)
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	now := time.Now()
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), now)
	attach := func(k *evidencetest.Key, document map[string]any) string {
		return f.registry.Attach(image, image.Digest, attest.PredicateOpenVEX, k.Sign(image.Digest, attest.PredicateOpenVEX, document))
	}
	attach(vendor, vexDocument("not_affected", "", now.Add(-time.Hour)))
	attach(evidencetest.NewKey(t), vexDocument("harmless", "", now.Add(-time.Minute)))
	f.registry.Attach(image, image.Digest, attest.PredicateOpenVEX, []byte("garbage"))
	f.attested(t.Context(), "one", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("the garbage of strangers ends what the author says: %v", e)
	}
	garbage := attach(vendor, vexDocument("harmless", "", now.Add(-time.Minute)))
	f.attested(t.Context(), "two", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Fatalf("the author's newest document cannot be read: %v", e)
	}
	got := v.get(t, image)
	why := v.explained(t, got).GetVexMismatches()
	if len(why) != 1 || !strings.Contains(why[0].GetWhy(), "vendor cannot be read: "+garbage[:19]) || !strings.Contains(why[0].GetWhy(), `no status "harmless"`) {
		t.Errorf("mismatches: %v", why)
	}
	// Without it the older one does not come back, but a newer one is taken.
	f.registry.Delete(image.Repository, garbage)
	attach(vendor, vexDocument("not_affected", "", now))
	f.attested(t.Context(), "three", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("a newer document: %v", e)
	}
}

// TestImportedVex imports a document with its signature, replays what it changed, and
// ends with another author being trusted.
func TestImportedVex(t *testing.T) {
	t.Parallel()
	f, vendor := newVexFleet(t)
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	now := time.Now()
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), now)
	f.attested(t.Context(), "one", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Fatalf("without a document: %v", e)
	}
	// Recorded evidence is enough for all that follows.
	f.registry.Down.Store(true)
	document, err := json.Marshal(vexDocument("not_affected", "pkg:golang/golang.org/x/text", now.Add(-time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	digest := vex.Digest(document)
	signed := &verifierv1.ImportVexDocumentRequest{Document: document, Bundle: vendor.Sign(digest, attest.PredicateOpenVEX, map[string]any{})}
	own := vexDocument("not_affected", "", now)
	own["tooling"] = attest.VEXTooling
	for name, tc := range map[string]struct {
		req    *verifierv1.ImportVexDocumentRequest
		reason string
	}{
		"no bundle":     {&verifierv1.ImportVexDocumentRequest{Document: document}, "INVALID_ARGUMENT"},
		"no document":   {&verifierv1.ImportVexDocumentRequest{Bundle: signed.GetBundle()}, "INVALID_ARGUMENT"},
		"large":         {&verifierv1.ImportVexDocumentRequest{Document: make([]byte, vex.MaxDocument+1), Bundle: signed.GetBundle()}, "INVALID_ARGUMENT"},
		"by the signer": {&verifierv1.ImportVexDocumentRequest{Document: document, Bundle: f.key.Sign(digest, attest.PredicateOpenVEX, map[string]any{})}, "VEX_AUTHOR_UNTRUSTED"},
		"our own":       {&verifierv1.ImportVexDocumentRequest{Bundle: vendor.Sign(digest, attest.PredicateOpenVEX, own)}, "VEX_OWN_DOCUMENT"},
	} {
		if _, err := v.vex.ImportVexDocument(t.Context(), tc.req); !apierr.HasReason(err, tc.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 2 { // the same document twice is one
		r, err := v.vex.ImportVexDocument(t.Context(), signed)
		if err != nil || r.GetDocument().GetDigest() != digest || r.GetDocument().GetAuthor() != "vendor" || r.GetDocument().GetStatementCount() != 1 {
			t.Fatalf("%v, %v", r, err)
		}
	}
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("with the document: %v", e)
	}
	got := v.get(t, image)
	if len(got.GetVex()) != 1 || len(got.GetPlatforms()[0].GetInputs().GetVexDigests()) != 1 {
		t.Errorf("verdict: %v", got)
	}
	v.explained(t, got)

	if _, err := v.vex.DeleteVexDocument(t.Context(), &verifierv1.DeleteVexDocumentRequest{Digest: digest}); err != nil {
		t.Fatal(err)
	}
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Fatalf("without the document: %v", e)
	}
	v.explained(t, got) // what it was made from is kept
	for digest, reason := range map[string]string{digest: "VEX_DOCUMENT_NOT_FOUND", "sha512:aa": "INVALID_ARGUMENT"} {
		if _, err := v.vex.DeleteVexDocument(t.Context(), &verifierv1.DeleteVexDocumentRequest{Digest: digest}); !apierr.HasReason(err, reason) {
			t.Errorf("delete %s: %v", digest, err)
		}
	}

	// From a file, and then with nobody trusted.
	v.stop()
	dir := t.TempDir()
	for name, content := range map[string][]byte{"v.json": document, "v.json.sigstore.json": signed.GetBundle()} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.cfg.Vex.Dir = dir
	v = f.start()
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("from a file: %v", e)
	}
	list, err := v.vex.ListVexDocuments(t.Context(), &verifierv1.ListVexDocumentsRequest{})
	if err != nil || len(list.GetDocuments()) != 1 || !list.GetDocuments()[0].GetTrusted() || list.GetDocuments()[0].GetDocumentId() != "https://vex.example/1" {
		t.Errorf("list: %v, %v", list, err)
	}
	if _, err := v.vex.DeleteVexDocument(t.Context(), &verifierv1.DeleteVexDocumentRequest{Digest: digest}); !apierr.HasReason(err, "VEX_DOCUMENT_FROM_FILE") {
		t.Errorf("delete one of a file: %v", err)
	}
	v.stop()
	f.cfg.Vex = app.VexConfig{}
	f.start()
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Fatalf("with nobody trusted: %v", e)
	}
}

// TestVexAuthorsChange imports a document and then trusts another author.
func TestVexAuthorsChange(t *testing.T) {
	t.Parallel()
	f, vendor := newVexFleet(t)
	v := f.start()
	image := f.registry.PushImage("team/app", "v1")
	now := time.Now()
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), now)
	f.attested(t.Context(), "one", image)
	f.next()
	bundle := vendor.Sign(image.Digest, attest.PredicateOpenVEX, vexDocument("not_affected", image.Digest, now.Add(-time.Minute)))
	if _, err := v.vex.ImportVexDocument(t.Context(), &verifierv1.ImportVexDocumentRequest{Bundle: bundle}); err != nil {
		t.Fatal(err)
	}
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("with the document: %v", e)
	}
	v.stop()
	other := filepath.Join(t.TempDir(), "other.pem")
	if err := os.WriteFile(other, evidencetest.NewKey(t).PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	f.cfg.Vex.Authors[0].Keys = []string{other}
	v = f.start()
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Fatalf("by an author who is trusted no more: %v", e)
	}
	list, err := v.vex.ListVexDocuments(t.Context(), &verifierv1.ListVexDocumentsRequest{})
	if err != nil || len(list.GetDocuments()) != 1 || list.GetDocuments()[0].GetTrusted() {
		t.Errorf("list: %v, %v", list, err)
	}
}
