package webhook_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/webhook"
)

func event() webhook.Event {
	return webhook.Event{
		ID: "dlv_1", Source: "spiffe://seaworthy.local/service/verifier",
		Time:        time.Date(2026, 3, 1, 12, 0, 0, 5000, time.FixedZone("", 3600)),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Verdict: webhook.Verdict{
			Image: "registry.example:5000/team/app", Tag: "1.0", Digest: "sha256:" + strings.Repeat("a", 64),
			State: "FAIL", PreviousState: "PASS", Reasons: []string{"CVE-2022-32149 in golang.org/x/text"},
			VerdictDigest: "sha256:" + strings.Repeat("b", 64), TraceID: "0af7651916cd43dd8448eb211c80319c",
		},
	}
}

// The body is a contract with subscribers: it is compared as a whole.
func TestEvent_Encode(t *testing.T) {
	body, err := event().Encode()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/verdict-reached.json")
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(want, &b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("%s\n%s", diff, body)
	}
}

func TestEvent_Encode_noReasons(t *testing.T) {
	e := event()
	e.Verdict.Reasons = nil
	body, err := e.Encode()
	if err != nil || !strings.Contains(string(body), `"reasons":[]`) {
		t.Errorf("%s, %v", body, err)
	}
}

func TestEvent_Encode_limit(t *testing.T) {
	e := event()
	e.Verdict.Reasons = nil
	for i := range 20 {
		// Each character is six bytes in JSON.
		e.Verdict.Reasons = append(e.Verdict.Reasons, fmt.Sprint(i)+strings.Repeat("\x01", 490))
	}
	body, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Data webhook.Verdict }
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if len(body) > webhook.MaxBody || len(got.Data.Reasons) == 0 || len(got.Data.Reasons)+got.Data.ReasonsOmitted != 20 ||
		got.Data.Reasons[0] != e.Verdict.Reasons[0] {
		t.Errorf("%d bytes, %d reasons, %d omitted", len(body), len(got.Data.Reasons), got.Data.ReasonsOmitted)
	}
	e.Verdict.Image = strings.Repeat("a", webhook.MaxBody)
	if _, err := e.Encode(); err == nil {
		t.Error("no error although it cannot fit")
	}
}
