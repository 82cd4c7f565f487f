// Package gate puts a reverse proxy with a gate in front of a server: a test can
// hold the requests it chooses, so that a service is caught in the middle of its
// step, refuse them, or cut the server off.
package gate

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Match chooses requests.
type Match func(*http.Request) bool

// Gate is a running proxy.
type Gate struct {
	server *httptest.Server
	proxy  *httputil.ReverseProxy

	mu     sync.Mutex
	hold   Match
	open   chan struct{}
	held   chan struct{}
	status int
	refuse Match
}

// New starts a proxy in front of target, a host and port of plain HTTP.
func New(t *testing.T, target string) *Gate {
	t.Helper()
	to := &url.URL{Scheme: "http", Host: target}
	g := &Gate{proxy: &httputil.ReverseProxy{
		// The Host of the client is kept, so that the server behind builds its
		// own addresses (upload locations) through the gate.
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway)
		},
	}}
	g.server = httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(func() {
		g.Open()
		g.server.CloseClientConnections()
		g.server.Close()
	})
	return g
}

// Addr is the proxy's host and port.
func (g *Gate) Addr() string { return strings.TrimPrefix(g.server.URL, "http://") }

// Hold closes the gate for matching requests: they wait until Open. The channel
// receives a value for the first request that waits.
func (g *Gate) Hold(m Match) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold, g.open, g.held = m, make(chan struct{}), make(chan struct{}, 1)
	return g.held
}

// Open lets every waiting request through and holds no more.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hold != nil {
		close(g.open)
		g.hold = nil
	}
	g.refuse = nil
}

// Refuse answers matching requests with status until Open.
func (g *Gate) Refuse(status int, m Match) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status, g.refuse = status, m
}

func (g *Gate) serve(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	hold, open, held, refuse, status := g.hold, g.open, g.held, g.refuse, g.status
	g.mu.Unlock()
	if refuse != nil && refuse(r) {
		w.WriteHeader(status)
		return
	}
	if hold != nil && hold(r) {
		select {
		case held <- struct{}{}:
		default:
		}
		select {
		case <-open:
		case <-r.Context().Done():
			return
		}
	}
	g.proxy.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
}

// Method matches requests by method and a part of the path.
func Method(method, pathPart string) Match {
	return func(r *http.Request) bool {
		return r.Method == method && strings.Contains(r.URL.Path, pathPart)
	}
}
