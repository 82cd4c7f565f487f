package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
)

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

// A registry is asked once how its users sign in, for all repositories, and again when
// it came back with another way.
func TestGreetsOnce(t *testing.T) {
	f := newFixture(t, true)
	var tokens atomic.Bool
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case r.URL.Path == "/token":
			fmt.Fprint(w, `{"token":"t"}`)
		case tokens.Load() && r.Header.Get("Authorization") != "Bearer t":
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+f.host+`/token",service="test"`)
			registryError(w, http.StatusUnauthorized, "UNAUTHORIZED", "token please")
		default:
			next.ServeHTTP(w, r)
		}
	})
	c := f.client(t)
	d := f.push(t, c, "v1")
	ask := func(repository string) {
		t.Helper()
		ref := f.repo().WithDigest(d.Digest)
		ref.Repository = repository
		if _, err := c.Resolve(t.Context(), ref); err != nil && !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	for n := range 3 {
		ask(fmt.Sprint("team/other", n))
	}
	f.mu.Lock()
	asked := slices.DeleteFunc(slices.Clone(f.requests), func(r string) bool { return r != "GET /v2/" })
	f.mu.Unlock()
	if len(asked) != 1 {
		t.Errorf("greeted %d times", len(asked))
	}
	tokens.Store(true)
	ask("team/app")
	ask("team/other0")
	if n := f.count("GET /token"); n != 2 {
		t.Errorf("%d tokens for two repositories: %v", n, f.requests)
	}
	tokens.Store(false)
	ask("team/other1")
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

// TestExpiredToken: registries answer an expired token with 400 or 403 instead of 401.
// The token is refreshed once; a refusal that lasts is loud and temporary for what the
// registry let us do before, and costs no token each time.
func TestExpiredToken(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusForbidden} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			f := newFixture(t, true)
			var token, good atomic.Value
			token.Store("first")
			good.Store("first")
			f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				switch auth := r.Header.Get("Authorization"); {
				case r.URL.Path == "/token":
					fmt.Fprintf(w, `{"token":%q}`, token.Load())
				case auth == "" || auth == "Bearer ":
					w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+f.host+`/token",service="test"`)
					registryError(w, http.StatusUnauthorized, "UNAUTHORIZED", "token please")
				case auth != "Bearer "+good.Load().(string):
					registryError(w, status, "DENIED", "your authorization token has expired")
				default:
					next.ServeHTTP(w, r)
				}
			})
			c := f.client(t)
			now := time.Now()
			c.now = func() time.Time { return now }
			d := f.push(t, c, "v1")
			ref := f.repo().WithDigest(d.Digest)
			read := func() error {
				_, _, err := c.Manifest(t.Context(), ref)
				return err
			}
			if err := read(); err != nil {
				t.Fatal(err)
			}
			now = now.Add(time.Hour)
			token.Store("second")
			good.Store("second")
			if err := read(); err != nil {
				t.Errorf("after the token expired: %v", err)
			}
			if list, err := listAll(t, c, ref); err != nil || len(list) != 0 {
				t.Errorf("referrers: %v, %v", list, err)
			}
			good.Store("nobody's")
			for _, later := range []time.Duration{time.Hour, 0} {
				now = now.Add(later)
				before := f.count("GET /token")
				if err := read(); !Temporary(err) || !strings.Contains(err.Error(), "it let us before") {
					t.Errorf("refused in the middle: %v", err)
				}
				if n := f.count("GET /token") - before; later > 0 && n == 0 || later == 0 && n != 0 {
					t.Errorf("%d tokens after %s", n, later)
				}
			}
			if l, err := c.Referrers(t.Context(), ref, Filter{}); !Temporary(err) {
				t.Errorf("referrers: %+v, %v", l, err)
			}
		})
	}
}

// TestTokenServiceFails: a transport that cannot refresh its token is not kept.
func TestTokenServiceFails(t *testing.T) {
	f := newFixture(t, true)
	var token atomic.Value
	var broken atomic.Bool
	token.Store("first")
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case r.URL.Path == "/token" && broken.Load():
			registryError(w, http.StatusBadRequest, "INVALID_GRANT", "no")
		case r.URL.Path == "/token":
			fmt.Fprintf(w, `{"token":%q}`, token.Load())
		case r.Header.Get("Authorization") != "Bearer "+token.Load().(string):
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+f.host+`/token",service="test"`)
			registryError(w, http.StatusUnauthorized, "UNAUTHORIZED", "token please")
		default:
			next.ServeHTTP(w, r)
		}
	})
	c := f.client(t)
	d := f.push(t, c, "v1")
	ref := f.repo().WithDigest(d.Digest)
	if _, _, err := c.Manifest(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	token.Store("second")
	broken.Store(true)
	if _, _, err := c.Manifest(t.Context(), ref); !Temporary(err) {
		t.Errorf("the token service refuses: %v", err)
	}
	broken.Store(false)
	if _, _, err := c.Manifest(t.Context(), ref); err != nil {
		t.Errorf("it is back: %v", err)
	}
}

// A rotated password is seen without a restart.
func TestRotatedPassword(t *testing.T) {
	f := newFixture(t, true)
	var password atomic.Value
	password.Store("old")
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if _, got, _ := r.BasicAuth(); got != password.Load() {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			registryError(w, http.StatusUnauthorized, "UNAUTHORIZED", "who are you")
			return
		}
		next.ServeHTTP(w, r)
	})
	file := filepath.Join(t.TempDir(), "password")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	c := f.client(t, func(c *Config) {
		c.Registries[0].Username, c.Registries[0].Password = "robot", config.Secret{File: file}
	})
	d := f.push(t, c, "v1")
	if _, err := c.Resolve(t.Context(), f.repo().WithDigest(d.Digest)); err != nil {
		t.Fatal(err)
	}
	password.Store("new")
	if _, err := c.Resolve(t.Context(), f.repo().WithDigest(d.Digest)); !Temporary(err) || !errors.Is(err, ErrUnauthorized) {
		t.Errorf("before our file has it: %v", err)
	}
	write("new")
	if _, err := c.Resolve(t.Context(), f.repo().WithDigest(d.Digest)); err != nil {
		t.Error(err)
	}
}
