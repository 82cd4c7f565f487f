package webhook_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/sink/webhook"
)

func notification() core.Notification {
	return core.Notification{
		ID: "dlv_1", Source: "spiffe://seaworthy.local/service/verifier",
		Time:        time.Date(2026, 3, 1, 12, 0, 0, 5000, time.FixedZone("", 3600)),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Image:       "registry.example:5000/team/app", Tag: "1.0", Digest: "sha256:" + strings.Repeat("a", 64),
		State: "FAIL", PreviousState: "PASS", Reasons: []string{"CVE-2022-32149 in golang.org/x/text"},
		VerdictDigest: "sha256:" + strings.Repeat("b", 64), TraceID: "0af7651916cd43dd8448eb211c80319c",
	}
}

func render(n core.Notification) ([]byte, error) { return (&webhook.Sink{}).Render(n) }

// The body is a contract with subscribers: it is compared as a whole.
func TestRender(t *testing.T) {
	body, err := render(notification())
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

func TestRender_noReasons(t *testing.T) {
	n := notification()
	n.Reasons = nil
	body, err := render(n)
	if err != nil || !strings.Contains(string(body), `"reasons":[]`) {
		t.Errorf("%s, %v", body, err)
	}
}

func TestRender_limit(t *testing.T) {
	n := notification()
	n.Reasons = nil
	for i := range 20 {
		// Each character is six bytes in JSON.
		n.Reasons = append(n.Reasons, fmt.Sprint(i)+strings.Repeat("\x01", 490))
	}
	body, err := render(n)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Data struct {
			Reasons        []string
			ReasonsOmitted int `json:"reasons_omitted"`
		}
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if len(body) > webhook.MaxBody || len(got.Data.Reasons) == 0 || len(got.Data.Reasons)+got.Data.ReasonsOmitted != 20 ||
		got.Data.Reasons[0] != n.Reasons[0] {
		t.Errorf("%d bytes, %d reasons, %d omitted", len(body), len(got.Data.Reasons), got.Data.ReasonsOmitted)
	}
	n.Image = strings.Repeat("a", webhook.MaxBody)
	if _, err := render(n); err == nil {
		t.Error("no error although it cannot fit")
	}
}

// FuzzRender: whatever an image, a tag or a reason says, the message is valid JSON within
// the limit.
func FuzzRender(f *testing.F) {
	f.Add("registry.example/a", "1.0", "CVE-2022-32149", 3)
	f.Add("a\x00\u202e", "\xff", strings.Repeat("😀", 300), 200)
	f.Fuzz(func(t *testing.T, image, tag, reason string, reasons int) {
		n := notification()
		n.Image, n.Tag, n.Reasons = image, tag, nil
		for range min(max(reasons, 0), 500) {
			n.Reasons = append(n.Reasons, reason)
		}
		body, err := render(n)
		if err == nil && (len(body) > webhook.MaxBody || !json.Valid(body)) {
			t.Errorf("%d bytes: %q", len(body), body)
		}
	})
}
