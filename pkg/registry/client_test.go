package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

func TestResolveAndManifest(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t)
	want := f.push(t, c, "v1")
	byTag := f.repo()
	byTag.Tag = "v1"
	for name, ref := range map[string]imageref.Ref{"tag": byTag, "digest": f.repo().WithDigest(want.Digest)} {
		t.Run(name, func(t *testing.T) {
			got, err := c.Resolve(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Resolve (-want +got)\n%s", diff)
			}
			got, raw, err := c.Manifest(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" || string(raw) != testManifest {
				t.Errorf("Manifest (-want +got)\n%s", diff)
			}
		})
	}
}

func TestNotAllowedMakesNoRequest(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t)
	elsewhere := newFixture(t, true)
	ref := elsewhere.repo().WithDigest(Digest([]byte("x")))
	d := Descriptor{MediaType: MediaTypeOCIManifest, Digest: ref.Digest, Size: 1}
	for name, do := range map[string]func() error{
		"resolve":   func() error { _, err := c.Resolve(t.Context(), ref); return err },
		"manifest":  func() error { _, _, err := c.Manifest(t.Context(), ref); return err },
		"blob":      func() error { _, err := c.Blob(t.Context(), ref, d); return err },
		"referrers": func() error { _, err := listAll(t, c, ref); return err },
		"put": func() error {
			_, err := c.PutReferrer(t.Context(), ref, d, Artifact{ArtifactType: "a/b"})
			return err
		},
	} {
		if err := do(); !errors.Is(err, ErrNotAllowed) || Temporary(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := elsewhere.count(""); n != 0 {
		t.Errorf("%d requests reached a registry that is not allowed", n)
	}
	if c.Allowed(elsewhere.host) || !c.Allowed(f.host) {
		t.Error("Allowed is wrong")
	}
}

func TestHostileReferencesAreRefused(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t)
	for _, repository := range []string{"../secret", "a//b", "a/../b", "A", "a?x=1", "a#b", ""} {
		ref := imageref.Ref{Registry: f.host, Repository: repository, Tag: "v1"}
		if _, _, err := c.Manifest(t.Context(), ref); !errors.Is(err, ErrInvalidReference) {
			t.Errorf("%q: %v", repository, err)
		}
	}
	if n := f.count(""); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestErrorsKeepTheRegistrysWords(t *testing.T) {
	for _, tc := range []struct {
		status    int
		kind      error
		temporary bool
	}{
		{http.StatusNotFound, ErrNotFound, false},
		{http.StatusUnauthorized, ErrUnauthorized, false},
		{http.StatusForbidden, ErrUnauthorized, false},
		{http.StatusBadRequest, ErrRejected, false},
		{http.StatusTooManyRequests, ErrUnavailable, true},
		{http.StatusInternalServerError, ErrUnavailable, true},
		{http.StatusServiceUnavailable, ErrUnavailable, true},
	} {
		t.Run(fmt.Sprint(tc.status), func(t *testing.T) {
			f := newFixture(t, true)
			f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.URL.Path == "/v2/" {
					next.ServeHTTP(w, r)
					return
				}
				registryError(w, tc.status, "SOME_CODE", "the moon is in the wrong\\nphase")
			})
			c := f.client(t)
			recordSleeps(c)
			_, err := c.Resolve(t.Context(), f.repo().WithDigest(Digest(nil)))
			if !errors.Is(err, tc.kind) || Temporary(err) != tc.temporary {
				t.Fatalf("%v", err)
			}
			failure := new(Error)
			if !errors.As(err, &failure) || failure.StatusCode != tc.status {
				t.Fatalf("%#v", err)
			}
			// A HEAD that is over for good is followed by a GET, which has words.
			if !tc.temporary && (failure.Code != "SOME_CODE" || failure.Message != "the moon is in the wrong phase") {
				t.Errorf("words are lost: %+v", failure)
			}
		})
	}
}

func TestConcurrencyIsBounded(t *testing.T) {
	f := newFixture(t, true)
	var running, most atomic.Int32
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		n := running.Add(1)
		defer running.Add(-1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		time.Sleep(5 * time.Millisecond)
		next.ServeHTTP(w, r)
	})
	c := f.client(t, func(c *Config) { c.Registries[0].MaxConcurrent = 3 })
	done := make(chan error)
	for range 12 {
		go func() {
			_, err := c.Resolve(t.Context(), f.repo().WithDigest(Digest(nil)))
			done <- err
		}()
	}
	for range 12 {
		if err := <-done; !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	if most.Load() > 3 {
		t.Errorf("%d requests at a time", most.Load())
	}
}

func TestRateIsBounded(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t, func(c *Config) { c.Registries[0].RequestsPerSecond = 0.001 })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	// The one request that is free is spent on signing in.
	_, err := c.Resolve(ctx, f.repo().WithDigest(Digest(nil)))
	if !Temporary(err) || f.count("") > 1 {
		t.Errorf("%v after %d requests", err, f.count(""))
	}
}

func TestTraceReachesTheRegistry(t *testing.T) {
	f := newFixture(t, true)
	telemetry := obs.Discard("test")
	c, err := New(Config{Registries: []Host{{Host: f.host, Insecure: true}}}, telemetry)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, span := telemetry.Tracer().Start(t.Context(), "test")
	defer span.End()
	var seen atomic.Value
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		seen.Store(r.Header.Get("Traceparent"))
		next.ServeHTTP(w, r)
	})
	if _, err := c.Resolve(ctx, f.repo().WithDigest(Digest(nil))); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if got, _ := seen.Load().(string); !strings.Contains(got, obs.TraceID(ctx)) || obs.TraceID(ctx) == "" {
		t.Errorf("traceparent %q, trace %q", got, obs.TraceID(ctx))
	}
}

func TestConfigValidate(t *testing.T) {
	bad := Config{
		Registries: []Host{
			{Host: "registry.example/path"}, {Host: "a.example", Username: "u"},
			{Host: "a.example", MaxConcurrent: -1, RequestsPerSecond: -1},
		},
		MaxManifest: -1, MaxReferrers: -1, Timeout: -1, StallTimeout: -1, MaxAttempts: -1,
	}
	var p config.Problems
	bad.Validate(&p)
	err := p.Err()
	if err == nil {
		t.Fatal("no problems")
	}
	for _, want := range []string{
		"registries[0].host", "registries[1]", "registries[2].host", "registries[2].max_concurrent", "registries[2].requests_per_second",
		"max_manifest", "max_referrers", "timeout", "stall_timeout", "max_attempts",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word about %s in %v", want, err)
		}
	}
	var none config.Problems
	(&Config{}).Validate(&none)
	if none.Err() != nil || len(none.Warnings()) != 1 {
		t.Errorf("an empty configuration: %v, %v", none.Err(), none.Warnings())
	}
}
