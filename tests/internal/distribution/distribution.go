// Package distribution runs the real CNCF Distribution registry inside a test. It
// has no referrers API: attestations are listed in a tag.
package distribution

import (
	"context"
	"net"
	"testing"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/registryd"
)

// Start runs the registry until the test ends.
func Start(t *testing.T) (host string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r, err := registryd.New(ctx, registryd.Config{Dir: t.TempDir(), Listener: listener})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r.Addr()
}
