package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/events"
)

// writes are the requests that attach something to a registry without the referrers
// API, in their order.
var writes = []struct {
	name string
	is   func(*http.Request) bool
}{
	{"blob", func(r *http.Request) bool {
		return (r.Method == http.MethodPost || r.Method == http.MethodPut) && strings.Contains(r.URL.Path, "/blobs/")
	}},
	{"manifest", func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256:")
	}},
	{"tag", func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256-")
	}},
}

// TestSigner_RegistryRefusesAWrite answers each kind of write with each status. What no
// retry cures is a dead letter at once, with what to do, and the rest is one when the
// attempts run out. So is a refusal by a registry that took writes before. Nobody sees half of anything, nothing is called signed, and the
// letter's replay attaches everything once.
func TestSigner_RegistryRefusesAWrite(t *testing.T) {
	f := newFleet(t)
	f.cfg.Registry.MaxFailures = 1000 // each refusal is to be met, not remembered
	f.start()
	letters := 0
	for _, tt := range []struct {
		status       int
		reason, says string
	}{
		{http.StatusUnauthorized, "REGISTRY_DENIED", "credentials that may push"},
		{http.StatusForbidden, "REGISTRY_DENIED", "credentials that may push"},
		{http.StatusMethodNotAllowed, "REGISTRY_REJECTED", "take pushes"},
		{http.StatusTooManyRequests, "", "429"},
		{http.StatusInternalServerError, "", "500"},
		{http.StatusBadGateway, "", "502"},
		{http.StatusServiceUnavailable, "", "503"},
	} {
		for _, write := range writes {
			name := fmt.Sprintf("%s %d", write.name, tt.status)
			t.Run(name, func(t *testing.T) {
				image := f.registry.PushImage("team/app")
				var met atomic.Int32
				f.registry.Fail(func(r *http.Request) int {
					if !write.is(r) {
						return 0
					}
					met.Add(1)
					return tt.status
				})
				f.publish(events.Scanner, name, f.scanned(name, image, image))
				letter := f.deadLetter(letters)
				letters++
				f.registry.Fail(nil)
				attempts := uint32(1)
				reason := tt.reason
				if reason == "" {
					attempts, reason = 3, letter.GetReason()
				}
				if reason == "REGISTRY_DENIED" && letters > 1 {
					attempts = 3 // the registry let the signer write before
				}
				if letter.GetReason() != reason || letter.GetAttempts() != attempts || !strings.Contains(letter.GetMessage(), tt.says) {
					t.Errorf("dead letter = %s after %d attempts: %s", letter.GetReason(), letter.GetAttempts(), letter.GetMessage())
				}
				if met.Load() == 0 {
					t.Error("no such write was tried")
				}
				if seen, signed := f.types(image), f.logged(image); len(seen) != 0 || len(signed) != 0 {
					t.Errorf("%v are seen, %v are called signed", seen, signed)
				}
				all := f.deadLetters()
				if _, err := events.ReplayDeadLetter(t.Context(), f.operator, all[len(all)-1]); err != nil {
					t.Fatal(err)
				}
				f.nextAttested()
				if diff := cmp.Diff(sorted(evidenceTypes), f.types(image)); diff != "" {
					t.Errorf("after the replay (-want +seen):\n%s", diff)
				}
			})
		}
	}
}

// TestSigner_SlowRegistryIsTriedAgain: a registry that lets a write hang past the
// deadline loses nothing and gets nothing twice.
func TestSigner_SlowRegistryIsTriedAgain(t *testing.T) {
	for _, write := range writes {
		t.Run(write.name, func(t *testing.T) {
			f := newFleet(t)
			f.Config.MaxDeliver = 1000
			f.cfg.Registry.Timeout = 300 * time.Millisecond
			f.cfg.Registry.MaxFailures = 1000
			image := f.registry.PushImage("team/app")
			var hung atomic.Int32
			f.registry.Fail(func(r *http.Request) int {
				if !write.is(r) || hung.Add(1) > 4 {
					return 0
				}
				select {
				case <-r.Context().Done():
				case <-time.After(3 * time.Second):
				}
				return http.StatusGatewayTimeout
			})
			f.start()
			f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
			f.nextAttested()
			if hung.Load() <= 4 {
				t.Errorf("%d writes, the first four hung", hung.Load())
			}
			if diff := cmp.Diff(sorted(evidenceTypes), f.types(image)); diff != "" {
				t.Errorf("attached (-want +seen):\n%s", diff)
			}
			if n := len(f.logged(image)); n != len(evidenceTypes) {
				t.Errorf("%d entries in the signing log", n)
			}
			if letters := f.deadLetters(); len(letters) != 0 {
				t.Errorf("dead letters: %v", letters)
			}
		})
	}
}
