package app_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	ggcrregistry "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/advisorybundle"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/events/eventstest"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/scanner/app"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

// fixture is a scanner with a bus and a registry.
type fixture struct {
	*eventstest.Fleet
	host    string
	gateway *eventbus.Bus
	signer  *eventbus.Bus
	address string
	scanned chan *eventv1.ImageScannedEvent
	// key signs bundles that the scanner takes.
	key ed25519.PrivateKey
	// pulled has the digests of the blobs that somebody fetched.
	pulled sync.Map
}

func start(tb testing.TB) *fixture {
	tb.Helper()
	f := &fixture{Fleet: eventstest.Start(tb)}
	blobs := ggcrregistry.New(ggcrregistry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))
	reg := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, digest, ok := strings.Cut(r.URL.Path, "/blobs/sha256:"); ok && r.Method == http.MethodGet {
			f.pulled.Store("sha256:"+digest, true)
		}
		blobs.ServeHTTP(w, r)
	}))
	tb.Cleanup(reg.Close)
	f.host = strings.TrimPrefix(reg.URL, "http://")
	f.gateway, f.signer = f.Bus(events.Gateway), f.Bus(events.Signer)
	f.scanned = make(chan *eventv1.ImageScannedEvent, 16)

	cfg := app.Default()
	cfg.NATS = f.Config
	cfg.Registry = registry.Config{
		Registries:  []registry.Host{{Host: f.host, Insecure: true}, {Host: "127.0.0.1:1", Insecure: true}},
		MaxAttempts: 1,
	}
	cfg.Advisories.Directory = tb.TempDir()
	cfg.Advisories.TrustedKeys = []string{f.trustedKey(tb)}
	cfg.Advisories.Seed = []string{"../../../deploy/advisories"}
	db, err := sqldb.Open(tb.Context(), sqldbtest.SQLite(tb), "scanner")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	f.address = listener.Addr().String()
	telemetry, err := obs.Start(tb.Context(), events.Scanner, obs.DefaultConfig(), tb.Output())
	if err != nil {
		tb.Fatal(err)
	}
	a, err := app.New(tb.Context(), cfg, service.Deps{
		Config: cfg.Config, Name: events.Scanner, Telemetry: telemetry,
		TLS: f.TLS(tlsx.ServiceID(eventbustest.TrustDomain, events.Scanner)), Bus: f.BusWith(events.Scanner, telemetry),
		DB: db, Readiness: lifecycle.NewReadiness(), Listener: listener, Now: time.Now,
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("scanner: %v", err)
		}
	})
	go func() {
		_ = events.Consume(ctx, f.signer, events.ConsumerSignerAttest, 1, func(_ context.Context, e *eventv1.ImageScannedEvent, _ *eventbus.Delivery) error {
			f.scanned <- e
			return nil
		})
	}()
	return f
}

// trustedKey makes a key for bundles and returns the file of its public half.
func (f *fixture) trustedKey(tb testing.TB) string {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	f.key = private
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "bundle.pub")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func (f *fixture) dial(t *testing.T, kind, name string) *grpc.ClientConn {
	t.Helper()
	id := "spiffe://" + eventbustest.TrustDomain + "/" + kind + "/" + name
	conn, err := grpcx.Dial(f.address, tlsx.ServiceID(eventbustest.TrustDomain, "scanner"), grpcx.ClientDeps{
		TLS: f.TLS(id), Telemetry: obs.Discard(name),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (f *fixture) push(tb testing.TB, tag string, img remote.Taggable) *typev1.ImageRef {
	tb.Helper()
	ref, err := name.NewTag(f.host+"/team/app:"+tag, name.Insecure)
	if err != nil {
		tb.Fatal(err)
	}
	switch i := img.(type) {
	case v1.Image:
		err = remote.Write(ref, i)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, i)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return &typev1.ImageRef{Registry: f.host, Repository: "team/app", Tag: tag}
}

func (f *fixture) publish(tb testing.TB, id string, image *typev1.ImageRef) {
	tb.Helper()
	err := events.Publish(tb.Context(), f.gateway, events.ID(id), &eventv1.ImagePushedEvent{
		Image: image, Cause: eventv1.ImagePushedEvent_CAUSE_WEBHOOK, WebhookSource: "test",
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func (f *fixture) wait(tb testing.TB) *eventv1.ImageScannedEvent {
	tb.Helper()
	select {
	case e := <-f.scanned:
		return e
	case <-time.After(30 * time.Second):
		tb.Fatal("no ImageScanned event")
		return nil
	}
}

func (f *fixture) deadLetter(t *testing.T) *eventv1.DeadLetterEvent {
	t.Helper()
	verifier := f.Bus(events.Verifier)
	got := make(chan *eventv1.DeadLetterEvent, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		_ = events.Consume(ctx, verifier, events.ConsumerVerifierDeadLetters, 1, func(_ context.Context, e *eventv1.DeadLetterEvent, _ *eventbus.Delivery) error {
			got <- e
			return nil
		})
	}()
	select {
	case e := <-got:
		return e
	case <-ctx.Done():
		t.Fatal("no dead letter")
		return nil
	}
}

const (
	alpineRelease = "ID=alpine\nVERSION_ID=3.18.0\nNAME=\"Alpine Linux\"\n"
	apkInstalled  = "P:libcrypto3\nV:3.1.0-r0\nA:x86_64\no:openssl\nL:Apache-2.0\n\nP:busybox\nV:1.36.0-r9\nA:x86_64\no:busybox\nL:GPL-2.0-only\n\n"
	lodash        = `{"name":"lodash","version":"4.17.15","license":"MIT"}`
)

func image(t *testing.T, arch string, entries ...layertest.Entry) v1.Image {
	t.Helper()
	content := layertest.Tar(t, entries...)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(base, l)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", arch
	cf.Config.User = "65532"
	cf.Config.Env = []string{"PATH=/bin", "TOKEN=secret"}
	cf.Config.Labels = map[string]string{"a": "b"}
	cf.Config.ExposedPorts = map[string]struct{}{"8080/tcp": {}}
	img, err = mutate.ConfigFile(img, cf)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func vulnerable(t *testing.T, arch string) v1.Image {
	t.Helper()
	return image(t, arch,
		layertest.File("etc/os-release", alpineRelease), layertest.File("lib/apk/db/installed", apkInstalled),
		layertest.File("app/node_modules/lodash/package.json", lodash))
}

func digestOf(t *testing.T, i interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// TestPush follows one push: event in, report stored, event out, questions
// answered.
func TestPush(t *testing.T) {
	f := start(t)
	img := vulnerable(t, "amd64")
	ref := f.push(t, "v1", img)
	digest := digestOf(t, img)
	f.publish(t, "one", ref)
	e := f.wait(t)
	if e.GetImage().GetDigest() != digest || e.GetImage().GetTag() != "v1" || len(e.GetPlatforms()) != 1 {
		t.Fatalf("event %v", e)
	}
	c := scannerv1.NewScannerServiceClient(f.dial(t, "service", "signer"))
	resp, err := c.GetScan(t.Context(), &scannerv1.GetScanRequest{ScanId: e.GetScanId(), View: scannerv1.ScanView_SCAN_VIEW_FULL})
	if err != nil {
		t.Fatal(err)
	}
	scan := resp.GetScan()
	if scan.GetState() != scannerv1.Scan_STATE_SUCCEEDED || len(scan.GetReports()) != 1 || scan.GetTraceId() != e.GetMeta().GetTraceId() {
		t.Fatalf("scan %v", scan)
	}
	r := scan.GetReports()[0]
	if r.GetIncomplete() || r.GetPackageCount() != 3 || r.GetFindingCount() == 0 || r.GetImageDigest() != digest {
		t.Errorf("report: incomplete %v %v, %d packages, %d findings", r.GetIncomplete(), r.GetProblems(), r.GetPackageCount(), r.GetFindingCount())
	}
	facts := &scannerv1.ImageFacts{
		User: "65532", NonRoot: true, EnvNames: []string{"PATH", "TOKEN"},
		EnvSha256: map[string]string{
			"PATH":  "808dd192d3243666b6f1ad4f9bfeca4877ee059456c40851a93937331b26014c",
			"TOKEN": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
		},
		DistroEndTime: timestamppb.New(time.Date(2025, 5, 10, 0, 0, 0, 0, time.UTC)), Labels: map[string]string{"a": "b"}, ExposedPorts: []string{"8080/tcp"},
		DistroId: "alpine", DistroVersion: "3.18.0",
	}
	if diff := cmp.Diff(facts, r.GetFacts(), protocmp.Transform(), protocmp.IgnoreFields(&scannerv1.ImageFacts{}, "layers", "create_time")); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
	ids := map[string]bool{}
	for _, fd := range r.GetFindings() {
		ids[fd.GetId()+" "+fd.GetPackageName()] = true
	}
	for _, want := range []string{"CVE-2023-0464 libcrypto3", "CVE-2021-23337 lodash"} {
		if !ids[want] {
			t.Errorf("no finding %s in %v", want, ids)
		}
	}

	operator := scannerv1.NewScannerServiceClient(f.dial(t, "operator", "admin"))
	var paged []*scannerv1.Finding
	token := ""
	for {
		l, err := operator.ListFindings(t.Context(), &scannerv1.ListFindingsRequest{Image: ref, PageSize: 1, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		paged = append(paged, l.GetFindings()...)
		if token = l.GetNextPageToken(); token == "" {
			break
		}
	}
	if len(paged) != int(r.GetFindingCount()) {
		t.Errorf("pages hold %d findings, the report %d", len(paged), r.GetFindingCount())
	}
	byDigest := &typev1.ImageRef{Registry: ref.GetRegistry(), Repository: ref.GetRepository(), Digest: digest}
	sbom := readSBOM(t, c, byDigest, scannerv1.SbomFormat_SBOM_FORMAT_UNSPECIFIED)
	if !bytes.Equal(sbom, readSBOM(t, c, ref, scannerv1.SbomFormat_SBOM_FORMAT_SPDX_JSON)) {
		t.Error("two bills of materials of one report differ")
	}
	var doc struct {
		SPDXVersion string `json:"spdxVersion"`
		Packages    []struct{ Name string }
	}
	if err := json.Unmarshal(sbom, &doc); err != nil || doc.SPDXVersion != "SPDX-2.3" || len(doc.Packages) != 5 {
		t.Errorf("SBOM %v: %s", err, sbom)
	}
	var bom struct {
		BOMFormat  string `json:"bomFormat"`
		Components []struct{ Name string }
	}
	sbom = readSBOM(t, c, ref, scannerv1.SbomFormat_SBOM_FORMAT_CYCLONEDX_JSON)
	if err := json.Unmarshal(sbom, &bom); err != nil || bom.BOMFormat != "CycloneDX" || len(bom.Components) != 4 {
		t.Errorf("SBOM %v: %s", err, sbom)
	}
	_, err = scannerv1.NewAdvisoryServiceClient(f.dial(t, "operator", "admin")).RefreshSnapshot(t.Context(), &scannerv1.RefreshSnapshotRequest{})
	if apierr.From(err).Code() != codes.FailedPrecondition || apierr.From(err).Reason() != "NO_FEEDS" {
		t.Errorf("RefreshSnapshot without feeds: %v", err)
	}
	affected, err := operator.ListAffectedImages(t.Context(), &scannerv1.ListAffectedImagesRequest{AdvisoryId: "CVE-2023-0464"})
	if err != nil || len(affected.GetImages()) != 1 || affected.GetImages()[0].GetTag() != "v1" || affected.GetImages()[0].GetDigest() != digest ||
		len(affected.GetAffected()) != 1 || affected.GetAffected()[0].GetImageDigest() != digest || len(affected.GetAffected()[0].GetFindings()) != 1 {
		t.Errorf("ListAffectedImages: %v, %v", affected, err)
	}
	for _, c := range []struct {
		req  *scannerv1.ListAffectedImagesRequest
		code codes.Code
	}{
		{&scannerv1.ListAffectedImagesRequest{}, codes.InvalidArgument},
		{&scannerv1.ListAffectedImagesRequest{AdvisoryId: "CVE-2023-0464", Purl: "pkg:apk/alpine/busybox"}, codes.InvalidArgument},
		{&scannerv1.ListAffectedImagesRequest{Purl: "no purl"}, codes.InvalidArgument},
		{&scannerv1.ListAffectedImagesRequest{AdvisoryId: "CVE-1999-0001"}, codes.NotFound},
		{&scannerv1.ListAffectedImagesRequest{AdvisoryId: "CVE-2023-0464", PageToken: "x"}, codes.InvalidArgument},
		{&scannerv1.ListAffectedImagesRequest{Purl: "pkg:apk/alpine/busybox"}, codes.OK},
	} {
		if _, err := operator.ListAffectedImages(t.Context(), c.req); err != nil && apierr.From(err).Code() != c.code || err == nil && c.code != codes.OK {
			t.Errorf("ListAffectedImages %v: %v", c.req, err)
		}
	}
	if _, err := c.ScanImage(t.Context(), &scannerv1.ScanImageRequest{Image: ref}); apierr.From(err).Code() != codes.PermissionDenied {
		t.Errorf("ScanImage by the signer: %v", err)
	}
}

func readSBOM(t *testing.T, c scannerv1.ScannerServiceClient, ref *typev1.ImageRef, format scannerv1.SbomFormat) []byte {
	t.Helper()
	stream, err := c.GetSbom(t.Context(), &scannerv1.GetSbomRequest{Image: ref, Format: format})
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for {
		m, err := stream.Recv()
		if err == io.EOF { //nolint:errorlint // a stream ends with it bare
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m.GetChunk()...)
	}
}

// TestIndex scans two platforms, an image that the index calls an artifact and one whose
// platform it calls unknown, and passes over what is no image.
func TestIndex(t *testing.T) {
	f := start(t)
	a, b := vulnerable(t, "amd64"), vulnerable(t, "arm64")
	attestation, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		static.NewLayer([]byte("{}"), "application/vnd.in-toto+json"))
	if err != nil {
		t.Fatal(err)
	}
	unknown := vulnerable(t, "s390x")
	hidden := vulnerable(t, "riscv64")
	artifact := mutate.ConfigMediaType(image(t, "", layertest.File("chart", "{}")), "application/vnd.cncf.helm.config.v1+json")
	idx := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: a, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: attestation, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}},
		mutate.IndexAddendum{Add: unknown, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}},
		mutate.IndexAddendum{Add: hidden, Descriptor: v1.Descriptor{ArtifactType: "application/vnd.cncf.helm.config.v1+json"}},
		mutate.IndexAddendum{Add: artifact, Descriptor: v1.Descriptor{ArtifactType: "application/vnd.cncf.helm.config.v1+json"}},
		mutate.IndexAddendum{Add: b, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	ref := f.push(t, "multi", idx)
	f.publish(t, "index", ref)
	e := f.wait(t)
	if e.GetImage().GetDigest() != digestOf(t, idx) {
		t.Errorf("image digest %s", e.GetImage().GetDigest())
	}
	var got []string
	for _, p := range e.GetPlatforms() {
		got = append(got, p.GetDigest()+" "+p.GetPlatform().GetArchitecture())
	}
	if diff := cmp.Diff([]string{digestOf(t, a) + " amd64", digestOf(t, b) + " arm64", digestOf(t, unknown) + " s390x", digestOf(t, hidden) + " riscv64"}, got); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

// TestKnownImage: the same image again is not pulled again, and has the same
// report.
func TestKnownImage(t *testing.T) {
	f := start(t)
	ref := f.push(t, "v1", vulnerable(t, "amd64"))
	f.publish(t, "first", ref)
	first := f.wait(t)
	f.publish(t, "second", ref)
	second := f.wait(t)
	if first.GetScanId() == second.GetScanId() {
		t.Error("two pushes are one scan")
	}
	if !proto.Equal(first.GetPlatforms()[0], second.GetPlatforms()[0]) {
		t.Errorf("reports differ: %v, %v", first.GetPlatforms(), second.GetPlatforms())
	}
}

// TestKnownLayers: an image of known layers costs no layer pull, only the merge.
func TestKnownLayers(t *testing.T) {
	f := start(t)
	first := vulnerable(t, "amd64")
	f.publish(t, "first", f.push(t, "v1", first))
	f.wait(t)
	f.pulled.Clear()
	// Another configuration makes another image of the same layers.
	second, err := mutate.Config(first, v1.Config{User: "1000"})
	if err != nil {
		t.Fatal(err)
	}
	f.publish(t, "second", f.push(t, "v2", second))
	e := f.wait(t)
	if e.GetImage().GetDigest() != digestOf(t, second) {
		t.Fatalf("scanned %s", e.GetImage().GetDigest())
	}
	layers, err := second.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if _, ok := f.pulled.Load(digestOf(t, l)); ok {
			t.Errorf("layer %s was pulled again", digestOf(t, l))
		}
	}
	c := scannerv1.NewScannerServiceClient(f.dial(t, "operator", "admin"))
	resp, err := c.GetScan(t.Context(), &scannerv1.GetScanRequest{ScanId: e.GetScanId(), View: scannerv1.ScanView_SCAN_VIEW_FULL})
	if err != nil || resp.GetScan().GetReports()[0].GetPackageCount() != 3 || resp.GetScan().GetReports()[0].GetFindingCount() == 0 {
		t.Errorf("report %v, %v", resp, err)
	}
}

// TestFaults: what cannot be scanned becomes a dead letter with a reason.
func TestFaults(t *testing.T) {
	f := start(t)
	// An attestation that a registry sends back is passed over without a dead letter:
	// the first one to come is that of the first case.
	bundle := mutate.ConfigMediaType(vulnerable(t, "arm64"), "application/vnd.dev.sigstore.bundle.v0.3+json")
	f.publish(t, "evidence", f.push(t, "bundle", bundle))
	corrupt, err := mutate.AppendLayers(vulnerable(t, "amd64"), static.NewLayer([]byte("this is no tar archive, whatever it is called: "+strings.Repeat("x", 1000)), types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	artifact := mutate.ConfigMediaType(vulnerable(t, "amd64"), "application/vnd.cncf.helm.config.v1+json")
	for _, c := range []struct {
		name, want string
		ref        *typev1.ImageRef
	}{
		{"registry not allowed", "REGISTRY_NOT_ALLOWED", &typev1.ImageRef{Registry: "registry.example", Repository: "a", Tag: "b"}},
		{"no such tag", "IMAGE_NOT_FOUND", &typev1.ImageRef{Registry: f.host, Repository: "team/app", Tag: "nothing"}},
		{"helm chart", "NOT_AN_IMAGE", f.push(t, "chart", artifact)},
		{"malformed reference", "INVALID_REFERENCE", &typev1.ImageRef{Registry: f.host, Repository: "../x", Tag: "b"}},
		{"registry down", "REGISTRY_UNAVAILABLE", &typev1.ImageRef{Registry: "127.0.0.1:1", Repository: "a", Tag: "b"}},
		{"corrupt layer", "LAYER_CORRUPT", f.push(t, "corrupt", corrupt)},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.publish(t, c.name, c.ref)
			if d := f.deadLetter(t); d.GetReason() != c.want || d.GetService() != "scanner" {
				t.Errorf("dead letter %s: %s", d.GetReason(), d.GetMessage())
			}
		})
	}
}

// TestScanImage asks for a scan and watches it to its end.
func TestScanImage(t *testing.T) {
	f := start(t)
	ref := f.push(t, "v1", vulnerable(t, "amd64"))
	c := scannerv1.NewScannerServiceClient(f.dial(t, "client", "ci"))
	req := &scannerv1.ScanImageRequest{Image: ref, RequestId: "6f1e7a52-3c7c-4b0e-9a3c-0d6f3f1c2b4a"}
	first, err := c.ScanImage(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.ScanImage(t.Context(), req)
	if err != nil || again.GetScan().GetScanId() != first.GetScan().GetScanId() {
		t.Errorf("asked twice: %v, %v", again, err)
	}
	stream, err := c.WatchScan(t.Context(), &scannerv1.WatchScanRequest{ScanId: first.GetScan().GetScanId()})
	if err != nil {
		t.Fatal(err)
	}
	var last *scannerv1.Scan
	for {
		m, err := stream.Recv()
		if err == io.EOF { //nolint:errorlint // a stream ends with it bare
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = m.GetScan()
	}
	if last.GetState() != scannerv1.Scan_STATE_SUCCEEDED || last.GetReports()[0].GetFindingCount() == 0 || last.GetReports()[0].GetFindings() != nil {
		t.Errorf("last state %v", last)
	}
	for _, c2 := range []struct {
		ref  *typev1.ImageRef
		want codes.Code
	}{
		{&typev1.ImageRef{Registry: f.host, Repository: "team/app", Tag: "nothing"}, codes.NotFound},
		{&typev1.ImageRef{Registry: "registry.example", Repository: "a", Tag: "b"}, codes.PermissionDenied},
		{&typev1.ImageRef{Registry: f.host, Repository: "UPPER", Tag: "b"}, codes.InvalidArgument},
		{&typev1.ImageRef{Registry: "127.0.0.1:1", Repository: "a", Tag: "b"}, codes.Unavailable},
	} {
		if _, err := c.ScanImage(t.Context(), &scannerv1.ScanImageRequest{Image: c2.ref}); apierr.From(err).Code() != c2.want {
			t.Errorf("%v: %v, want %v", c2.ref, err, c2.want)
		}
	}
}

// TestImport replaces the seed and refuses to lose most of it.
func TestImport(t *testing.T) {
	f := start(t)
	c := scannerv1.NewAdvisoryServiceClient(f.dial(t, "operator", "admin"))
	before, err := c.GetSnapshot(t.Context(), &scannerv1.GetSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if before.GetSnapshot().GetAdvisoryCount() < 15 || before.GetSnapshot().GetRejectedCount() != 0 {
		t.Errorf("seed: %v", before.GetSnapshot())
	}
	record, err := os.ReadFile("../../../deploy/advisories/GO-2022-1059.json")
	if err != nil {
		t.Fatal(err)
	}
	send := func(force bool, records ...[]byte) (*scannerv1.ImportSnapshotResponse, error) {
		stream, err := c.ImportSnapshot(t.Context())
		if err != nil {
			return nil, err
		}
		req := &scannerv1.ImportSnapshotRequest{Force: force}
		for _, r := range records {
			req.Records = append(req.Records, &scannerv1.AdvisoryRecord{Name: "test.json", Json: r})
		}
		if err := stream.Send(req); err != nil && err != io.EOF { //nolint:errorlint // a stream ends with it bare
			return nil, err
		}
		return stream.CloseAndRecv()
	}
	if _, err := send(false, record); apierr.From(err).Reason() != "SNAPSHOT_TOO_SMALL" {
		t.Errorf("small import: %v", err)
	}
	if _, err := send(true, []byte("{}")); apierr.From(err).Reason() != "NO_ADVISORIES" {
		t.Errorf("empty import: %v", err)
	}
	got, err := send(true, record, []byte("{"))
	if err != nil {
		t.Fatal(err)
	}
	if got.GetSnapshot().GetAdvisoryCount() != 1 || got.GetSnapshot().GetRejectedCount() != 1 || len(got.GetRejected()) != 1 {
		t.Errorf("import: %v", got)
	}
	// CISA's catalogue alone leaves the records as they are.
	stream, err := c.ImportSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range []string{`{"vulnerabilities":[`, `{"cveID":"CVE-2022-32149"}]}`} {
		if err := stream.Send(&scannerv1.ImportSnapshotRequest{KevJson: []byte(piece)}); err != nil {
			t.Fatal(err)
		}
	}
	imported := got.GetSnapshot()
	if got, err = stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	if got.GetSnapshot().GetAdvisoryCount() != 1 || got.GetSnapshot().GetDigest() == imported.GetDigest() {
		t.Errorf("import of scores: %v", got)
	}
	after, err := c.GetSnapshot(t.Context(), &scannerv1.GetSnapshotRequest{})
	if err != nil || after.GetSnapshot().GetDigest() != got.GetSnapshot().GetDigest() {
		t.Errorf("in use: %v, %v", after, err)
	}
}

// TestBundle: what one site exports and signs another one imports; what somebody else
// signed is refused, and so is what is older than what is in use.
func TestBundle(t *testing.T) {
	f := start(t)
	c := scannerv1.NewAdvisoryServiceClient(f.dial(t, "operator", "admin"))
	export := func() (*scannerv1.SnapshotInfo, []byte) {
		t.Helper()
		stream, err := c.ExportSnapshot(t.Context(), &scannerv1.ExportSnapshotRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var info *scannerv1.SnapshotInfo
		var content []byte
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return info, content
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.GetSnapshot() != nil {
				info = m.GetSnapshot()
			}
			content = append(content, m.GetChunk()...)
		}
	}
	send := func(key ed25519.PrivateKey, info *scannerv1.SnapshotInfo, content []byte, force bool) (*scannerv1.SnapshotInfo, error) {
		t.Helper()
		var bundle bytes.Buffer
		s := advisorybundle.Statement{Digest: info.GetDigest(), Size: int64(len(content)), DataTime: info.GetDataTime().AsTime()}
		if err := advisorybundle.Write(&bundle, s, content, key); err != nil {
			t.Fatal(err)
		}
		stream, err := c.ImportBundle(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for rest := bundle.Bytes(); len(rest) > 0; {
			n := min(len(rest), 1000)
			if err := stream.Send(&scannerv1.ImportBundleRequest{Force: force, Chunk: rest[:n]}); err != nil {
				break
			}
			rest = rest[n:]
		}
		resp, err := stream.CloseAndRecv()
		return resp.GetSnapshot(), err
	}
	old, content := export()
	importRecord(t, c, `{"id":"X-1","modified":"2099-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"npm","name":"p"},"versions":["1"]}]}`)
	if _, err := send(f.key, old, content, false); apierr.From(err).Reason() != "SNAPSHOT_OLDER" {
		t.Errorf("an older bundle: %v", err)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := send(stranger, old, content, true); apierr.From(err).Reason() != "BUNDLE_UNTRUSTED" || apierr.From(err).Code() != codes.PermissionDenied {
		t.Errorf("the bundle of a stranger: %v", err)
	}
	if _, err := send(f.key, old, content[:len(content)-1], true); apierr.From(err).Reason() != "BUNDLE_MALFORMED" {
		t.Errorf("a bundle that is not what it says: %v", err)
	}
	got, err := send(f.key, old, content, true)
	if err != nil || got.GetDigest() != old.GetDigest() {
		t.Errorf("forced: %v, %v", got, err)
	}
	if now, _ := export(); now.GetDigest() != old.GetDigest() {
		t.Errorf("in use is %v", now)
	}
}

func importRecord(t *testing.T, c scannerv1.AdvisoryServiceClient, record string) {
	t.Helper()
	stream, err := c.ImportSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&scannerv1.ImportSnapshotRequest{Force: true, Records: []*scannerv1.AdvisoryRecord{{Name: "x", Json: []byte(record)}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
}
