// Package webhooktest runs the golden payloads of an adapter through the whole server.
package webhooktest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/artifact"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook"
)

var update = flag.Bool("update", false, "write the golden files of webhook payloads")

// Secret and Registry are those of the source that sends the payloads.
const (
	Secret   = "a-secret-of-the-registry-32-bytes"
	Registry = "registry.example:5000"
)

// outcome is what a golden file holds.
type outcome struct {
	Status  int             `json:"status"`
	Receipt json.RawMessage `json:"receipt,omitempty"`
	Pushes  []core.Push     `json:"pushes,omitempty"`
	Hints   []core.Hint     `json:"hints,omitempty"`
}

type publisher struct{ outcome *outcome }

func (p publisher) Publish(_ context.Context, _ string, push core.Push) error {
	p.outcome.Pushes = append(p.outcome.Pushes, push)
	return nil
}

func (p publisher) Hint(_ context.Context, _ string, h core.Hint) error {
	p.outcome.Hints = append(p.outcome.Hints, h)
	return nil
}

// Run sends each `testdata/NAME.json` to the webhook of kind and compares the outcome with
// `testdata/NAME.golden`; `go test -update` writes the latter. prepare adds the headers with
// which the registry sends it, among them the proof of Secret.
func Run(t *testing.T, kind string, adapter webhook.Adapter, prepare func(h http.Header)) {
	t.Helper()
	payloads, err := filepath.Glob("testdata/*.json")
	if err != nil || len(payloads) == 0 {
		t.Fatalf("no payloads in testdata: %v", err)
	}
	for _, file := range payloads {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			payload, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := send(t, kind, adapter, prepare, payload)
			golden := strings.TrimSuffix(file, ".json") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("%s is missing: run go test -update and check it", golden)
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func send(t *testing.T, kind string, adapter webhook.Adapter, prepare func(h http.Header), payload []byte) []byte {
	t.Helper()
	out := &outcome{}
	s, err := server.New(server.Config{
		MaxBody: 16 << 20, Limits: webhook.DefaultLimits(), MaxConcurrent: 1,
		HeaderTimeout: time.Minute, BodyTimeout: time.Minute, PublishTimeout: time.Minute, RetryAfter: time.Second,
		Sources: []server.Source{{Name: "main", Kind: kind, Secret: Secret, Registry: Registry, RequestsPerSecond: 1, Burst: 1}},
	}, server.Deps{
		Adapters:  map[string]webhook.Adapter{kind: adapter},
		Publisher: publisher{out}, Ready: func() error { return nil }, IsOwnArtifact: artifact.IsEvidence,
		Telemetry: obs.Discard("gateway"), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	defer web.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, web.URL+"/webhooks/v1/"+kind+"/main", bytes.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	prepare(req.Header)
	resp, err := web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out.Status = resp.StatusCode
	receipt := map[string]any{}
	if err := json.NewDecoder(resp.Body).Decode(&receipt); err != nil {
		t.Fatal(err)
	}
	delete(receipt, "trace_id") // another one each time
	if out.Receipt, err = json.Marshal(receipt); err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}
