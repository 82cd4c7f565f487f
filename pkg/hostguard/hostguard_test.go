package hostguard_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/hostguard"
)

func TestHandler(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		host   string
		origin []string
		want   int
	}{
		"address":                 {"127.0.0.1:5000", nil, http.StatusOK},
		"IPv6":                    {"[::1]:5000", nil, http.StatusOK},
		"IPv6 without a port":     {"[::1]", nil, http.StatusOK},
		"localhost":               {"LocalHost.:5000", nil, http.StatusOK},
		"below localhost":         {"registry.localhost:5000", nil, http.StatusOK},
		"configured":              {"registry.test:5000", nil, http.StatusOK},
		"rebound name":            {"evil.example:5000", nil, http.StatusMisdirectedRequest},
		"name like an address":    {"127.0.0.1.evil.example:5000", nil, http.StatusMisdirectedRequest},
		"no host":                 {"", nil, http.StatusMisdirectedRequest},
		"rebound, its own origin": {"evil.example:5000", []string{"http://evil.example:5000"}, http.StatusMisdirectedRequest},
		"foreign origin":          {"127.0.0.1:5000", []string{"https://evil.example"}, http.StatusForbidden},
		"origin of a sandbox":     {"127.0.0.1:5000", []string{"null"}, http.StatusForbidden},
		"two origins":             {"127.0.0.1:5000", []string{"http://localhost", "https://evil.example"}, http.StatusForbidden},
		"own origin":              {"127.0.0.1:5000", []string{"http://localhost:5000"}, http.StatusOK},
		"address of a network":    {"192.0.2.7:9200", nil, http.StatusOK},
		"name of a container":     {"scanner:9201", nil, http.StatusOK},
		"name in a cluster":       {"scanner.fleet.svc:9201", nil, http.StatusMisdirectedRequest},
		"configured in capitals":  {"Scanner.Test.:9201", nil, http.StatusOK},
		"origin without a dot":    {"scanner:9201", []string{"http://scanner:9201"}, http.StatusOK},
		"page of an address":      {"127.0.0.1:5000", []string{"http://192.0.2.9:5000"}, http.StatusForbidden},
		"page without a dot":      {"scanner:9201", []string{"http://intranet"}, http.StatusForbidden},
		"origin only a dot":       {".", nil, http.StatusMisdirectedRequest},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/v2/a/manifests/b", http.NoBody)
		r.Host = tc.host
		if tc.origin != nil {
			r.Header["Origin"] = tc.origin
		}
		w := httptest.NewRecorder()
		hostguard.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "registry.test", "scanner.TEST.").ServeHTTP(w, r)
		if w.Code != tc.want {
			t.Errorf("%s: %d, want %d", name, w.Code, tc.want)
		}
	}
}
