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
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
)

// TestSink_telemetry sends to subscribers whose URLs hold secrets and whose answers are
// hostile: no secret is recorded, and no answer becomes a label.
func TestSink_telemetry(t *testing.T) {
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
	host := strings.TrimPrefix(srv.URL, "http://")
	post := func(status string) {
		url := fmt.Sprintf("http://user:PASS-SECRET@%s/services/PATH-SECRET?token=QUERY-SECRET&status=%s#FRAGMENT-SECRET", host, status)
		result := sink(t, url, 5*time.Second, true, recording.Telemetry).Deliver(t.Context(), core.Notification{ID: "dlv_1"}, []byte(`"BODY-SECRET"`))
		if strings.Contains(result.Detail, "SECRET") {
			t.Errorf("detail holds a secret: %s", result.Detail)
		}
		if status != "" && strconv.Itoa(result.Code) != status {
			t.Errorf("status %d (%s), want %s", result.Code, result.Detail, status)
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
