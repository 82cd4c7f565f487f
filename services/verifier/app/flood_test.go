package app_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// TestSlowRepositoryHoldsNobodyUp: while every request about the images of one repository
// hangs, images of another one are judged.
func TestSlowRepositoryHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	release := make(chan struct{})
	var hanging atomic.Int64
	f.fault("team/slow", func(w http.ResponseWriter, _ *http.Request) {
		hanging.Add(1)
		<-release
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	t.Cleanup(func() { close(release) })
	f.start()
	for i := range 10 {
		slow := imageref.Ref{Registry: f.registry.Host, Repository: "team/slow", Digest: fmt.Sprintf("sha256:%064x", i)}
		f.attested(t.Context(), fmt.Sprint("slow-", i), slow)
	}
	f.within(time.Minute, "the registry is asked", func() bool { return hanging.Load() > 0 })
	for i := range 3 {
		f.judged(fmt.Sprint("team/quick", i)) // waits for the verdict
	}
}
