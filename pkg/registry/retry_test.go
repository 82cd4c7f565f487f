package registry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

func TestRetryHonoursRetryAfter(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t)
	d := f.push(t, c, "v1")
	var left atomic.Int32
	left.Store(2)
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/manifests/") && left.Add(-1) >= 0 {
			w.Header().Set("Retry-After", "7")
			registryError(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "slow down")
			return
		}
		next.ServeHTTP(w, r)
	})
	slept := recordSleeps(c)
	if _, _, err := c.Manifest(t.Context(), f.repo().WithDigest(d.Digest)); err != nil {
		t.Fatal(err)
	}
	if len(*slept) != 2 || (*slept)[0] < 7*time.Second || (*slept)[0] > 10*time.Second {
		t.Errorf("slept %v", *slept)
	}
}

func TestRetryRespectsDeadlineAndBound(t *testing.T) {
	f := newFixture(t, true)
	retryAfter := "30"
	f.intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Retry-After", retryAfter)
		registryError(w, http.StatusServiceUnavailable, "UNAVAILABLE", "later")
	})
	c := f.client(t)
	slept := recordSleeps(c)
	ref := f.repo().WithDigest(Digest(nil))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := c.Manifest(ctx, ref); !errors.Is(err, ErrUnavailable) || len(*slept) != 0 {
		t.Errorf("waiting past the deadline: %v, slept %v", err, *slept)
	}
	retryAfter = "3600"
	_, _, err := c.Manifest(t.Context(), ref)
	if failure := new(Error); !errors.As(err, &failure) || len(*slept) != 0 {
		t.Errorf("waiting for an hour: %v, slept %v", err, *slept)
	}
	retryAfter = ""
	if _, _, err := c.Manifest(t.Context(), ref); !errors.Is(err, ErrUnavailable) || len(*slept) != DefaultMaxAttempts-1 {
		t.Errorf("attempts are not bounded: %v, slept %v", err, *slept)
	}
}

func TestBackoff(t *testing.T) {
	for attempt := 1; attempt < 40; attempt++ {
		if d := backoff(attempt, 0); d < firstBackoff/2 || d > maxBackoff {
			t.Errorf("backoff(%d) = %v", attempt, d)
		}
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-5": 0, "soon": 0, "99999999999": 24 * time.Hour,
		now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):       0,
	} {
		if got := parseRetryAfter(in, now); got != want && in != "99999999999" || got > 24*time.Hour {
			t.Errorf("parseRetryAfter(%q) = %v, want %v", in, got, want)
		}
	}
}

func TestRegistryDownThenBack(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t)
	d := f.push(t, c, "v1")
	back := f.host
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	lis.Close()

	c, err = New(Config{Registries: []Host{{Host: addr, Insecure: true}}}, obs.Discard("test"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ref := imageref.Ref{Registry: addr, Repository: "team/app", Digest: d.Digest}
	var front *http.Server
	tries := 0
	c.sleep = func(ctx context.Context, _ time.Duration) error {
		if tries++; tries == 2 {
			lis, err := net.Listen("tcp", addr)
			if err != nil {
				return err
			}
			front = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				resp, err := http.Get("http://" + back + r.URL.Path)
				if err != nil {
					w.WriteHeader(http.StatusBadGateway)
					return
				}
				defer resp.Body.Close()
				w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
				w.WriteHeader(resp.StatusCode)
				io.Copy(w, resp.Body)
			})}
			go front.Serve(lis)
		}
		return ctx.Err()
	}
	if _, _, err := c.Manifest(t.Context(), ref); err != nil {
		t.Fatalf("the registry came back, but: %v", err)
	}
	front.Close()
	http.DefaultClient.CloseIdleConnections()
	tries = 10
	if _, _, err := c.Manifest(t.Context(), ref); !errors.Is(err, ErrUnavailable) || !Temporary(err) {
		t.Errorf("a registry that is down: %v", err)
	}
}
