package lifecycle

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyBody is the JSON of /readyz.
type readyBody struct {
	// Ready is what the status code says: 200 or 503.
	Ready bool `json:"ready"`
	// Components maps each component to "ready" or the reason why it is not.
	Components map[string]string `json:"components"`
}

// AdminHandler serves /healthz (200 as long as the process answers), /readyz
// (200 or 503, with the state of every component as JSON) and /metrics
// (Prometheus). The texts may name addresses: serve it on a private address only.
func AdminHandler(r *Readiness, reg prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		body := readyBody{Ready: true, Components: map[string]string{}}
		for name, err := range r.Components() {
			body.Components[name] = "ready"
			if err != nil {
				body.Components[name] = err.Error()
				body.Ready = body.Ready && isDegraded(err)
			}
		}
		data, err := json.Marshal(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !body.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		w.Write(append(data, '\n'))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	return mux
}
