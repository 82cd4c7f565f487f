package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/codes"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs/obstest"
)

// TestTelemetryHasNoSecretsAndFewSeries reads from a registry that redirects to hosts of
// its choice with presigned URLs, and from repositories and tags that somebody chose.
func TestTelemetryHasNoSecretsAndFewSeries(t *testing.T) {
	f := newFixture(t, true)
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }))
	defer storage.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(storage.URL, "http://"), ":")
	recording := obstest.Record("scanner")
	c, err := New(Config{
		Registries:  []Host{{Host: f.host, Insecure: true, Username: "app", Password: config.Secret{Value: "PASS-SECRET"}}},
		MaxAttempts: 1,
	}, recording.Telemetry)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var n atomic.Int64
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			next.ServeHTTP(w, r)
			return
		}
		i := n.Add(1)
		host := fmt.Sprintf("127.0.0.%d:%s", 1+i%2, port) // the second answers nobody: the error has the URL
		if i%3 == 0 {
			host = fmt.Sprintf("hostile-%d.invalid", i)
		}
		http.Redirect(w, r, "http://user:INFO-SECRET@"+host+"/bucket?X-Amz-Signature=QUERY-SECRET", http.StatusTemporaryRedirect)
	})
	read := func(i int) {
		ref := imageref.Ref{Registry: f.host, Repository: fmt.Sprintf("hostile/%d", i), Tag: fmt.Sprintf("hostile-%d", i)}
		if _, err := c.Resolve(t.Context(), ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("Resolve() = %v", err)
		}
		content, err := c.Blob(t.Context(), ref, Descriptor{Digest: Digest(nil), Size: 1})
		if err == nil {
			_, err = io.ReadAll(content)
			content.Close()
		}
		if err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("Blob() = %v", err)
		}
	}
	for i := range 6 {
		read(i)
	}
	before := obstest.Series(t, recording.Registry)
	for i := range 12 {
		read(100 + i)
	}
	obstest.NoNewSeries(t, before, recording.Registry, "hostile")
	recording.NoSecret(t, "SECRET")
	for _, s := range recording.Spans() {
		for _, a := range s.Attributes {
			if a.Key == "http.response.status_code" && a.Value.AsInt64() == http.StatusNotFound && s.Status.Code == codes.Error {
				t.Errorf("%s: asking for what is not there is an error", s.Name)
			}
		}
	}
}
