// Package interop lets other programs judge what Seaworthy wrote.
package interop

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
)

// predicates are what every image gets, and what cosign calls their types.
var predicates = map[string]string{
	attest.PredicateSPDX:       "spdxjson",
	attest.PredicateCosignVuln: "vuln",
	attest.PredicateVulnsV02:   attest.PredicateVulnsV02,
	attest.PredicateCycloneDX:  "cyclonedx",
	attest.PredicateVSA:        attest.PredicateVSA,
}

// cosign is the real program as somebody uses it who has a public key and the
// trusted root of the signer.
type cosign struct {
	path, home, root string
}

func newCosign(t *testing.T, trustedRoot string) cosign {
	t.Helper()
	path := os.Getenv("SEAWORTHY_COSIGN")
	if path == "" {
		t.Skip("SEAWORTHY_COSIGN is not set; `make test-interop` builds cosign and sets it")
	}
	home := t.TempDir()
	// Without a root cosign asks its public mirror.
	return cosign{path: path, home: home, root: write(t, home, "trusted_root.json", []byte(trustedRoot))}
}

// emptyRoot holds nothing: a key needs nothing.
const emptyRoot = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`

func (c cosign) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.path, args...)
	cmd.Env = append(os.Environ(), "HOME="+c.home, "COSIGN_PASSWORD=")
	cmd.Dir = c.home
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	return out, err
}

func (c cosign) verify(ctx context.Context, key, predicateType, image string) ([]byte, error) {
	return c.run(ctx, "verify-attestation", "--key", key, "--type", predicateType,
		"--trusted-root", c.root, "--insecure-ignore-tlog=true", image)
}

// TestInterop_Cosign asks the real cosign about every attestation of an image and
// of an index that went through the real pipeline, with nothing but the public key.
func TestInterop_Cosign(t *testing.T) {
	if os.Getenv("SEAWORTHY_COSIGN") == "" {
		t.Skip("SEAWORTHY_COSIGN is not set; `make test-interop` builds cosign and sets it")
	}
	a := allinone.Start(t, func(cfg *fleet.Config) {
		cfg.Signer.SBOM.Formats = append(cfg.Signer.SBOM.Formats, "cyclonedx-json")
	})
	repository := a.Registry() + "/interop/app"
	image := images.Push(t, images.Clean(t, "interop"), repository+":1")
	index := images.PushIndex(t, images.Index(t, images.Clean(t, "amd64"), images.Clean(t, "arm64")), repository+":index")
	waitForAll(t, a, image)
	waitForAll(t, a, index)

	bundle, err := a.Signer.GetTrustBundle(t.Context(), &signerv1.GetTrustBundleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	c := newCosign(t, bundle.GetTrustedRootJson())
	ours := write(t, c.home, "ours.pub", []byte(bundle.GetKeys()[0].GetPublicKeyPem()))
	other := write(t, c.home, "other.pub", otherKey(t))
	check := func(digest, predicate, name string) {
		t.Run(filepath.Base(predicate), func(t *testing.T) {
			out, err := c.verify(t.Context(), ours, name, repository+"@"+digest)
			if err != nil {
				t.Fatalf("cosign refuses it: %v", err)
			}
			// cosign's text says more than it checked; the statement it hands out counts.
			st := statement(t, out)
			if st.PredicateType != predicate {
				t.Errorf("predicate type %s, want %s", st.PredicateType, predicate)
			}
			if got := "sha256:" + st.Subject[0].Digest["sha256"]; got != digest {
				t.Errorf("subject %s, want %s", got, digest)
			}
			if _, err := c.verify(t.Context(), other, name, repository+"@"+digest); err == nil {
				t.Error("cosign accepts it with another key")
			}
		})
	}
	for predicate, name := range predicates {
		check(image, predicate, name)
	}
	check(index, attest.PredicateReference, attest.PredicateReference)
}

func waitForAll(t *testing.T, a *allinone.AllInOne, digest string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		answer, err := a.Signer.ListAttestations(ctx, &signerv1.ListAttestationsRequest{Image: &typev1.ImageRef{Digest: digest}})
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, attestation := range answer.GetAttestations() {
			have = append(have, attestation.GetPredicateType())
		}
		if slices.Contains(have, attest.PredicateVSA) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("only these were attached in time: %v", have)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

type inTotoStatement struct {
	PredicateType string `json:"predicateType"`
	Subject       []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
}

// statement is the one in cosign's output: one JSON document a line, a DSSE envelope
// each, log lines between them.
func statement(t *testing.T, out []byte) inTotoStatement {
	t.Helper()
	for line := range strings.Lines(string(out)) {
		var envelope struct {
			Payload string `json:"payload"`
		}
		if json.Unmarshal([]byte(line), &envelope) != nil || envelope.Payload == "" {
			continue
		}
		payload, err := base64.StdEncoding.DecodeString(envelope.Payload)
		if err != nil {
			t.Fatal(err)
		}
		var st inTotoStatement
		if err := json.Unmarshal(payload, &st); err != nil {
			t.Fatal(err)
		}
		if len(st.Subject) == 0 {
			t.Fatalf("a statement without subject: %s", payload)
		}
		return st
	}
	t.Fatalf("no envelope in cosign's output: %s", out)
	return inTotoStatement{}
}

func otherKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
