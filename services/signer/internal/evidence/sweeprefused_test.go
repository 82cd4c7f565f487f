package evidence_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// TestSweeper_Refused answers a delete, and the write of the tag after it, with each
// status. What was not deleted is still there for readers and for the log, and the next
// round that is let deletes it: the superseded one and nothing else.
func TestSweeper_Refused(t *testing.T) {
	isDelete := func(r *http.Request) bool { return r.Method == http.MethodDelete }
	isTag := func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256-")
	}
	for name, tt := range map[string]struct {
		is     func(*http.Request) bool
		status int
		want   error
		says   string
		left   int // attestations that readers see meanwhile
	}{
		"delete 401": {isDelete, http.StatusUnauthorized, registry.ErrUnauthorized, "may delete", 2},
		"delete 403": {isDelete, http.StatusForbidden, registry.ErrUnauthorized, "lifetime.keep_registries", 2},
		"delete 429": {isDelete, http.StatusTooManyRequests, registry.ErrUnavailable, "429", 2},
		"delete 500": {isDelete, http.StatusInternalServerError, registry.ErrUnavailable, "500", 2},
		"delete 503": {isDelete, http.StatusServiceUnavailable, registry.ErrUnavailable, "503", 2},
		"tag 403":    {isTag, http.StatusForbidden, registry.ErrUnauthorized, "may delete", 1},
		"tag 503":    {isTag, http.StatusServiceUnavailable, registry.ErrUnavailable, "503", 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, false)
			ref := f.registry.PushImage("team/app")
			old := f.attachOne(t, ref, finding("A", 0))
			f.attachOne(t, ref, finding("B", time.Minute))
			f.registry.Fail(func(r *http.Request) int {
				if tt.is(r) {
					return tt.status
				}
				return 0
			})
			later := f.clock.Add(grace + time.Hour)
			n, err := f.sweeper(later).Sweep(t.Context())
			if n != 0 || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), old) {
				t.Fatalf("Sweep() = %d, %v, want 0 and %v with %q", n, err, tt.want, tt.says)
			}
			f.registry.Fail(nil)
			// Between the manifest and the tag the list names one that is not there.
			found, err := attest.Fetch(t.Context(), f.registry.Client(), ref, attest.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			found = slices.DeleteFunc(found, func(r attest.Referred) bool {
				_, err := r.Verify(ref.Digest, f.roots)
				return err != nil
			})
			if len(found) != tt.left {
				t.Errorf("readers see %d, want %d", len(found), tt.left)
			}
			waiting, err := f.store.Superseded(t.Context(), later.Add(-grace), "", 10)
			if err != nil || len(waiting) != 1 || waiting[0].ManifestDigest != old {
				t.Errorf("waiting for the next round: %v, %v", waiting, err)
			}
			f.sweep(t, later, 1)
			if newest, n := f.newest(ref); n != 1 || newest == old {
				t.Errorf("readers see %d, %s", n, newest)
			}
			listed, err := f.store.List(t.Context(), store.Query{SubjectDigest: ref.Digest, Limit: 10})
			if err != nil || len(listed) != 1 {
				t.Errorf("the log lists %v, %v", listed, err)
			}
		})
	}
}
