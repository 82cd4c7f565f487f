package webhook_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/obs/obstest"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/webhook"
)

// TestClient_telemetry sends to subscribers whose URLs hold secrets and whose answers are
// hostile: no secret is recorded, and no answer becomes a label.
func TestClient_telemetry(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(r.URL.Query().Get("status"))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Location", "https://"+r.URL.Query().Get("status")+".hostile.test/ANSWER-SECRET")
		w.Header().Set("Server", "hostile")
		w.WriteHeader(status)
		fmt.Fprint(w, "ANSWER-SECRET")
	}))
	defer srv.Close()
	recording := obstest.Record("notifier")
	c, err := webhook.NewClient(5*time.Second, recording.Telemetry, func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	post := func(status string) {
		url := fmt.Sprintf("http://user:PASS-SECRET@%s/services/PATH-SECRET?token=QUERY-SECRET&status=%s#FRAGMENT-SECRET", host, status)
		result := c.Send(t.Context(), target(t, url), webhook.Message{ID: "dlv_1", Body: []byte(`"BODY-SECRET"`), Traceparent: traceparent})
		if result.Err != nil && strings.Contains(result.Err.Error(), "SECRET") {
			t.Errorf("error holds a secret: %v", result.Err)
		}
		if status != "" && strconv.Itoa(result.Status) != status {
			t.Errorf("status %d (%v), want %s", result.Status, result.Err, status)
		}
	}
	for _, status := range []string{"200", "500", "299", ""} {
		post(status)
	}
	before := obstest.Series(t, recording.Registry)
	for status := 520; status < 999; status += 13 {
		post(strconv.Itoa(status))
	}
	obstest.NoNewSeries(t, before, recording.Registry, "hostile")
	recording.NoSecret(t, "SECRET")
	for _, s := range recording.Spans() {
		for _, a := range s.Attributes {
			if a.Key == "url.full" && a.Value.AsString() != srv.URL {
				t.Errorf("url.full = %s", a.Value.AsString())
			}
		}
	}
	if len(recording.Spans()) < 20 {
		t.Errorf("%d spans", len(recording.Spans()))
	}
}
