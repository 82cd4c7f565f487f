package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/obs/obstest"
)

// TestSeriesOfStrangers sends hosts, methods, paths, headers, repositories and tags that
// somebody made up, with and without the secret: none becomes a label.
func TestSeriesOfStrangers(t *testing.T) {
	f := start(t, nil)
	send := func(n int) {
		mark := fmt.Sprintf("hostile-%d", n)
		for _, authorization := range []string{"Bearer " + secret, "Bearer " + mark, ""} {
			for _, method := range []string{http.MethodPost, http.MethodGet, strings.ToUpper(mark)} {
				for _, path := range []string{path, "/webhooks/v1/distribution/" + mark, "/" + mark, "/readyz?" + mark} {
					pushed := strings.ReplaceAll(event(mark, mark), "team/app", "team/"+mark)
					f.do(t, request{
						method: method, path: path, body: envelope(pushed, fmt.Sprintf(`{"action":%q}`, mark)),
						header: map[string]string{
							"Authorization": authorization, "User-Agent": mark, "X-Forwarded-For": mark, "Forwarded": "host=" + mark,
							"Traceparent": mark, "Tracestate": "a=" + mark, "Baggage": "a=" + mark, "Origin": "http://" + mark,
						},
						host: fmt.Sprintf("%s.test:%d", mark, 1000+n),
					})
				}
			}
		}
	}
	send(0)
	before := obstest.Series(t, f.tel.Registry)
	for n := 1; n < 6; n++ {
		send(n)
	}
	obstest.NoNewSeries(t, before, f.tel.Registry, "hostile")
	if len(before) > 60 {
		t.Errorf("%d series of one request each kind", len(before))
	}
}
