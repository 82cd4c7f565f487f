package sigstoretest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// Relay stands before the real log, as something stands before every Rekor v2: its
// server takes entries in and writes files, which somebody else serves.
type Relay struct {
	tb                     testing.TB
	files                  string
	lose, lost, duplicates atomic.Int64
}

// Lose has the answers to the next n entries that the log takes in never arrive.
func (r *Relay) Lose(n int64) { r.lose.Store(n) }

// Lost is how many answers did not arrive.
func (r *Relay) Lost() int64 { return r.lost.Load() }

// Duplicates is how often the log said that it had the entry already.
func (r *Relay) Duplicates() int64 { return r.duplicates.Load() }

// Entries is how many entries the log has.
func (r *Relay) Entries() int64 {
	r.tb.Helper()
	raw, err := os.ReadFile(filepath.Join(r.files, "checkpoint"))
	if err != nil {
		r.tb.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n") // name, number of entries, hash
	n, err := strconv.ParseInt(lines[min(1, len(lines)-1)], 10, 64)
	if err != nil {
		r.tb.Fatal(err)
	}
	return n
}

// RelayRekor puts a relay before the log into the signing config. It is to be called
// before anybody reads that.
func (s *Sigstore) RelayRekor(t *testing.T) *Relay {
	t.Helper()
	target, err := url.Parse(s.at.rekor)
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{tb: t, files: s.rekorFiles}
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
	mux := http.NewServeMux()
	mux.Handle("POST /", proxy)
	mux.Handle("GET /api/v2/", http.StripPrefix("/api/v2/", http.FileServer(http.Dir(s.rekorFiles))))
	server := httptest.NewServer(mux)
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
