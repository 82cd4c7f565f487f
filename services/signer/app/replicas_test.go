package app_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/events/eventstest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/registrytest"
)

// TestReplicas_LoseNothingOnTheFallbackTag: two signers, each with its own client
// and its own connection to NATS, write 200 attestations of one image with eight
// writers to a registry that has only the tag to list them.
func TestReplicas_LoseNothingOnTheFallbackTag(t *testing.T) {
	bus := eventstest.Start(t)
	reg := registrytest.Start(t, false)
	image := reg.PushImage("team/app")
	var clients []*registry.Client
	for range 2 {
		c, b := reg.Client(), bus.Bus(events.Signer)
		c.UseSubjectLock(func(ctx context.Context, key string) (func(), error) { return b.Lock(ctx, events.LocksSigner, key) })
		clients = append(clients, c)
	}
	subject, err := clients[0].Resolve(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				put := func() error {
					_, err := clients[w%2].PutReferrer(t.Context(), imageref.Ref{Registry: image.Registry, Repository: image.Repository}, subject, registry.Artifact{
						ArtifactType: "application/vnd.dev.sigstore.bundle.v0.3+json", Content: fmt.Appendf(nil, `{"writer":%d,"n":%d}`, w, n),
					})
					return err
				}
				// A writer that was crowded out says so, and its event is handled again.
				err := put()
				for range 10 {
					if !registry.Temporary(err) {
						break
					}
					err = put()
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	listed, err := clients[0].Referrers(t.Context(), image, registry.Filter{})
	if err != nil || len(listed.Referrers) != writers*each {
		t.Errorf("%d attestations are listed, %v, want %d", len(listed.Referrers), err, writers*each)
	}
}
