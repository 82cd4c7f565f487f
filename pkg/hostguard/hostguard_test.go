package hostguard_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/hostguard"
)

func TestHandler(t *testing.T) {
	t.Parallel()
	loopback, everywhere := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5000}, &net.TCPAddr{IP: net.IPv4zero, Port: 5000}
	for name, tc := range map[string]struct {
		listener net.Addr
		host     string
		origin   []string
		want     int
	}{
		"address":                  {loopback, "127.0.0.1:5000", nil, http.StatusOK},
		"IPv6":                     {loopback, "[::1]:5000", nil, http.StatusOK},
		"IPv6 without a port":      {loopback, "[::1]", nil, http.StatusOK},
		"localhost":                {loopback, "LocalHost.:5000", nil, http.StatusOK},
		"below localhost":          {loopback, "registry.localhost:5000", nil, http.StatusOK},
		"configured":               {loopback, "registry.test:5000", nil, http.StatusOK},
		"rebound name":             {loopback, "evil.example:5000", nil, http.StatusMisdirectedRequest},
		"name like an address":     {loopback, "127.0.0.1.evil.example:5000", nil, http.StatusMisdirectedRequest},
		"no host":                  {loopback, "", nil, http.StatusMisdirectedRequest},
		"rebound, its own origin":  {loopback, "evil.example:5000", []string{"http://evil.example:5000"}, http.StatusMisdirectedRequest},
		"foreign origin":           {loopback, "127.0.0.1:5000", []string{"https://evil.example"}, http.StatusForbidden},
		"origin of a sandbox":      {loopback, "127.0.0.1:5000", []string{"null"}, http.StatusForbidden},
		"two origins":              {loopback, "127.0.0.1:5000", []string{"http://localhost", "https://evil.example"}, http.StatusForbidden},
		"own origin":               {loopback, "127.0.0.1:5000", []string{"http://localhost:5000"}, http.StatusOK},
		"name on all interfaces":   {everywhere, "scanner.fleet.svc:9090", nil, http.StatusOK},
		"origin on all interfaces": {everywhere, "scanner.fleet.svc:9090", []string{"http://evil.example"}, http.StatusForbidden},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/v2/a/manifests/b", http.NoBody)
		r.Host = tc.host
		if tc.origin != nil {
			r.Header["Origin"] = tc.origin
		}
		w := httptest.NewRecorder()
		hostguard.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), tc.listener, "registry.test").ServeHTTP(w, r)
		if w.Code != tc.want {
			t.Errorf("%s: %d, want %d", name, w.Code, tc.want)
		}
	}
}
