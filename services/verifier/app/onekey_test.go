package app_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/app"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// reviewType is all that the reviewer of a oneKeyFleet may state.
const reviewType = "https://example.com/review/v1"

// reportOnly asks for a scan report and for nothing else of it than no critical finding.
const reportOnly = `apiVersion: seaworthy.dev/v1
kind: Policy
metadata: {name: report, description: test}
spec:
  match: {repositories: ["**"]}
  rules:
    - {name: only, message: no, severity: deny, expression: 'findings.all(f, f.severity_rank < CRITICAL)'}
`

// oneKeyFleet is a fleet whose signer has had three keys, and which trusts others for
// other statements.
type oneKeyFleet struct {
	*fleet
	signer *signer
	// rotated stopped signing an hour ago, revoked was revoked.
	rotated, revoked, builder, reviewer, vendor *evidencetest.Key
}

func newOneKeyFleet(t *testing.T) *oneKeyFleet {
	t.Helper()
	key := func() *evidencetest.Key { return evidencetest.NewKey(t) }
	f := &oneKeyFleet{fleet: newFleet(t), rotated: key(), revoked: key(), builder: key(), reviewer: key(), vendor: key()}
	entry := func(k *evidencetest.Key) *signerv1.TrustedKey {
		return &signerv1.TrustedKey{KeyId: k.Trusted().ID, PublicKeyPem: string(k.PEM())}
	}
	rotated, revoked := entry(f.rotated), entry(f.revoked)
	rotated.EndTime, revoked.RevokeTime = timestamppb.New(time.Now().Add(-time.Hour)), timestamppb.New(time.Now().Add(-time.Hour))
	// A start by the roots of the files alone is tried again when the signer was asked.
	f.cfg.NATS.Backoff = []time.Duration{time.Second}
	f.signer = &signer{key: f.key, others: []*signerv1.TrustedKey{rotated, revoked}}
	f.withSigner(f.signer)
	file := func(content []byte) []string {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{name}
	}
	f.cfg.Policies.Builtin, f.cfg.Policies.Files = nil, file([]byte(reportOnly))
	f.cfg.Trust.Keys = file(f.builder.PEM())
	f.cfg.Trust.Roots = []app.RootConfig{{Name: "reviewer", Keys: file(f.reviewer.PEM()), States: []string{reviewType}}}
	f.cfg.Vex.Authors = []app.VexAuthorConfig{{Name: "vendor", Keys: file(f.vendor.PEM())}}
	return f
}

// holds waits for the first verdict of each image.
func (f *oneKeyFleet) holds(want map[string]eventv1.VerdictReachedEvent_State, name map[string]string) {
	f.t.Helper()
	seen := map[string]bool{}
	for len(seen) < len(want) {
		e := f.next()
		digest := e.GetImage().GetDigest()
		if e.GetState() != want[digest] {
			f.t.Errorf("%s: %s, want %s: %q", name[digest], e.GetState(), want[digest], e.GetReasons())
		}
		seen[digest] = true
	}
}

// edited changes the JSON of a bundle.
func edited(t *testing.T, bundle []byte, change func(material, envelope map[string]any)) []byte {
	t.Helper()
	var b map[string]any
	if err := json.Unmarshal(bundle, &b); err != nil {
		t.Fatal(err)
	}
	change(b["verificationMaterial"].(map[string]any), b["dsseEnvelope"].(map[string]any))
	raw, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestOneTrustedKeyMakesNoPass: whoever holds a key that is trusted for something else, or
// was once, makes no vulnerable image pass, and no image pass that was not scanned.
func TestOneTrustedKeyMakesNoPass(t *testing.T) {
	t.Parallel()
	f := newOneKeyFleet(t)
	f.start()
	now := time.Now()
	other := f.registry.PushImage("team/other", "v1")
	cleanOther := f.key.Sign(other.Digest, attest.PredicateCosignVuln, evidencetest.Predicate(t, evidencetest.Report(other.Digest), now))
	vuln := func(image imageref.Ref, at time.Time) any {
		return evidencetest.Predicate(t, evidencetest.Report(image.Digest), at)
	}
	text := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	statement := func(subjects, predicateType, predicate string) string {
		return `{"_type":"` + attest.StatementType + `","subject":` + subjects + `,"predicateType":"` + predicateType + `","predicate":` + predicate + `}`
	}
	sum := func(i imageref.Ref) string { return strings.TrimPrefix(i.Digest, "sha256:") }
	signs := func(k *evidencetest.Key, predicateType string, predicate func(imageref.Ref) any) func(imageref.Ref) []byte {
		return func(i imageref.Ref) []byte { return k.Sign(i.Digest, predicateType, predicate(i)) }
	}
	at := func(offset time.Duration) func(imageref.Ref) any {
		return func(i imageref.Ref) any { return vuln(i, now.Add(offset)) }
	}
	says := func(product string, change func(document, statement map[string]any)) func(imageref.Ref) any {
		return func(imageref.Ref) any {
			d := vexDocument("not_affected", product, now.Add(-time.Minute))
			if change != nil {
				change(d, d["statements"].([]any)[0].(map[string]any))
			}
			return d
		}
	}
	// What counts does count, or the test says nothing.
	control := map[string][2]eventv1.VerdictReachedEvent_State{
		"report by the signer": {eventv1.VerdictReachedEvent_STATE_PASS, eventv1.VerdictReachedEvent_STATE_PASS},
		"VEX by the author":    {eventv1.VerdictReachedEvent_STATE_PASS, eventv1.VerdictReachedEvent_STATE_UNKNOWN},
	}
	bundles := map[string]func(imageref.Ref) []byte{
		"report by the signer":              signs(f.key, attest.PredicateCosignVuln, at(0)),
		"VEX by the author":                 signs(f.vendor, attest.PredicateOpenVEX, says("", nil)),
		"report by a builder":               signs(f.builder, attest.PredicateCosignVuln, at(0)),
		"report by a reviewer":              signs(f.reviewer, attest.PredicateCosignVuln, at(0)),
		"report by an author":               signs(f.vendor, attest.PredicateCosignVuln, at(0)),
		"report by a revoked key":           signs(f.revoked, attest.PredicateCosignVuln, at(0)),
		"report by a revoked key, in time":  signs(f.revoked, attest.PredicateCosignVuln, at(-2*time.Hour)),
		"report by a rotated key, too late": signs(f.rotated, attest.PredicateCosignVuln, at(0)),
		"report by a rotated key, of 2100":  signs(f.rotated, attest.PredicateCosignVuln, at(80*365*24*time.Hour)),
		"report by a rotated key, undated": signs(f.rotated, attest.PredicateCosignVuln, func(i imageref.Ref) any {
			p := vuln(i, now).(map[string]any)
			delete(p, "metadata")
			return p
		}),
		"report of another image": func(imageref.Ref) []byte { return cleanOther },
		"report of another image, of this one too": func(i imageref.Ref) []byte {
			return f.key.SignPayload(attest.PayloadType, statement(`[{"digest":{"sha256":"`+sum(other)+`"}},{"digest":{"sha256":"`+sum(i)+`"}}]`,
				attest.PredicateCosignVuln, text(vuln(other, now))))
		},
		"digest of another algorithm": func(i imageref.Ref) []byte {
			return f.key.SignPayload(attest.PayloadType, statement(`[{"digest":{"sha256":"`+sum(other)+`","sha512":"`+sum(i)+`"}}]`,
				attest.PredicateCosignVuln, text(vuln(i, now))))
		},
		"digest in capital letters": func(i imageref.Ref) []byte {
			return f.builder.SignPayload(attest.PayloadType, statement(`[{"digest":{"sha256":"`+strings.ToUpper(sum(i))+`"}}]`,
				attest.PredicateSLSAProvenance, text(vuln(i, now))))
		},
		"another payload type": func(i imageref.Ref) []byte {
			return f.key.SignPayload("application/json", statement(`[{"digest":{"sha256":"`+sum(i)+`"}}]`, attest.PredicateCosignVuln, text(vuln(i, now))))
		},
		"two signatures": func(i imageref.Ref) []byte {
			own := f.builder.Sign(i.Digest, attest.PredicateCosignVuln, vuln(i, now))
			return edited(t, own, func(_, e map[string]any) {
				edited(t, cleanOther, func(_, theirs map[string]any) {
					e["signatures"] = append(theirs["signatures"].([]any), e["signatures"].([]any)...)
				})
			})
		},
		"hint at the signer": func(i imageref.Ref) []byte {
			return edited(t, f.builder.Sign(i.Digest, attest.PredicateCosignVuln, vuln(i, now)), func(m, e map[string]any) {
				m["publicKey"] = map[string]any{"hint": f.key.Trusted().ID}
				e["signatures"].([]any)[0].(map[string]any)["keyid"] = f.key.Trusted().ID
			})
		},
		"a certificate beside the key": func(i imageref.Ref) []byte {
			return edited(t, f.builder.Sign(i.Digest, attest.PredicateCosignVuln, vuln(i, now)), func(m, _ map[string]any) {
				m["certificate"] = map[string]any{"rawBytes": "AAAA"}
			})
		},
		"type in the annotation alone": signs(f.builder, attest.PredicateSLSAProvenance, at(0)),
		"provenance of another builder": signs(f.builder, attest.PredicateSLSAProvenance, func(imageref.Ref) any {
			return map[string]any{"buildDefinition": map[string]any{"resolvedDependencies": []any{map[string]any{"uri": "pkg:oci/base"}}}, "findings": []any{}}
		}),
		"exception of ours":        signs(f.vendor, attest.PredicateOpenVEX, says("", func(d, _ map[string]any) { d["tooling"] = attest.VEXTooling })),
		"VEX without a reason":     signs(f.vendor, attest.PredicateOpenVEX, says("", func(_, s map[string]any) { delete(s, "justification") })),
		"VEX of the future":        signs(f.vendor, attest.PredicateOpenVEX, says("", func(d, _ map[string]any) { d["timestamp"] = now.Add(time.Hour) })),
		"VEX statement, future":    signs(f.vendor, attest.PredicateOpenVEX, says("", func(_, s map[string]any) { s["timestamp"] = now.Add(time.Hour) })),
		"VEX about another digest": signs(f.vendor, attest.PredicateOpenVEX, says(other.Digest, nil)),
		"VEX for another image": func(imageref.Ref) []byte {
			return f.vendor.Sign(other.Digest, attest.PredicateOpenVEX, says("", nil)(other))
		},
		"VEX fixed, no version":     signs(f.vendor, attest.PredicateOpenVEX, says("pkg:golang/golang.org/x/text", func(_, s map[string]any) { s["status"] = "fixed" })),
		"VEX, empty product":        signs(f.vendor, attest.PredicateOpenVEX, says("", func(_, s map[string]any) { s["products"] = []any{map[string]any{"@id": ""}} })),
		"VEX, all vulnerabilities":  signs(f.vendor, attest.PredicateOpenVEX, says("", func(_, s map[string]any) { s["vulnerability"] = map[string]any{"name": "*"} })),
		"VEX, any of a year":        signs(f.vendor, attest.PredicateOpenVEX, says("", func(_, s map[string]any) { s["vulnerability"] = map[string]any{"name": "CVE-2022-*"} })),
		"VEX by a builder":          signs(f.builder, attest.PredicateOpenVEX, says("", nil)),
		"VEX by a reviewer":         signs(f.reviewer, attest.PredicateOpenVEX, says("", nil)),
		"VEX by a revoked key":      signs(f.revoked, attest.PredicateOpenVEX, says("", nil)),
		"VEX by the signer's older": signs(f.rotated, attest.PredicateOpenVEX, says("", func(d, _ map[string]any) { d["timestamp"] = now.Add(-2 * time.Hour) })),
	}
	for _, product := range []string{
		"*", "pkg:*", "pkg:golang/*", "pkg:golang/golang.org/x/*", "pkg:npm/*", "pkg:golang/golang.org/x/text@*", "pkg:golang/golang.org/x/text@vers:golang/*",
		"pkg:oci/*", "pkg:golang/golang.org", "PKG:GOLANG", "pkg:generic/app", " ", "cpe:2.3:*:*:*:*:*:*:*:*:*:*:*:*",
	} {
		bundles["VEX for "+product] = signs(f.vendor, attest.PredicateOpenVEX, says(product, nil))
	}
	for who, k := range map[string]*evidencetest.Key{"a builder": f.builder, "a reviewer": f.reviewer, "an author": f.vendor, "a rotated key": f.rotated} {
		bundles["summary of a verification by "+who] = signs(k, attest.PredicateVSA, func(i imageref.Ref) any {
			return map[string]any{"verificationResult": "PASSED", "timeVerified": now.Add(-2 * time.Hour), "resourceUri": i.String(), "verifiedLevels": []any{"SLSA_BUILD_LEVEL_3"}}
		})
	}
	for _, spelled := range []string{
		strings.ToUpper(attest.PredicateCosignVuln), attest.PredicateCosignVuln + "/", attest.PredicateCosignVuln + " ", attest.PredicateCosignVuln + "#",
		" " + attest.PredicateCosignVuln, strings.TrimSuffix(attest.PredicateCosignVuln, "1") + "2", attest.PredicateCosignVuln + "?", reviewType,
	} {
		for who, k := range map[string]*evidencetest.Key{"a reviewer": f.reviewer, "the signer": f.key} {
			bundles["report called "+spelled+" by "+who] = func(i imageref.Ref) []byte {
				return k.SignPayload(attest.PayloadType, statement(`[{"digest":{"sha256":"`+sum(i)+`"}}]`, spelled, text(vuln(i, now))))
			}
		}
	}

	want, name := map[string]eventv1.VerdictReachedEvent_State{}, map[string]string{}
	for what, bundle := range bundles {
		vulnerable, unscanned := f.registry.PushImage("team/app", "v1"), f.registry.PushImage("team/app", "v2")
		f.registry.Attest(f.key, vulnerable, vulnerable.Digest, evidencetest.Report(vulnerable.Digest, evidencetest.Critical()), now.Add(-10*time.Minute))
		states, ok := control[what]
		if !ok {
			states = [2]eventv1.VerdictReachedEvent_State{eventv1.VerdictReachedEvent_STATE_FAIL, eventv1.VerdictReachedEvent_STATE_UNKNOWN}
		}
		for image, state := range map[imageref.Ref]eventv1.VerdictReachedEvent_State{vulnerable: states[0], unscanned: states[1]} {
			want[image.Digest], name[image.Digest] = state, what
			predicateType := attest.PredicateCosignVuln
			if strings.HasPrefix(what, "VEX") || strings.HasPrefix(what, "exception") {
				predicateType = attest.PredicateOpenVEX
			}
			f.registry.Attach(image, image.Digest, predicateType, bundle(image))
			f.attested(t.Context(), image.Digest, image)
		}
	}
	f.holds(want, name)
}

// TestIndexNeedsItsOwnEvidence: no statement about an index, or about another of its
// platforms, stands for the report of a platform.
func TestIndexNeedsItsOwnEvidence(t *testing.T) {
	t.Parallel()
	f := newOneKeyFleet(t)
	f.start()
	now := time.Now()
	want, name := map[string]eventv1.VerdictReachedEvent_State{}, map[string]string{}
	for what, attack := range map[string]func(index imageref.Ref, platforms []string){
		"summary with fewer platforms": func(index imageref.Ref, platforms []string) {
			for _, k := range []*evidencetest.Key{f.key, f.builder, f.reviewer} {
				f.registry.Attach(index, index.Digest, attest.PredicateReference, k.Sign(index.Digest, attest.PredicateReference,
					map[string]any{"references": []any{map[string]any{"digest": map[string]any{"sha256": strings.TrimPrefix(platforms[0], "sha256:")}}}}))
			}
		},
		"report of the index": func(index imageref.Ref, _ []string) {
			f.registry.Attest(f.key, index, index.Digest, evidencetest.Report(index.Digest), now)
		},
		"report of another platform": func(index imageref.Ref, platforms []string) {
			f.registry.Attach(index, platforms[1], attest.PredicateCosignVuln,
				f.key.Sign(platforms[0], attest.PredicateCosignVuln, evidencetest.Predicate(t, evidencetest.Report(platforms[0]), now)))
		},
	} {
		for state, findings := range map[eventv1.VerdictReachedEvent_State][]*scannerv1.Finding{
			eventv1.VerdictReachedEvent_STATE_FAIL: {evidencetest.Critical()}, eventv1.VerdictReachedEvent_STATE_UNKNOWN: nil,
		} {
			index, platforms := f.registry.PushIndex("team/multi", "v1", v1.Platform{OS: "linux", Architecture: "amd64"}, v1.Platform{OS: "linux", Architecture: "arm64"})
			f.registry.Attest(f.key, index, platforms[0], evidencetest.Report(platforms[0]), now)
			if findings != nil {
				f.registry.Attest(f.key, index, platforms[1], evidencetest.Report(platforms[1], findings...), now)
			}
			attack(index, platforms)
			want[index.Digest], name[index.Digest] = state, what
			f.attested(t.Context(), index.Digest, index)
		}
	}
	f.holds(want, name)
}

// TestOlderKeyIsNoWayBack: the newest report is deleted, or its key is revoked. A clean report
// by an older key of the signer, however it is dated, is a replay.
func TestOlderKeyIsNoWayBack(t *testing.T) {
	t.Parallel()
	f := newOneKeyFleet(t)
	v := f.start()
	now := time.Now()
	deleted, kept := f.registry.PushImage("team/app", "deleted"), f.registry.PushImage("team/app", "kept")
	reports := map[imageref.Ref]string{}
	for _, image := range []imageref.Ref{deleted, kept} {
		f.registry.Attest(f.rotated, image, image.Digest, evidencetest.Report(image.Digest), now.Add(-2*time.Hour))
		f.attested(t.Context(), "old "+image.Tag, image)
		f.want(eventv1.VerdictReachedEvent_STATE_PASS, "", "by the key of its time")
		reports[image] = f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), now.Add(-10*time.Minute))
		f.attested(t.Context(), "new "+image.Tag, image)
		f.want(eventv1.VerdictReachedEvent_STATE_FAIL, "", "by the next key")
	}
	f.registry.Delete(deleted.Repository, reports[deleted])
	f.attested(t.Context(), "deleted", deleted)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, "was judged before and is gone", "the newest report was deleted")
	f.signer.revoked.Store(true)
	f.want(eventv1.VerdictReachedEvent_STATE_UNKNOWN, "", "the key of the newest report was revoked")
	for _, at := range []time.Duration{-61 * time.Minute, 0} {
		f.registry.Attest(f.rotated, kept, kept.Digest, evidencetest.Report(kept.Digest), now.Add(at))
		f.attested(t.Context(), "back "+at.String(), kept)
	}
	time.Sleep(3 * time.Second) // an absence cannot be waited for
	for _, image := range []imageref.Ref{deleted, kept} {
		if got := v.get(t, image); got.GetState().String() != "STATE_UNKNOWN" {
			t.Errorf("%s: %v", image.Tag, got)
		}
	}
}
