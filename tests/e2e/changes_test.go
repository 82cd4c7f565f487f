package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
	"github.com/seaworthy-dev/seaworthy/tests/internal/repo"
)

// newAdvisory is about the curl of images.Clean, which nothing was known against. It states
// kev as the shipped records do: otherwise nobody would know what is exploited.
const newAdvisory = `{
  "id": "DEBIAN-CVE-2099-0001", "modified": "2026-01-01T00:00:00Z", "upstream": ["CVE-2099-0001"],
  "summary": "made up for a test",
  "affected": [{
    "package": {"ecosystem": "Debian:12", "name": "curl"},
    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "7.88.1-10+deb12u99"}]}]
  }],
  "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
  "database_specific": {"kev": false}
}`

// What is true about an image changes after its push: each change enters where it
// belongs, goes the whole way, and is told with its cause.
func TestE2E_VerdictsFollowTheWorld(t *testing.T) {
	a := allinone.Start(t, nil)
	digest := images.Push(t, images.Clean(t, "follow"), a.Registry()+"/e2e/follow:1")
	wantState(t, a.Verdict(t, digest), verifierv1.Verdict_STATE_PASS)
	changes := watch(t, a, digest)

	importAdvisories(t, a, []byte(newAdvisory))
	v := changes.next(t)
	wantState(t, v, verifierv1.Verdict_STATE_FAIL)
	wantCause(t, a, digest, verifierv1.VerdictChange_CAUSE_ADVISORIES)

	if _, err := a.Exceptions.CreateException(t.Context(), &verifierv1.CreateExceptionRequest{Exception: &verifierv1.Exception{
		Name: "curl-not-reachable", Target: "CVE-2099-0001", Repositories: a.Registry() + "/e2e/*",
		Owner: "team-e2e", Reason: "the image never calls it", Justification: "vulnerable_code_not_in_execute_path",
		ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}}); err != nil {
		t.Fatal(err)
	}
	v = changes.next(t)
	wantState(t, v, verifierv1.Verdict_STATE_PASS)
	wantReason(t, v, "RULE_EXCEPTED")
	wantCause(t, a, digest, verifierv1.VerdictChange_CAUSE_EXCEPTION)
	// Other tools hear of the exception from the image itself.
	awaitAttestation(t, a, digest, attest.PredicateOpenVEX)

	if _, err := a.Exceptions.DeleteException(t.Context(), &verifierv1.DeleteExceptionRequest{Name: "curl-not-reachable"}); err != nil {
		t.Fatal(err)
	}
	wantState(t, changes.next(t), verifierv1.Verdict_STATE_FAIL)
}

// importAdvisories puts the advisories of the repository and one more in use.
func importAdvisories(t *testing.T, a *allinone.AllInOne, more []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repo.Root(t), "deploy", "advisories", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no advisories: %v", err)
	}
	records := []*scannerv1.AdvisoryRecord{{Name: "new.json", Json: more}}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, &scannerv1.AdvisoryRecord{Name: filepath.Base(file), Json: content})
	}
	stream, err := a.Advisories.ImportSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&scannerv1.ImportSnapshotRequest{Records: records}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(answer.GetRejected()); n != 0 {
		t.Fatalf("%d advisories were refused: %v", n, answer.GetRejected())
	}
}

// changes are the verdicts of one image from a moment on.
type changes struct {
	stream verifierv1.VerdictService_WatchVerdictsClient
	digest string
}

func watch(t *testing.T, a *allinone.AllInOne, digest string) *changes {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	stream, err := a.Verifier.WatchVerdicts(ctx, &verifierv1.WatchVerdictsRequest{Cursor: a.Verdict(t, digest).GetSequence()})
	if err != nil {
		t.Fatal(err)
	}
	return &changes{stream: stream, digest: digest}
}

// next is the next verdict of the image.
func (c *changes) next(t *testing.T) *verifierv1.Verdict {
	t.Helper()
	for {
		m, err := c.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if v := m.GetVerdict(); v.GetImage().GetDigest() == c.digest {
			return v
		}
	}
}

// awaitAttestation waits until the signer has attached one of this type.
func awaitAttestation(t *testing.T, a *allinone.AllInOne, digest, predicateType string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		answer, err := a.Signer.ListAttestations(ctx, &signerv1.ListAttestationsRequest{Image: &typev1.ImageRef{Digest: digest}})
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range answer.GetAttestations() {
			if at.GetPredicateType() == predicateType {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no %s was attached in time", predicateType)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func wantCause(t *testing.T, a *allinone.AllInOne, digest string, want verifierv1.VerdictChange_Cause) {
	t.Helper()
	answer, err := a.Verifier.GetVerdictHistory(t.Context(), &verifierv1.GetVerdictHistoryRequest{
		Image: &typev1.ImageRef{Digest: digest}, PageSize: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.GetChanges()[0].GetCause(); got != want {
		t.Errorf("the latest change has the cause %s, want %s", got, want)
	}
}
