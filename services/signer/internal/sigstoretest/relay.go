package sigstoretest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// Relay stands before the real log.
type Relay struct {
	lose, lost, duplicates atomic.Int64
}

// Lose has the answers to the next n entries that the log takes in never arrive.
func (r *Relay) Lose(n int64) { r.lose.Store(n) }

// Lost is how many answers did not arrive.
func (r *Relay) Lost() int64 { return r.lost.Load() }

// Duplicates is how often the log said that it had the entry already.
func (r *Relay) Duplicates() int64 { return r.duplicates.Load() }

// RelayRekor puts a relay before the log into the signing config. It is to be called
// before anybody reads that.
func (s *Sigstore) RelayRekor(t *testing.T) *Relay {
	t.Helper()
	target, err := url.Parse(s.at.rekor)
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) },
		ModifyResponse: func(resp *http.Response) error {
			switch {
			case resp.StatusCode == http.StatusConflict:
				r.duplicates.Add(1)
			case resp.StatusCode == http.StatusCreated && r.lose.Add(-1) >= 0:
				r.lost.Add(1)
				_ = resp.Body.Close()
				panic(http.ErrAbortHandler) // the connection ends in the middle
			}
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() {
		server.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections() //nolint:forcetypeassert // nobody replaced it
	})
	raw, err := os.ReadFile(s.SigningConfig)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.SigningConfig, []byte(strings.ReplaceAll(string(raw), s.at.rekor, server.URL)))
	return r
}
