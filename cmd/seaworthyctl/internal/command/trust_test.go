package command_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/evidence"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

func newKey(t *testing.T) (*ecdsa.PrivateKey, *signerv1.TrustedKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, &signerv1.TrustedKey{
		KeyId: attest.KeyID(&key.PublicKey), StartTime: timestamppb.New(now.Add(-time.Hour)),
		PublicKeyPem: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	}
}

// pushIndex pushes an index of one platform and returns the digests of both.
func pushIndex(t *testing.T, image string) (index, manifest string) {
	t.Helper()
	ref, err := name.ParseReference(image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(256, 1)
	if err != nil {
		t.Fatal(err)
	}
	idx := mutate.AppendManifests(oneOther(t), mutate.IndexAddendum{
		Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}},
	})
	if err := remote.WriteIndex(ref, idx, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	a, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	b, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return a.String(), b.String()
}

// oneOther is an index without manifests.
func oneOther(t *testing.T) v1.ImageIndex {
	t.Helper()
	idx, err := random.Index(64, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	return idx
}

// attach signs a statement about subject and attaches it to the digest to.
func attach(t *testing.T, client *registry.Client, image string, key *ecdsa.PrivateKey, predicateType, subject, to string) {
	t.Helper()
	signer, err := signature.LoadDefaultSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := attest.Sign(t.Context(), signer, &key.PublicKey, attest.Statement{
		Subject:       []attest.Subject{{Name: image, SHA256: strings.TrimPrefix(subject, "sha256:")}},
		PredicateType: predicateType, Predicate: json.RawMessage(`{}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := imageref.Parse(image)
	if err != nil {
		t.Fatal(err)
	}
	d, err := client.Resolve(t.Context(), ref.WithDigest(to))
	if err != nil {
		t.Fatal(err)
	}
	// Not attest.Attach, which refuses a bundle about something else.
	if _, err := client.PutReferrer(t.Context(), ref, d, registry.Artifact{
		ArtifactType: attest.BundleMediaType, Content: bundle,
		Annotations: map[string]string{
			attest.AnnotationContent: "dsse-envelope", attest.AnnotationPredicateType: predicateType,
			attest.AnnotationCreated: now.Add(-time.Minute).Format(time.RFC3339),
		},
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAttestations(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	host := f.registry()
	client, err := registry.New(registry.Config{Registries: []registry.Host{{Host: host, Insecure: true}}}, obs.Discard("test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	image := host + "/shop/ledger:1"
	index, manifest := pushIndex(t, image)
	ours, trusted := newKey(t)
	stranger, _ := newKey(t)
	f.signer.bundle = &signerv1.GetTrustBundleResponse{Keys: []*signerv1.TrustedKey{trusted}}

	if r := f.run("attestations", "shop/ledger:1"); r.code != 0 || r.out != "" || !strings.Contains(r.err, "no attestations") {
		t.Errorf("without attestations: %+v", r)
	}
	attach(t, client, image, ours, attest.PredicateVSA, index, index)
	attach(t, client, image, ours, attest.PredicateSPDX, manifest, manifest)
	attach(t, client, image, stranger, attest.PredicateOpenVEX, manifest, manifest)

	read := func(r result) []evidence.Attestation {
		t.Helper()
		var got struct {
			Digest       string
			Attestations []evidence.Attestation
		}
		if err := json.Unmarshal([]byte(r.out), &got); err != nil {
			t.Fatalf("%v in %+v", err, r)
		}
		if got.Digest != index {
			t.Errorf("digest = %s, want %s", got.Digest, index)
		}
		for i := range got.Attestations {
			if imageref.CheckDigest(got.Attestations[i].ManifestDigest) != nil {
				t.Errorf("attestation %d without manifest digest", i)
			}
			got.Attestations[i].ManifestDigest, got.Attestations[i].Problem = "", ""
		}
		return got.Attestations
	}
	created, id := now.Add(-time.Minute), trusted.GetKeyId()
	vsa := evidence.Attestation{Subject: index, PredicateType: attest.PredicateVSA, CreateTime: created, Verified: true, KeyID: id}
	spdx := evidence.Attestation{Subject: manifest, Platform: "linux/amd64", PredicateType: attest.PredicateSPDX, CreateTime: created, Verified: true, KeyID: id}
	vex := evidence.Attestation{Subject: manifest, Platform: "linux/amd64", PredicateType: attest.PredicateOpenVEX, CreateTime: created, Reason: "UNTRUSTED_KEY"}
	byType := func(list []evidence.Attestation) map[string]evidence.Attestation {
		m := map[string]evidence.Attestation{}
		for _, a := range list {
			m[a.PredicateType+a.Reason] = a
		}
		return m
	}
	r := f.run("attestations", "shop/ledger:1", "-o", "json")
	if d := cmp.Diff(byType([]evidence.Attestation{vsa, spdx, vex}), byType(read(r))); d != "" || r.code != 0 {
		t.Errorf("exit code %d, attestations (-want +got):\n%s", r.code, d)
	}

	// Ours by key, but about the index: somebody moved it to the manifest.
	attach(t, client, image, ours, attest.PredicateCosignVuln, index, manifest)
	r = f.run("attestations", image, "-o", "json")
	moved := byType(read(r))[attest.PredicateCosignVuln+"WRONG_SUBJECT"]
	if r.code != 3 || moved.Verified || moved.KeyID != "" {
		t.Errorf("a moved attestation: exit code %d, %+v", r.code, moved)
	}
	if r := f.run("attestations", image); r.code != 3 || !strings.Contains(r.out, "no: WRONG_SUBJECT") || !strings.Contains(r.out, "no: UNTRUSTED_KEY") {
		t.Errorf("as a table: %+v", r)
	}

	// A key that is revoked verifies nothing any more, one that was rotated does.
	trusted.EndTime = timestamppb.New(now.Add(-time.Second))
	if verified := read(f.run("attestations", image, "-o", "json")); !slices.ContainsFunc(verified, func(a evidence.Attestation) bool { return a.Verified }) {
		t.Error("the end of a key took what it had signed with it")
	}
	trusted.RevokeTime = timestamppb.New(now.Add(-time.Second))
	for _, a := range read(f.run("attestations", image, "-o", "json")) {
		if a.Verified {
			t.Errorf("verified with a key that was revoked: %+v", a)
		}
	}
	if r := f.run("attestations", "shop/ledger:2"); r.code != 5 {
		t.Errorf("a tag that does not exist: %+v, want exit code 5", r)
	}
	f.signer.bundle = &signerv1.GetTrustBundleResponse{}
	if r := f.run("attestations", "shop/ledger:1"); r.code != 3 || !strings.Contains(r.err, "neither a key nor") {
		t.Errorf("without a key: %+v, want exit code 3", r)
	}
}

func TestTrustBundle(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	_, current := newKey(t)
	_, old := newKey(t)
	old.EndTime = timestamppb.New(now)
	f.signer.bundle = &signerv1.GetTrustBundleResponse{Keys: []*signerv1.TrustedKey{current, old}}
	if r := f.run("trust-bundle", "-o", "pem"); r.code != 0 || r.out != current.GetPublicKeyPem()+old.GetPublicKeyPem() {
		t.Errorf("pem: %+v", r)
	}
	r := f.run("trust-bundle")
	for _, want := range []string{current.GetKeyId(), old.GetKeyId(), "2026-11-23T14:00:00Z", "2026-11-23T15:00:00Z"} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("table: %+v, want %q in it", r, want)
		}
	}
	if r := f.run("trust-bundle", "-o", "trusted-root"); r.code == 0 || !strings.Contains(r.err, "older release") {
		t.Errorf("trusted root of an old signer: %+v", r)
	}
	f.signer.bundle.TrustedRootJson = `{"mediaType":"x"}`
	if r := f.run("trust-bundle", "-o", "trusted-root"); r.code != 0 || r.out != f.signer.bundle.GetTrustedRootJson()+"\n" {
		t.Errorf("trusted root: %+v", r)
	}
	old.RevokeTime = timestamppb.New(now)
	if r := f.run("trust-bundle", "-o", "pem"); r.code != 0 || r.out != current.GetPublicKeyPem() {
		t.Errorf("a revoked key is among the keys: %+v", r)
	}
	if r := f.run("trust-bundle", "-o", "json"); r.code != 0 || !json.Valid([]byte(r.out)) {
		t.Errorf("json: %+v", r)
	}
}

func TestCertsInit(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	dir := filepath.Join(t.TempDir(), "pki")
	r := f.run("certs", "init", "--dir", dir, "--operator", "alice", "--trust-domain", "fleet.test", "-o", "json")
	if r.code != 0 {
		t.Fatalf("certs init: %+v", r)
	}
	for file, id := range map[string]string{
		"gateway": "service/gateway", "scanner": "service/scanner", "signer": "service/signer", "verifier": "service/verifier",
		"notifier": "service/notifier", "nats": "service/nats", "operator": "operator/alice", "client": "client/cli",
	} {
		s, err := tlsx.NewSource(tlsx.Config{
			CAFile: filepath.Join(dir, "ca.crt"), CertFile: filepath.Join(dir, file+".crt"), KeyFile: filepath.Join(dir, file+".key"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := "spiffe://fleet.test/" + id; s.ID() != want {
			t.Errorf("%s is %s, want %s", file, s.ID(), want)
		}
	}
	before, err := os.ReadFile(filepath.Join(dir, "signer.crt"))
	if err != nil {
		t.Fatal(err)
	}
	again := f.run("certs", "init", "--dir", dir, "--operator", "bob", "--trust-domain", "fleet.test")
	after, err := os.ReadFile(filepath.Join(dir, "signer.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if again.code != 0 || string(before) != string(after) {
		t.Errorf("a second run made the signer's certificate anew: %+v", again)
	}
	if !strings.Contains(again.out, "spiffe://fleet.test/operator/bob") {
		t.Errorf("the operator was not renamed: %s", again.out)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	_, current := newKey(t)
	current.Algorithm = "ED25519"
	f.signer.bundle = &signerv1.GetTrustBundleResponse{Keys: []*signerv1.TrustedKey{current}}
	if r := f.run("keys", "list"); r.code != 0 || !strings.Contains(r.out, current.GetKeyId()) || !strings.Contains(r.out, "ED25519") {
		t.Errorf("list: %+v", r)
	}
	if r := f.run("keys", "rotate", "-o", "json"); r.code != 0 || !json.Valid([]byte(r.out)) {
		t.Errorf("rotate: %+v", r)
	}
	first := f.keys.asked().(*signerv1.RotateKeyRequest).GetRequestId()
	if r := f.run("keys", "rotate"); r.code != 0 || len(first) != 36 || f.keys.asked().(*signerv1.RotateKeyRequest).GetRequestId() == first {
		t.Errorf("a second rotation had the request id of the first, %q: %+v", first, r)
	}
	if f.run("keys", "rotate", "--request-id", first); f.keys.asked().(*signerv1.RotateKeyRequest).GetRequestId() != first {
		t.Error("--request-id was not used")
	}
	if r := f.run("keys", "revoke", current.GetKeyId()); r.code == 0 || !strings.Contains(r.err, "rotate it first") {
		t.Errorf("revoke: %+v", r)
	}
}
