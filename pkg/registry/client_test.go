package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
		"referrers": func() error { _, err := c.Referrers(t.Context(), ref); return err },
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

func TestBasicCredentials(t *testing.T) {
	f := newFixture(t, true)
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if user, password, _ := r.BasicAuth(); user != "robot" || password != "s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			registryError(w, http.StatusUnauthorized, "UNAUTHORIZED", "who are you")
			return
		}
		next.ServeHTTP(w, r)
	})
	withPassword := func(password string) func(*Config) {
		return func(c *Config) {
			c.Registries[0].Username, c.Registries[0].Password = "robot", config.Secret{Value: password}
		}
	}
	c := f.client(t, withPassword("s3cret"))
	d := f.push(t, c, "v1")
	if _, err := c.Resolve(t.Context(), f.repo().WithDigest(d.Digest)); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]*Client{"wrong password": f.client(t, withPassword("guess")), "anonymous": f.client(t)} {
		_, err := c.Resolve(t.Context(), f.repo().WithDigest(d.Digest))
		if !errors.Is(err, ErrUnauthorized) || Temporary(err) || !strings.Contains(err.Error(), "who are you") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "guess") {
			t.Errorf("%s: the password is in the error", name)
		}
	}
}

func TestTokenFlow(t *testing.T) {
	f := newFixture(t, true)
	var token atomic.Value
	token.Store("first")
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path == "/token" {
			if user, _, _ := r.BasicAuth(); user != "robot" {
				registryError(w, http.StatusUnauthorized, "UNAUTHORIZED", "no such robot")
				return
			}
			fmt.Fprintf(w, `{"token":%q}`, token.Load())
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+token.Load().(string) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+f.host+`/token",service="test"`)
			registryError(w, http.StatusUnauthorized, "UNAUTHORIZED", "token please")
			return
		}
		next.ServeHTTP(w, r)
	})
	robot := func(c *Config) {
		c.Registries[0].Username, c.Registries[0].Password = "robot", config.Secret{Value: "x"}
	}
	c := f.client(t, robot)
	d := f.push(t, c, "v1")
	token.Store("second") // the first one has expired
	if _, _, err := c.Manifest(t.Context(), f.repo().WithDigest(d.Digest)); err != nil {
		t.Error(err)
	}
	if n := f.count("GET /token?scope=repository%3Ateam%2Fapp%3Apull%2Cpush"); n == 0 {
		t.Errorf("no token for pushing was asked for: %v", f.requests)
	}
	if _, _, err := f.client(t).Manifest(t.Context(), f.repo().WithDigest(d.Digest)); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("anonymous: %v", err)
	}
}

func TestLyingDigests(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t)
	d := f.push(t, c, "v1")
	blob := []byte("0123456789")
	tgt, err := c.target("test", f.repo())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.putBlob(t.Context(), tgt, blob); err != nil {
		t.Fatal(err)
	}
	bd := Descriptor{Digest: Digest(blob), Size: int64(len(blob))}
	if got, err := c.ReadBlob(t.Context(), f.repo(), bd, 100); err != nil || !bytes.Equal(got, blob) {
		t.Fatalf("honest blob: %q, %v", got, err)
	}
	if _, err := c.ReadBlob(t.Context(), f.repo(), bd, 9); !errors.Is(err, ErrTooLarge) {
		t.Errorf("blob over the limit: %v", err)
	}
	for name, lie := range map[string]string{"other bytes": "0123456780", "too short": "012345678", "too long": "01234567890", "empty": ""} {
		for _, chunked := range []bool{false, true} {
			f.intercept(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				if chunked {
					w.(http.Flusher).Flush()
				}
				io.WriteString(w, lie)
			})
			if _, err := c.ReadBlob(t.Context(), f.repo(), bd, 100); !errors.Is(err, ErrDigestMismatch) {
				t.Errorf("%s, chunked %v: %v", name, chunked, err)
			}
		}
	}
	f.intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", MediaTypeOCIManifest)
		w.Header().Set("Docker-Content-Digest", Digest([]byte("something else")))
		if r.Method == http.MethodGet {
			io.WriteString(w, testManifest+" ")
		} else {
			w.Header().Set("Content-Length", "100")
		}
	})
	byTag := f.repo()
	byTag.Tag = "v1"
	for name, ref := range map[string]imageref.Ref{"by digest": f.repo().WithDigest(d.Digest), "by tag": byTag} {
		if _, _, err := c.Manifest(t.Context(), ref); !errors.Is(err, ErrDigestMismatch) {
			t.Errorf("manifest %s: %v", name, err)
		}
	}
	if _, err := c.Resolve(t.Context(), f.repo().WithDigest(d.Digest)); !errors.Is(err, ErrDigestMismatch) {
		t.Errorf("resolve: %v", err)
	}
}

func TestManifestLimitsAndShapes(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t, func(c *Config) { c.MaxManifest = 1000 })
	for name, tc := range map[string]struct {
		body string
		want error
	}{
		"oversized":           {`{"x":"` + strings.Repeat("a", 1000) + `"}`, ErrTooLarge},
		"not JSON":            {"<html>", ErrMalformed},
		"both":                {`{"layers":[],"manifests":[]}`, ErrMalformed},
		"index with layers":   {`{"mediaType":"` + MediaTypeOCIIndex + `","layers":[]}`, ErrMalformed},
		"manifest with index": {`{"mediaType":"` + MediaTypeOCIManifest + `","manifests":[]}`, ErrMalformed},
		"fine":                {`{"mediaType":"` + MediaTypeOCIManifest + `"}`, nil},
	} {
		f.intercept(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { io.WriteString(w, tc.body) })
		if _, _, err := c.Manifest(t.Context(), f.repo().WithDigest(Digest([]byte(tc.body)))); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStalledStreamEnds(t *testing.T) {
	f := newFixture(t, true)
	release := make(chan struct{})
	defer close(release)
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path == "/v2/" {
			next.ServeHTTP(w, r)
			return
		}
		io.WriteString(w, "01")
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	c := f.client(t, func(c *Config) { c.StallTimeout = 50 * time.Millisecond })
	_, err := c.ReadBlob(t.Context(), f.repo(), Descriptor{Digest: Digest(nil), Size: 10}, 100)
	if !errors.Is(err, errStalled) || !Temporary(err) {
		t.Errorf("%v", err)
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

func TestSecureMeansSecure(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t, func(c *Config) { c.Registries[0].Insecure, c.MaxAttempts = false, 1 })
	if _, err := c.Resolve(t.Context(), f.repo().WithDigest(Digest(nil))); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if n := f.count(""); n != 0 {
		t.Errorf("%d plain requests reached a registry that is not configured as insecure", n)
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

func TestRedirectsKeepTheScheme(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure, err := http.NewRequest(http.MethodGet, "https://registry.example/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	next, err := http.NewRequest(http.MethodGet, plain.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkRedirect(next, []*http.Request{secure}); !errors.Is(err, errRedirect) {
		t.Errorf("https to http: %v", err)
	}
	put := secure.Clone(t.Context())
	put.Method = http.MethodPut
	if err := checkRedirect(secure, []*http.Request{put}); !errors.Is(err, errRedirect) {
		t.Errorf("PUT: %v", err)
	}
	if err := checkRedirect(secure, []*http.Request{secure}); err != nil {
		t.Error(err)
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
