package app_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	prototrustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/output"
	"github.com/seaworthy-dev/seaworthy/services/signer/app"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

// listen has the fleet's next signer log for the test.
func (f *fleet) listen() *output.Buffer {
	s := &output.Buffer{}
	f.logger = slog.New(slog.NewTextHandler(s, nil))
	return s
}

// TestSigner_LogThatTakesWholeStatements has a Rekor v1 as the log: the signer says at its
// start that max_sbom is more than the identity takes, and what the log refuses for its
// size becomes a dead letter that says what to do.
func TestSigner_LogThatTakesWholeStatements(t *testing.T) {
	rekor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = w.Write([]byte(`{"code":413,"message":"Request Entity Too Large"}`))
	}))
	t.Cleanup(rekor.Close)
	either := root.ServiceConfiguration{Selector: prototrustroot.ServiceSelector_ANY}
	signing, err := root.NewSigningConfig(root.SigningConfigMediaType02, nil, nil, []root.Service{
		{URL: rekor.URL, MajorAPIVersion: 1, ValidityPeriodStart: time.Now().Add(-time.Hour), Operator: "test"},
	}, either, nil, either)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signing.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t)
	f.useSigstore(sigstoretest.Small(t), app.WitnessLog)
	f.cfg.Identities = f.cfg.Identities[:1]
	f.cfg.Sigstore.SigningConfig = filepath.Join(t.TempDir(), "signing_config.json")
	if err := os.WriteFile(f.cfg.Sigstore.SigningConfig, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(maxSBOM int64) (warned bool) {
		f.cfg.MaxSBOM = config.Bytes(maxSBOM)
		logged := f.listen()
		f.start()
		return strings.Contains(logged.String(), "max_sbom is more than the identity takes")
	}
	if start(attest.MaxStatement) {
		t.Error("warned of what it takes")
	}
	f.stop()
	if !start(attest.MaxStatement + 1) {
		t.Error("not warned of what it does not take")
	}
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	letter := f.deadLetter(0)
	if letter.GetReason() != "EVIDENCE_TOO_LARGE" || letter.GetAttempts() != 1 {
		t.Errorf("dead letter = %s after %d attempts", letter.GetReason(), letter.GetAttempts())
	}
	for _, want := range []string{"Rekor v1", "max_request_body_size", "sigstore.signing_config", "leave log out"} {
		if !strings.Contains(letter.GetMessage(), want) {
			t.Errorf("%q is not in %s", want, letter.GetMessage())
		}
	}
	if got := f.types(image); len(got) != 0 {
		t.Errorf("attached: %v", got)
	}
}
