// Package evidencetest gives tests a real registry with images, and keys that
// attest them as the signer does.
package evidencetest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ocireg "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// Now is the time that reports and verdicts of tests are made at.
var Now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Registry is an OCI registry in this process.
type Registry struct {
	tb   testing.TB
	Host string
	// Down makes it answer 503.
	Down atomic.Bool
	// failing is the status that it answers everything with; 0 for none.
	failing atomic.Int32
	// Before, if set, is called before each request is served; true says that it has
	// answered.
	Before atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

// Fail makes the registry answer everything with a status and no words of its own, or
// no longer if that is 0.
func (r *Registry) Fail(status int) { r.failing.Store(int32(status)) }

// NewRegistry starts a registry that ends with the test.
func NewRegistry(tb testing.TB) *Registry {
	tb.Helper()
	r := &Registry{tb: tb}
	inner := ocireg.New(ocireg.WithReferrersSupport(true), ocireg.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if r.Down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if status := int(r.failing.Load()); status != 0 {
			w.WriteHeader(status)
			return
		}
		if before := r.Before.Load(); before != nil && (*before)(w, req) {
			return
		}
		inner.ServeHTTP(w, req)
	}))
	tb.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		tb.Fatal(err)
	}
	r.Host = u.Host
	return r
}

// Config allows the registry.
func (r *Registry) Config() registry.Config {
	return registry.Config{Registries: []registry.Host{{Host: r.Host, Insecure: true}}, MaxAttempts: 1}
}

// Client returns a client for the registry.
func (r *Registry) Client() *registry.Client {
	r.tb.Helper()
	c, err := registry.New(r.Config(), obs.Discard("test"))
	if err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(c.Close)
	return c
}

// PushImage pushes a new image and returns it by tag and digest.
func (r *Registry) PushImage(repository, tag string) imageref.Ref {
	r.tb.Helper()
	ref := r.name(repository, tag)
	if err := remote.Write(ref, r.image()); err != nil {
		r.tb.Fatal(err)
	}
	return r.resolve(ref, repository, tag)
}

// BuildKit is the platform of the attestations that BuildKit adds to an index: PushIndex
// makes one of it instead of an image.
var BuildKit = v1.Platform{OS: "unknown", Architecture: "unknown", Variant: "attestation"}

// PushIndex pushes an index with an image for each platform and returns it with
// the digests of the images.
func (r *Registry) PushIndex(repository, tag string, platforms ...v1.Platform) (imageref.Ref, []string) {
	r.tb.Helper()
	var (
		index   v1.ImageIndex = empty.Index
		digests []string
	)
	for _, p := range platforms {
		i := r.image()
		if p.Equals(BuildKit) {
			i, p.Variant = r.attestation(), ""
		}
		d, err := i.Digest()
		if err != nil {
			r.tb.Fatal(err)
		}
		digests = append(digests, d.String())
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: i, Descriptor: v1.Descriptor{Platform: &p}})
	}
	ref := r.name(repository, tag)
	if err := remote.WriteIndex(ref, index); err != nil {
		r.tb.Fatal(err)
	}
	return r.resolve(ref, repository, tag), digests
}

// Copy pushes an image to another repository as it is, without its attestations.
func (r *Registry) Copy(image imageref.Ref, repository string) imageref.Ref {
	r.tb.Helper()
	i, err := remote.Image(r.name(image.Repository, image.Tag))
	if err != nil {
		r.tb.Fatal(err)
	}
	ref := r.name(repository, image.Tag)
	if err := remote.Write(ref, i); err != nil {
		r.tb.Fatal(err)
	}
	return r.resolve(ref, repository, image.Tag)
}

// Delete deletes a manifest by digest.
func (r *Registry) Delete(repository, digest string) {
	r.tb.Helper()
	ref, err := name.NewDigest(r.Host+"/"+repository+"@"+digest, name.Insecure)
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := remote.Delete(ref); err != nil {
		r.tb.Fatal(err)
	}
}

// DeleteTag deletes a tag. A registry keeps it when the manifest is deleted by digest.
func (r *Registry) DeleteTag(repository, tag string) {
	r.tb.Helper()
	if err := remote.Delete(r.name(repository, tag)); err != nil {
		r.tb.Fatal(err)
	}
}

func (r *Registry) image() v1.Image {
	r.tb.Helper()
	i, err := random.Image(256, 1)
	if err != nil {
		r.tb.Fatal(err)
	}
	return i
}

// attestation is a manifest as BuildKit writes it: with the configuration of an image.
func (r *Registry) attestation() v1.Image {
	r.tb.Helper()
	i, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		static.NewLayer([]byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`), "application/vnd.in-toto+json"))
	if err != nil {
		r.tb.Fatal(err)
	}
	return i
}

func (r *Registry) name(repository, tag string) name.Tag {
	r.tb.Helper()
	ref, err := name.NewTag(r.Host+"/"+repository+":"+tag, name.Insecure)
	if err != nil {
		r.tb.Fatal(err)
	}
	return ref
}

func (r *Registry) resolve(ref name.Tag, repository, tag string) imageref.Ref {
	r.tb.Helper()
	d, err := remote.Head(ref)
	if err != nil {
		r.tb.Fatal(err)
	}
	return imageref.Ref{Registry: r.Host, Repository: repository, Tag: tag, Digest: d.Digest.String()}
}

// Key signs attestations.
type Key struct {
	tb      testing.TB
	private *ecdsa.PrivateKey
}

// NewKey makes a key.
func NewKey(tb testing.TB) *Key {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return &Key{tb: tb, private: k}
}

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.private.Public() }

// Trusted returns the key as a trust root.
func (k *Key) Trusted() attest.TrustedKey {
	return attest.TrustedKey{Key: k.Public(), ID: attest.KeyID(k.Public())}
}

// PEM returns the public key in PEM.
func (k *Key) PEM() []byte {
	k.tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		k.tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Sign makes a bundle of a predicate about a digest.
func (k *Key) Sign(digest, predicateType string, predicate any) []byte {
	k.tb.Helper()
	raw, err := json.Marshal(predicate)
	if err != nil {
		k.tb.Fatal(err)
	}
	s, err := signature.LoadSigner(k.private, crypto.SHA256)
	if err != nil {
		k.tb.Fatal(err)
	}
	bundle, err := attest.Sign(k.tb.Context(), s, k.Public(), attest.Statement{
		Subject:       []attest.Subject{{Name: "image", SHA256: strings.TrimPrefix(digest, "sha256:")}},
		PredicateType: predicateType,
		Predicate:     raw,
	})
	if err != nil {
		k.tb.Fatal(err)
	}
	return bundle
}

// SignPayload makes a bundle of any payload, also of one that attest.Sign refuses.
func (k *Key) SignPayload(payloadType, payload string) []byte {
	k.tb.Helper()
	message := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
	sig, err := ecdsa.SignASN1(rand.Reader, k.private, message[:])
	if err != nil {
		k.tb.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{
		"mediaType":            attest.BundleMediaType,
		"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": attest.KeyID(k.Public())}},
		"dsseEnvelope": map[string]any{
			"payload": []byte(payload), "payloadType": payloadType, "signatures": []any{map[string]any{"sig": sig}},
		},
	})
	if err != nil {
		k.tb.Fatal(err)
	}
	return raw
}

// Attach attaches a bundle to a digest and returns the digest of its manifest. It
// does not look at what it attaches, as an attacker would not.
func (r *Registry) Attach(image imageref.Ref, digest, predicateType string, bundle []byte) string {
	r.tb.Helper()
	c := r.Client()
	ref := image.WithDigest(digest)
	subject, err := c.Resolve(r.tb.Context(), ref)
	if err != nil {
		r.tb.Fatal(err)
	}
	d, err := c.PutReferrer(r.tb.Context(), ref, subject, registry.Artifact{
		ArtifactType: attest.BundleMediaType, Content: bundle,
		Annotations: map[string]string{attest.AnnotationPredicateType: predicateType},
	})
	if err != nil {
		r.tb.Fatal(err)
	}
	return d.Digest
}

// Attest attaches a report and an SBOM, as the signer does, and returns the digest
// of the report's manifest.
func (r *Registry) Attest(k *Key, image imageref.Ref, digest string, report *scannerv1.Report, at time.Time) string {
	r.tb.Helper()
	r.Attach(image, digest, attest.PredicateSPDX, k.Sign(digest, attest.PredicateSPDX, map[string]any{
		"spdxVersion": "SPDX-2.3", "creationInfo": map[string]any{"created": Now.Format(time.RFC3339)},
	}))
	return r.Attach(image, digest, attest.PredicateCosignVuln, k.Sign(digest, attest.PredicateCosignVuln, Predicate(r.tb, report, at)))
}

// Predicate is the cosign vuln predicate of a report of a scan that ended at a time.
func Predicate(tb testing.TB, report *scannerv1.Report, at time.Time) any {
	tb.Helper()
	loose, err := protojson.Marshal(report)
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, loose); err != nil {
		tb.Fatal(err)
	}
	return map[string]any{
		"scanner":  map[string]any{"uri": "test", "result": json.RawMessage(b.Bytes())},
		"metadata": map[string]any{"scanStartedOn": at, "scanFinishedOn": at},
	}
}

// Report is a report of a clean image that keeps to the baseline; change it to
// make it fail.
func Report(digest string, findings ...*scannerv1.Finding) *scannerv1.Report {
	return &scannerv1.Report{
		ImageDigest: digest,
		Platform:    &typev1.Platform{Os: "linux", Architecture: "amd64"},
		Facts:       &scannerv1.ImageFacts{User: "65532", NonRoot: true, DistroId: "alpine", DistroVersion: "3.22.1"},
		Packages: []*scannerv1.Package{{
			Purl: "pkg:golang/golang.org/x/text@0.3.7", Name: "golang.org/x/text", Version: "0.3.7", Ecosystem: "Go",
		}},
		PackageCount: 1,
		Findings:     findings,
		FindingCount: int32(len(findings)),
		Snapshot: &scannerv1.SnapshotInfo{
			Digest: "sha256:" + strings.Repeat("5", 64), DataTime: timestamppb.New(Now.Add(-24 * time.Hour)), AdvisoryCount: 7,
			Ecosystems: []string{"Go"}, ExploitedKnown: true, ScoresKnown: true,
		},
		Scanner: &scannerv1.ScannerInfo{Uri: "test", Version: "1"},
	}
}

// Critical is a finding that the baseline denies.
func Critical() *scannerv1.Finding {
	return &scannerv1.Finding{
		Id: "CVE-2022-32149", Aliases: []string{"CVE-2022-32149"}, Purl: "pkg:golang/golang.org/x/text@0.3.7",
		PackageName: "golang.org/x/text", PackageVersion: "0.3.7", Severity: typev1.Severity_SEVERITY_CRITICAL,
		CvssScore: 9.8, FixedVersions: []string{"0.3.8"},
	}
}
