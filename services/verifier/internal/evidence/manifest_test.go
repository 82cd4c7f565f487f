package evidence

import (
	"log/slog"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// TestIndexHidesNothingThatRuns names manifests in an index in ways that make readers
// leave them out, but not every runtime.
func TestIndexHidesNothingThatRuns(t *testing.T) {
	h := newHostile(t)
	manifest := func(config, layer string) string {
		return h.add(map[string]any{
			"schemaVersion": 2, "mediaType": registry.MediaTypeOCIManifest,
			"config": map[string]any{"mediaType": config}, "layers": []any{map[string]any{"mediaType": layer}},
		})
	}
	const image, archive = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"
	clean := manifest(image, archive)
	disguised := manifest(image, "application/vnd.in-toto+json")
	generic := manifest("application/octet-stream", archive)
	chart := manifest("application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
	entry := func(digest string, platform ...string) map[string]any {
		e := map[string]any{"mediaType": registry.MediaTypeOCIManifest, "digest": digest}
		if len(platform) == 2 {
			e["platform"] = map[string]any{"os": platform[0], "architecture": platform[1]}
		}
		return e
	}
	for name, tt := range map[string]struct {
		entries []any
		want    []string
	}{
		"attestation": {[]any{entry(disguised, "unknown", "unknown")}, nil},
		"chart":       {[]any{entry(chart)}, nil},
		"unknown first, real second": {
			[]any{entry(disguised, "unknown", "unknown"), entry(disguised, "linux", "arm64")}, []string{"linux/arm64"},
		},
		"real first, unknown second": {
			[]any{entry(disguised, "linux", "arm64"), entry(disguised, "unknown", "unknown")}, []string{"linux/arm64"},
		},
		"no platform":                {[]any{entry(disguised)}, []string{""}},
		"unknown first, none second": {[]any{entry(disguised, "unknown", "unknown"), entry(disguised)}, []string{"unknown/unknown"}},
		"generic configuration":      {[]any{entry(generic)}, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			index := h.add(map[string]any{
				"schemaVersion": 2, "mediaType": registry.MediaTypeOCIIndex, "manifests": append(tt.entries, entry(clean, "linux", "amd64")),
			})
			c := NewCollector(h.client, trusting(evidencetest.NewKey(t)), nil, Limits{}, slog.New(slog.DiscardHandler), func() time.Time { return evidencetest.Now })
			found, err := c.Collect(t.Context(), h.image.WithDigest(index))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range found.Platforms[:len(found.Platforms)-1] {
				got = append(got, p.Platform.String())
			}
			if len(got) != len(tt.want) || len(got) == 1 && got[0] != tt.want[0] {
				t.Errorf("beside the clean image evidence is needed of %q, want %q", got, tt.want)
			}
		})
	}
}
