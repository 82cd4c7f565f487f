package command

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// TestAttestations_WhoAndWhen: of a certificate the whole name is shown and the proven
// time, of a key the beginning of its ID.
func TestAttestations_WhoAndWhen(t *testing.T) {
	t.Parallel()
	const workflow = "https://ci.example/org/project/.workflows/release.yml@refs/heads/main"
	key, proven := strings.Repeat("ab", 32), time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)
	var out bytes.Buffer
	s := &session{env: Env{Out: &out}}
	err := s.printAttestations(attestationList{Attestations: []evidence.Attestation{
		{PredicateType: attest.PredicateVSA, Verified: true, KeyID: workflow, CreateTime: proven.Add(-5 * time.Second), SignTime: proven},
		{PredicateType: attest.PredicateSPDX, Verified: true, KeyID: key, CreateTime: proven},
	}})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatal(out.String())
	}
	if !strings.Contains(lines[1], workflow) || !strings.Contains(lines[1], "2026-03-01T12:00:05Z") {
		t.Error(lines[1])
	}
	if strings.Contains(lines[2], key) || !strings.Contains(lines[2], key[:10]) || strings.Count(lines[2], "2026-03-01T12:00:0") != 1 {
		t.Error(lines[2])
	}
}
