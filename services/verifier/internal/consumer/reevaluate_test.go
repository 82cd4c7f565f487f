package consumer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

// What is overdue is noted although the trust roots cannot be compared.
func TestOverdueWithoutTrust(t *testing.T) {
	t.Parallel()
	r, _ := judged(t, 2, []core.PlatformEvidence{scanned(t, "alpine-base")})
	unknown := errors.New("the trust roots are not known")
	r.SyncTrust = func(context.Context) error { return unknown }
	kept := r.Evaluator.Recorder.Store
	images, err := kept.JudgedAfter(t.Context(), store.Reevaluation{}.After, 10)
	if err != nil || len(images) != 2 {
		t.Fatalf("images: %v, %v", images, err)
	}
	for _, image := range images {
		scan := store.Scan{Image: image, Time: benchNow, Contents: map[string]string{image.Digest: "sha256:else"}}
		if err := kept.RecordScan(t.Context(), scan, benchNow.Add(-7*time.Hour), 6*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.once(t.Context()); !errors.Is(err, unknown) {
		t.Errorf("once: %v", err)
	}
	for _, image := range images {
		latest, err := r.Evaluator.Recorder.latest(t.Context(), image)
		if err != nil {
			t.Fatal(err)
		}
		v, err := verdictpb.Decode(latest.Body, latest.Sequence, latest.Digest, latest.TraceID)
		if err != nil || codeOf(v) != core.CodeEvidenceOverdue || latest.State != core.StateUnknown {
			t.Errorf("%s: %v, %v", image.Repository, v, err)
		}
	}
}
