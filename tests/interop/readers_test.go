package interop

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
)

// TestInterop_Readers has other clients read what the pipeline attached: sigstore-go
// verifies it with the signer's trusted root, oras and regctl list it. The last two
// only if they are there: `make test-interop-all` builds them.
func TestInterop_Readers(t *testing.T) {
	if os.Getenv("SEAWORTHY_COSIGN") == "" {
		t.Skip("SEAWORTHY_COSIGN is not set; `make test-interop` sets it")
	}
	a := allinone.Start(t, nil)
	repository := a.Registry() + "/interop/readers"
	digest := images.Push(t, images.Clean(t, "readers"), repository+":1")
	waitForAll(t, a, digest)
	var want []string
	answer, err := a.Signer.ListAttestations(t.Context(), &signerv1.ListAttestationsRequest{Image: imageRef(digest)})
	if err != nil {
		t.Fatal(err)
	}
	for _, attestation := range answer.GetAttestations() {
		want = append(want, attestation.GetManifestDigest())
	}
	slices.Sort(want)

	t.Run("sigstore-go", func(t *testing.T) { sigstoreVerifies(t, a, repository, digest, len(want)) })
	t.Run("oras", func(t *testing.T) {
		out := tool(t, "SEAWORTHY_ORAS", "discover", "--plain-http", "--format", "json", repository+"@"+digest)
		var found struct {
			Referrers []struct{ Digest, ArtifactType string } `json:"referrers"`
		}
		if err := json.Unmarshal(out, &found); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var got []string
		for _, m := range found.Referrers {
			got = append(got, m.Digest)
			if m.ArtifactType != attest.BundleMediaType {
				t.Errorf("oras reads the artifact type %q", m.ArtifactType)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("referrers (-attached +discovered):\n%s", diff)
		}
	})
	t.Run("regctl", func(t *testing.T) {
		out := tool(t, "SEAWORTHY_REGCTL", "--host", "reg="+a.Registry()+",tls=disabled", "artifact", "list",
			"--filter-artifact-type", attest.BundleMediaType, "--format", "{{json .}}", repository+"@"+digest)
		var found struct {
			Descriptors []struct {
				Digest string `json:"digest"`
			} `json:"descriptors"`
		}
		if err := json.Unmarshal(out, &found); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var got []string
		for _, d := range found.Descriptors {
			got = append(got, d.Digest)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("referrers (-attached +listed):\n%s", diff)
		}
	})
}

// tool runs a program that an environment variable names.
func tool(t *testing.T, variable string, args ...string) []byte {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skip(variable + " is not set; `make test-interop-all` builds the program and sets it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", path, strings.Join(args, " "), err, errs.String())
	}
	return out
}

// withKey is the signer's trusted root and its keys, which that has no place for.
type withKey struct {
	root.TrustedMaterial
	key crypto.PublicKey
}

func (w withKey) PublicKeyVerifier(string) (root.TimeConstrainedVerifier, error) {
	v, err := signature.LoadDefaultVerifier(w.key)
	return root.NewExpiringKey(v, time.Time{}, time.Time{}), err
}

func sigstoreVerifies(t *testing.T, a *allinone.AllInOne, repository, digest string, want int) {
	t.Helper()
	trust, err := a.Signer.GetTrustBundle(t.Context(), &signerv1.GetTrustBundleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := root.NewTrustedRootFromJSON([]byte(trust.GetTrustedRootJson()))
	if err != nil {
		t.Fatalf("sigstore-go refuses the trusted root: %v", err)
	}
	key, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(trust.GetKeys()[0].GetPublicKeyPem()))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := verify.NewVerifier(withKey{TrustedMaterial: trusted, key: key}, verify.WithNoObserverTimestamps())
	if err != nil {
		t.Fatal(err)
	}
	sum, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := registry.New(registry.Config{Registries: []registry.Host{{Host: a.Registry(), Insecure: true}}}, obs.Discard("test"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ref := imageref.Ref{Registry: a.Registry(), Repository: strings.TrimPrefix(repository, a.Registry()+"/"), Digest: digest}
	found, err := attest.Fetch(t.Context(), client, ref, attest.Limits{})
	if err != nil || len(found) != want {
		t.Fatalf("%d bundles, %v, want %d", len(found), err, want)
	}
	for _, f := range found {
		var b bundle.Bundle
		if err := b.UnmarshalJSON(f.Bundle); err != nil {
			t.Errorf("%s: sigstore-go does not read it: %v", f.Digest, err)
			continue
		}
		result, err := verifier.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), verify.WithKey()))
		if err != nil {
			t.Errorf("%s: sigstore-go refuses it: %v", f.Digest, err)
			continue
		}
		if got := result.Statement.GetPredicateType(); got != f.Annotations[attest.AnnotationPredicateType] {
			t.Errorf("%s: predicate type %s", f.Digest, got)
		}
		sum[0]++
		if _, err := verifier.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), verify.WithKey())); err == nil {
			t.Errorf("%s: sigstore-go accepts it for another image", f.Digest)
		}
		sum[0]--
	}
}
