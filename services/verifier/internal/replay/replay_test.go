package replay_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lru"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

var (
	now    = time.Date(2026, 3, 1, 12, 0, 0, 987654321, time.UTC)
	digest = "sha256:" + strings.Repeat("a", 64)
	image  = imageref.Ref{Registry: "r.example", Repository: "team/app", Tag: "v1", Digest: digest}
)

// shelf holds documents in memory.
type shelf map[string]record.Document

func (s shelf) Document(_ context.Context, digest string) (record.Document, error) {
	d, ok := s[digest]
	if !ok {
		return record.Document{}, store.ErrNotFound
	}
	return d, nil
}

func (s shelf) Documents(_ context.Context, digests []string, _ int64) (map[string]record.Document, error) {
	out := map[string]record.Document{}
	for _, digest := range digests {
		if d, ok := s[digest]; ok {
			out[digest] = d
		}
	}
	return out, nil
}

func loader(t *testing.T) *policy.Loader {
	t.Helper()
	l, err := policy.NewLoader()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func packs(t *testing.T, l *policy.Loader, names ...string) replay.Rules {
	t.Helper()
	var r replay.Rules
	for _, n := range names {
		data, err := policy.Pack(n)
		if err != nil {
			t.Fatal(err)
		}
		set, err := l.Parse(n, data)
		if err != nil {
			t.Fatal(err)
		}
		r.Policies = append(r.Policies, set...)
	}
	return r
}

func evidence() core.PlatformEvidence {
	source := core.Attestation{PredicateType: core.PredicateReport, ManifestDigest: "sha256:report", KeyID: "key", SignTime: now.Add(-time.Hour)}
	return core.PlatformEvidence{
		Digest: digest, Platform: core.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"},
		Report: &core.Report{
			Source: source, AdvisoryDigest: "sha256:advisories", AdvisoryTime: now.Add(-24 * time.Hour),
			Image: core.Image{User: "65532", NonRoot: true, Labels: map[string]string{"b": "2", "a": "1"}, Created: now.Add(-time.Hour), EnvNames: []string{}},
			Findings: []core.Finding{{
				ID: "CVE-1 <&> \u2028", Severity: "CRITICAL", SeverityRank: core.SeverityCritical, CVSS: 9.8, EPSS: 0.1234567890123,
				Package: "p", Version: "1", FixedVersions: []string{"2"},
			}},
		},
		Attestations: []core.Attestation{
			source,
			{
				PredicateType: "https://slsa.dev/provenance/v1", ManifestDigest: "sha256:provenance", KeyID: "key", SignTime: now.Add(-time.Hour),
				Predicate: map[string]any{"n": 1e21, "l": []any{nil, true, "x"}, "runDetails": map[string]any{"builder": map[string]any{"id": "b"}}},
			},
		},
		Rejected: []core.Rejected{{PredicateType: "x", Why: "bad signature"}},
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	l := loader(t)
	tests := map[string]struct {
		packs  []string
		change func(*core.PlatformEvidence)
	}{
		"fails":           {[]string{"baseline", "strict", "slsa-provenance", "nist-800-190"}, func(*core.PlatformEvidence) {}},
		"no policy":       {nil, func(*core.PlatformEvidence) {}},
		"no report":       {[]string{"baseline"}, func(e *core.PlatformEvidence) { e.Report = nil }},
		"passes":          {[]string{"baseline"}, func(e *core.PlatformEvidence) { e.Report.Findings = nil }},
		"replayed report": {[]string{"baseline"}, func(e *core.PlatformEvidence) { e.NotBefore = now }},
		"incomplete":      {[]string{"baseline"}, func(e *core.PlatformEvidence) { e.Report.Incomplete, e.Report.Problems = true, []string{"x"} }},
		"states no time":  {[]string{"strict"}, func(e *core.PlatformEvidence) { e.Report.Source.SignTime = time.Time{} }},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := evidence()
			tc.change(&e)
			judged, err := replay.Judge(t.Context(), image, []core.PlatformEvidence{e}, packs(t, l, tc.packs...), now)
			if err != nil {
				t.Fatal(err)
			}
			recorded, err := verdictpb.FromCore(judged.Verdict)
			if err != nil {
				t.Fatal(err)
			}
			docs := shelf{}
			for _, d := range judged.Documents {
				docs[d.Digest] = d
			}
			if len(docs) != 1+len(tc.packs) {
				t.Errorf("%d documents", len(docs))
			}
			r := replay.Replayer{Documents: docs, Loader: l}
			got, err := r.Explain(t.Context(), recorded)
			if err != nil || !got.Equal || len(got.Missing) > 0 || got.Replayed.GetDigest() != recorded.GetDigest() {
				t.Errorf("explanation: %+v, %v", got, err)
			}
			// Whatever is gone or damaged is named.
			for digest := range docs {
				for what, d := range map[string]record.Document{"gone": {}, "damaged": {Digest: digest, Packed: []byte("x")}} {
					less := shelf{}
					for k, v := range docs {
						less[k] = v
					}
					delete(less, digest)
					if d.Digest != "" {
						less[digest] = d
					}
					got, err := (&replay.Replayer{Documents: less, Loader: l}).Explain(t.Context(), recorded)
					if err != nil || got.Equal || got.Replayed != nil || cmp.Diff([]string{digest}, got.Missing) != "" {
						t.Errorf("with %s %s: %+v, %v", digest, what, got, err)
					}
				}
			}
			// A verdict that claims something else is found out.
			recorded.Reasons = nil
			recorded.State = 1
			if got, err := r.Explain(t.Context(), recorded); err != nil || got.Equal && name != "passes" {
				t.Errorf("a forged verdict: %+v, %v", got, err)
			}
		})
	}
}

func TestExplainWithoutRecord(t *testing.T) {
	t.Parallel()
	r := replay.Replayer{Documents: shelf{}, Loader: loader(t)}
	v, err := verdictpb.FromCore(core.Unjudged(image, core.CodePipelineFailed, "x", now))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Explain(t.Context(), v); !errors.Is(err, replay.ErrNotJudged) {
		t.Errorf("a verdict without evaluation: %v", err)
	}
	// As releases before evidence was kept stored them.
	old, err := core.Judge(t.Context(), core.Input{Image: image, Platforms: []core.PlatformEvidence{evidence()}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if v, err = verdictpb.FromCore(old); err != nil {
		t.Fatal(err)
	}
	got, err := r.Explain(t.Context(), v)
	if err != nil || cmp.Diff([]string{"sha256:report", "sha256:provenance", digest}, got.Missing) != "" {
		t.Errorf("a verdict of an earlier release: %+v, %v", got, err)
	}
}

// TestEvidenceFromMemory reads evidence that is kept decoded, and proves without it.
func TestEvidenceFromMemory(t *testing.T) {
	t.Parallel()
	l := loader(t)
	made, err := replay.Judge(t.Context(), image, []core.PlatformEvidence{evidence()}, packs(t, l, "baseline"), now)
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := verdictpb.FromCore(made.Verdict)
	if err != nil {
		t.Fatal(err)
	}
	docs := shelf{}
	for _, d := range made.Documents {
		docs[d.Digest] = d
	}
	r := replay.Replayer{Documents: docs, Loader: l, Decoded: lru.New[string, record.Reading](1<<20, nil)}
	first, missing, err := r.Evidence(t.Context(), recorded, core.AllParts)
	if err != nil || len(missing) > 0 || r.Decoded.Len() != 1 {
		t.Fatalf("first: %v, %v", missing, err)
	}
	clear(docs)
	again, missing, err := r.Evidence(t.Context(), recorded, core.AllParts)
	if d := cmp.Diff(first, again); d != "" || err != nil || len(missing) > 0 {
		t.Errorf("again: %v, %v (-first +again):\n%s", missing, err, d)
	}
	if got, err := r.Explain(t.Context(), recorded); err != nil || got.Equal || len(got.Missing) == 0 {
		t.Errorf("a proof without documents: %+v, %v", got, err)
	}
}
