package cosignvuln_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/cosignvuln"
)

func TestPredicate(t *testing.T) {
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	got, err := cosignvuln.Scan{
		ID: "scan-1", Start: begin, End: begin.Add(1500 * time.Millisecond),
		ScannerURI: "https://scanner.example", ScannerVersion: "1.2", DatabaseVersion: "sha256:00",
		Report: json.RawMessage(`{"a":"<b> & c"}`),
	}.Predicate()
	const want = `{"invocation":{"parameters":[],"uri":"https://scanner.example","event_id":"scan-1","builder.id":"https://scanner.example"},` +
		`"scanner":{"uri":"https://scanner.example","version":"1.2","db":{"uri":"","version":"sha256:00"},"result":{"a":"<b> & c"}},` +
		`"metadata":{"scanStartedOn":"2026-03-01T11:00:00Z","scanFinishedOn":"2026-03-01T11:00:01.5Z"}}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
	if got, err := (cosignvuln.Scan{Report: json.RawMessage("{")}).Predicate(); err == nil {
		t.Errorf("a report that is no JSON: %s", got)
	}
}
