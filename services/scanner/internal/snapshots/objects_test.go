package snapshots_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/events/eventstest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots"
)

// TestObjects shares through a real NATS server, with the rights that the scanner has.
func TestObjects(t *testing.T) {
	fleet := eventstest.Start(t)
	a, b := snapshots.NewObjects(fleet.Bus(events.Scanner)), snapshots.NewObjects(fleet.Bus(events.Scanner))
	ctx := t.Context()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if _, err := b.Get(ctx, "sha256:1"); !errors.Is(err, eventbus.ErrNotFound) {
		t.Errorf("nothing there: %v", err)
	}
	for _, digest := range []string{"sha256:1", "sha256:2", "sha256:3"} {
		if err := a.Put(ctx, digest, content); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := b.Get(ctx, "sha256:2"); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := a.Retain(ctx, "sha256:2", "sha256:3"); err != nil {
		t.Fatal(err)
	}
	for digest, want := range map[string]bool{"sha256:1": false, "sha256:2": true, "sha256:3": true} {
		if has, err := b.Has(ctx, digest); err != nil || has != want {
			t.Errorf("%s is there: %v, %v", digest, has, err)
		}
	}
}
