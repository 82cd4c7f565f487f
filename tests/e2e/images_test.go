// Package e2e follows pushes through the all-in-one.
package e2e

import (
	"net/http"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
)

func TestE2E_Verdicts(t *testing.T) {
	a := allinone.Start(t, nil)
	repository := a.Registry() + "/e2e/app"

	t.Run("vulnerable fails", func(t *testing.T) {
		v := a.Verdict(t, images.Push(t, images.Vulnerable(t, "vulnerable"), repository+":vulnerable"))
		wantState(t, v, verifierv1.Verdict_STATE_FAIL)
		wantReason(t, v, "RULE_DENIED")
	})
	var clean string
	t.Run("clean passes", func(t *testing.T) {
		clean = images.Push(t, images.Clean(t, "clean"), repository+":clean")
		v := a.Verdict(t, clean)
		wantState(t, v, verifierv1.Verdict_STATE_PASS)
		if n := len(v.GetPlatforms()[0].GetInputs().GetAttestations()); n == 0 {
			t.Error("the verdict names no evidence")
		}
	})
	t.Run("a tag means what was pushed under it", func(t *testing.T) {
		answer, err := a.Verifier.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Image: &typev1.ImageRef{
			Registry: a.Registry(), Repository: "e2e/app", Tag: "clean",
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := answer.GetVerdict().GetImage().GetDigest(); got != clean {
			t.Errorf("the tag resolves to %s, want %s", got, clean)
		}
	})
	t.Run("an index takes the worst of its platforms", func(t *testing.T) {
		v := a.Verdict(t, images.PushIndex(t, images.Index(t,
			images.Clean(t, "amd64"), images.Vulnerable(t, "arm64")), repository+":index"))
		wantState(t, v, verifierv1.Verdict_STATE_FAIL)
		if n := len(v.GetPlatforms()); n != 2 {
			t.Fatalf("%d platforms were judged, want 2", n)
		}
		if got := v.GetPlatforms()[0].GetState(); got != verifierv1.Verdict_STATE_PASS {
			t.Errorf("the clean platform is %s", got)
		}
	})
	t.Run("the same push again attaches nothing again", func(t *testing.T) {
		before := attestations(t, a, clean)
		images.Push(t, images.Clean(t, "clean"), repository+":again")
		// The tag tells when the second push has arrived at the verifier.
		for {
			answer, err := a.Verifier.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{Wait: true, Image: &typev1.ImageRef{
				Registry: a.Registry(), Repository: "e2e/app", Tag: "again",
			}})
			if err != nil {
				t.Fatal(err)
			}
			if v := answer.GetVerdict(); v.GetState() == verifierv1.Verdict_STATE_PASS && !v.GetPending() {
				break
			}
		}
		if after := attestations(t, a, clean); after != before {
			t.Errorf("%d attestations became %d", before, after)
		}
	})
	t.Run("never seen is unknown", func(t *testing.T) {
		answer, err := a.Verifier.BatchGetVerdicts(t.Context(), &verifierv1.BatchGetVerdictsRequest{Images: []*typev1.ImageRef{
			{Digest: clean}, {Digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		wantState(t, answer.GetVerdicts()[0], verifierv1.Verdict_STATE_PASS)
		wantState(t, answer.GetVerdicts()[1], verifierv1.Verdict_STATE_UNKNOWN)
		wantReason(t, answer.GetVerdicts()[1], "NEVER_SEEN")
	})
	t.Run("our own attestations do not come back as images", func(t *testing.T) {
		answer, err := a.Signer.ListAttestations(t.Context(), &signerv1.ListAttestationsRequest{Image: &typev1.ImageRef{Digest: clean}})
		if err != nil {
			t.Fatal(err)
		}
		for _, attestation := range answer.GetAttestations() {
			verdict, err := a.Verifier.GetVerdict(t.Context(), &verifierv1.GetVerdictRequest{
				Image: &typev1.ImageRef{Digest: attestation.GetManifestDigest()},
			})
			if err != nil {
				t.Fatal(err)
			}
			wantReason(t, verdict.GetVerdict(), "NEVER_SEEN")
		}
	})
}

// What cannot be scanned ends in a verdict too: UNKNOWN, with a dead letter behind it.
func TestE2E_BadImages(t *testing.T) {
	a := allinone.Start(t, nil)
	repository := a.Registry() + "/bad/app"
	for name, image := range map[string]v1.Image{
		"not an image":  mutate.ConfigMediaType(mutate.MediaType(images.Clean(t, "chart"), types.OCIManifestSchema1), "application/vnd.cncf.helm.config.v1+json"),
		"corrupt layer": layered(t, static.NewLayer([]byte("this is no gzip stream"), types.OCILayer)),
	} {
		t.Run(name, func(t *testing.T) {
			v := a.Verdict(t, images.Push(t, image, repository+":bad"))
			wantState(t, v, verifierv1.Verdict_STATE_UNKNOWN)
			wantReason(t, v, "PIPELINE_FAILED")
		})
	}
}

func TestE2E_Health(t *testing.T) {
	a := allinone.Start(t, nil)
	for _, path := range []string{"/healthz", "/readyz"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.GatewayURL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s answers %d", path, resp.StatusCode)
		}
	}
}

func layered(t *testing.T, layer v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layer)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func attestations(t *testing.T, a *allinone.AllInOne, digest string) int {
	t.Helper()
	answer, err := a.Signer.ListAttestations(t.Context(), &signerv1.ListAttestationsRequest{Image: &typev1.ImageRef{Digest: digest}})
	if err != nil {
		t.Fatal(err)
	}
	return len(answer.GetAttestations())
}

func wantState(t *testing.T, v *verifierv1.Verdict, want verifierv1.Verdict_State) {
	t.Helper()
	if v.GetState() != want {
		t.Errorf("the verdict is %s, want %s; reasons: %v", v.GetState(), want, v.GetReasons())
	}
}

func wantReason(t *testing.T, v *verifierv1.Verdict, code string) {
	t.Helper()
	for _, r := range v.GetReasons() {
		if r.GetCode() == code {
			return
		}
	}
	t.Errorf("no reason %s among %v", code, v.GetReasons())
}
