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
	attest.PredicateVSA:        attest.PredicateVSA,
}

// TestInterop_Cosign asks the real cosign about every attestation of an image that
// went through the real pipeline, with nothing but the public key.
func TestInterop_Cosign(t *testing.T) {
	cosign := os.Getenv("SEAWORTHY_COSIGN")
	if cosign == "" {
		t.Skip("SEAWORTHY_COSIGN is not set; `make test-interop` builds cosign and sets it")
	}
	a := allinone.Start(t, nil)
	image := a.Registry() + "/interop/app"
	digest := images.Push(t, images.Clean(t, "interop"), image+":1")
	waitForAll(t, a, digest)

	bundle, err := a.Signer.GetTrustBundle(t.Context(), &signerv1.GetTrustBundleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ours := write(t, dir, "ours.pub", []byte(bundle.GetKeys()[0].GetPublicKeyPem()))
	other := write(t, dir, "other.pub", otherKey(t))
	// An empty trusted root: without one cosign asks its public mirror.
	root := write(t, dir, "trusted_root.json", []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`))

	verify := func(key, predicateType string) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), cosign, "verify-attestation", "--key", key, "--type", predicateType,
			"--trusted-root", root, "--insecure-ignore-tlog=true", image+"@"+digest)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, errs.String())
		}
		return out, err
	}
	for predicate, name := range predicates {
		t.Run(filepath.Base(predicate), func(t *testing.T) {
			out, err := verify(ours, name)
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
			if _, err := verify(other, name); err == nil {
				t.Error("cosign accepts it with another key")
			}
		})
	}
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
