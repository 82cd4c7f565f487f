package evidence

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/vex"
)

func vexAuthors(k *evidencetest.Key) vex.Authors {
	return vex.Authors{{Name: "vendor", Roots: attest.TrustRoots{Keys: []attest.TrustedKey{k.Trusted()}}.Stating(attest.AuthorStates())}}
}

// malformedVex are predicates that are no OpenVEX document, and the latest time in them.
var malformedVex = map[string]struct {
	predicate string
	at        time.Time
}{
	"a status that is none":    {`{"@context":"https://openvex.dev/ns/v0.2.0","timestamp":"2026-01-01T00:00:00Z","last_updated":"2026-01-03T00:00:00Z","statements":[{"vulnerability":{"name":"CVE-1"},"status":"harmless"}]}`, time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)},
	"another format":           {`{"@context":"https://example.com","timestamp":"2026-01-02T00:00:00Z"}`, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)},
	"no time":                  {`{"@context":"https://openvex.dev/ns/v0.2.0","statements":[{"vulnerability":{"name":"CVE-1"},"status":"affected"}]}`, time.Time{}},
	"a time that is none":      {`{"@context":"https://openvex.dev/ns/v0.2.0","timestamp":"yesterday","statements":[]}`, time.Time{}},
	"a name twice":             {`{"@context":"https://openvex.dev/ns/v0.2.0","timestamp":"2026-01-02T00:00:00Z","statements":[],"statements":[]}`, time.Time{}},
	"a name in another case":   {`{"@context":"https://openvex.dev/ns/v0.2.0","timestamp":"2026-01-02T00:00:00Z","Statements":[]}`, time.Time{}},
	"statements that are none": {`{"@context":"https://openvex.dev/ns/v0.2.0","timestamp":"2026-01-02T00:00:00Z","statements":"none"}`, time.Time{}},
	"another shape":            {`{"@context":7}`, time.Time{}},
}

// TestUnreadableVex attaches documents that cannot be read: those of an author are
// findings that take back, also from the cache; those of others are nothing.
func TestUnreadableVex(t *testing.T) {
	t.Parallel()
	key, author := evidencetest.NewKey(t), evidencetest.NewKey(t)
	for name, tc := range malformedVex {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := evidencetest.NewRegistry(t)
			image, platforms := reg.PushIndex("team/app", "v1", v1.Platform{OS: "linux", Architecture: "amd64"})
			c := NewCollector(reg.Client(), trusting(key), vexAuthors(author), Limits{Cache: 1 << 20}, slog.New(slog.DiscardHandler), func() time.Time { return evidencetest.Now })
			attach := func(k *evidencetest.Key, about, to, annotation string) string {
				return reg.Attach(image, to, annotation, k.Sign(about, attest.PredicateOpenVEX, json.RawMessage(tc.predicate)))
			}
			attach(evidencetest.NewKey(t), platforms[0], platforms[0], attest.PredicateOpenVEX)
			attach(key, platforms[0], platforms[0], attest.PredicateOpenVEX)
			attach(author, "sha256:"+strings.Repeat("e", 64), platforms[0], attest.PredicateOpenVEX)
			reg.Attach(image, platforms[0], attest.PredicateOpenVEX, []byte("garbage"))
			found, err := c.Collect(t.Context(), image)
			if err != nil || len(found.Platforms[0].VEX) != 0 {
				t.Fatalf("by others: %+v, %v", found.Platforms, err)
			}
			// The annotation that it is listed with is nobody's word.
			digests := []string{attach(author, platforms[0], platforms[0], "https://example.com/other"), attach(author, image.Digest, image.Digest, attest.PredicateOpenVEX)}
			for range 2 {
				found, err = c.Collect(t.Context(), image)
				if err != nil || len(found.Platforms[0].VEX) != 2 {
					t.Fatalf("by the author: %+v, %v", found.Platforms, err)
				}
				for _, d := range found.Platforms[0].VEX {
					if d.Author != "vendor" || d.Unreadable == "" || !d.DocumentTime.Equal(tc.at) || len(d.Statements) != 0 || !slices.Contains(digests, d.Digest) {
						t.Errorf("%+v", d)
					}
					if !slices.ContainsFunc(found.Platforms[0].Rejected, func(r core.Rejected) bool { return r.ManifestDigest == d.Digest }) {
						t.Errorf("%s is not among the rejected", d.Digest)
					}
				}
			}
		})
	}
}

// TestFloodHidesNothing: an author's newer document beyond a limit, of count or of size,
// ends what the older one takes out, whoever attached the others.
func TestFloodHidesNothing(t *testing.T) {
	t.Parallel()
	key, author, stranger := evidencetest.NewKey(t), evidencetest.NewKey(t), evidencetest.NewKey(t)
	document := func(status string, at time.Time) map[string]any {
		return map[string]any{"@context": "https://openvex.dev/ns/v0.2.0", "timestamp": at, "statements": []any{
			map[string]any{"vulnerability": map[string]any{"name": evidencetest.Critical().GetId()}, "status": status, "justification": "component_not_present"},
		}}
	}
	const most = 20
	for name, flooder := range map[string]*evidencetest.Key{"by a stranger": stranger, "by the fleet": key, "by the author": author} {
		for how, limits := range map[string]Limits{"too many": {MaxAttestations: most}, "too large": {MaxTotal: 64 << 10}} {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				h := newHostile(t)
				report := h.attachBundle(key.Sign(h.image.Digest, attest.PredicateCosignVuln,
					evidencetest.Predicate(t, evidencetest.Report(h.image.Digest, evidencetest.Critical()), evidencetest.Now)))
				h.attachBundle(author.Sign(h.image.Digest, attest.PredicateOpenVEX, document(core.VexNotAffected, evidencetest.Now.Add(-2*time.Hour))))
				c := NewCollector(h.client, trusting(key), vexAuthors(author), limits, slog.New(slog.DiscardHandler), func() time.Time { return evidencetest.Now })
				judge := func() core.Verdict {
					found, err := c.CollectOwed(t.Context(), h.image, Owed{h.image.Digest: {report}})
					if err != nil {
						t.Fatal(err)
					}
					v, err := core.Judge(t.Context(), core.Input{Image: h.image, Platforms: found.Platforms, Now: evidencetest.Now, Policies: []core.Policy{{
						Name: "p", Matches: func(string) bool { return true }, Unseen: core.PartPredicates, Rules: []core.Rule{{Name: "no-findings", Message: "no findings", Check: noFindings{}}},
					}}})
					if err != nil {
						t.Fatal(err)
					}
					return v
				}
				if v := judge(); v.State != core.StatePass {
					t.Fatalf("before: %v, %v", v.State, v.Reasons)
				}
				large := strings.Repeat("x", 4<<10)
				for n := range most {
					h.attachBundle(flooder.Sign(h.image.Digest, "https://example.com/type", map[string]any{"n": n, "x": large}))
				}
				h.attachBundle(author.Sign(h.image.Digest, attest.PredicateOpenVEX, document(core.VexAffected, evidencetest.Now.Add(-time.Hour))))
				v := judge()
				if v.State != core.StateFail {
					t.Errorf("after: %v, %v", v.State, v.Reasons)
				}
				if len(v.Platforms[0].Inputs.Attestations) == 0 {
					t.Error("the report that is known was not read first")
				}
			})
		}
	}
}

// noFindings is a rule that no finding may break.
type noFindings struct{}

func (noFindings) Evaluate(_ context.Context, f *core.Facts) (bool, []string, error) {
	return len(f.Findings) == 0, nil, nil
}
