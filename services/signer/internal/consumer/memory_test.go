package consumer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/race"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/consumer"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/registrytest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// scans is a scanner that makes bills of materials of a size while it sends them.
type scans struct {
	scannerv1.ScannerServiceClient
	scan *scannerv1.Scan
	size int64
}

func (s scans) GetScan(context.Context, *scannerv1.GetScanRequest, ...grpc.CallOption) (*scannerv1.GetScanResponse, error) {
	return &scannerv1.GetScanResponse{Scan: s.scan}, nil
}

func (s scans) GetSbom(_ context.Context, r *scannerv1.GetSbomRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[scannerv1.GetSbomResponse], error) {
	return &document{digest: r.GetImage().GetDigest(), left: s.size}, nil
}

// document is an SPDX document of about a size that is nowhere as a whole.
type document struct {
	grpc.ClientStream
	digest    string
	left      int64
	n         int
	ended     bool
	beginning bytes.Buffer
}

func (d *document) Recv() (*scannerv1.GetSbomResponse, error) {
	if d.ended {
		return nil, io.EOF
	}
	b := &d.beginning
	b.Reset()
	if d.n == 0 {
		fmt.Fprintf(b, `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","dataLicense":"CC0-1.0","name":"app","documentNamespace":"https://seaworthy.dev/spdx/1",`+
			`"creationInfo":{"created":"2026-03-01T12:00:00Z"},"packages":[{"SPDXID":"SPDXRef-image","name":"app","versionInfo":%q}`, d.digest)
	}
	for b.Len() < 64<<10 && d.left > int64(b.Len()) {
		d.n++
		fmt.Fprintf(b, ",\n"+`{"SPDXID":"SPDXRef-Package-%08d","name":"libexample%08d","versionInfo":"1.2.3-%d","externalRefs":[{"referenceLocator":"pkg:deb/debian/libexample%08d@1.2.3-%d"}]}`,
			d.n, d.n, d.n%7, d.n, d.n%7)
	}
	if d.left -= int64(b.Len()); d.left <= 0 {
		d.ended = true
		b.WriteString(`],"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-image"}]}`)
	}
	return &scannerv1.GetSbomResponse{Chunk: b.Bytes()}, nil
}

// signer handles the event of a scan with a bill of materials of a size.
type signer struct {
	*consumer.Attest
	event *eventv1.ImageScannedEvent
	by    identity.Identity
}

func newSigner(tb testing.TB, host string, image imageref.Ref, size int64, k kind) signer {
	tb.Helper()
	db, err := sqldb.Open(tb.Context(), sqldb.Config{Driver: sqldb.SQLite, DSN: filepath.Join(tb.TempDir(), "signer.db")}, store.Schema)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	log, err := store.New(tb.Context(), db)
	if err != nil {
		tb.Fatal(err)
	}
	client, err := registry.New(registry.Config{Registries: []registry.Host{{Host: host, Insecure: true}}}, obs.Discard("signer"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	by := newIdentity(tb, k)
	w, err := evidence.New(log, client, []identity.Identity{by}, 0, obs.Discard("signer"), time.Now)
	if err != nil {
		tb.Fatal(err)
	}
	ref := &typev1.ImageRef{Registry: image.Registry, Repository: image.Repository, Digest: image.Digest}
	report := &scannerv1.Report{ImageDigest: image.Digest}
	loose, err := protojson.Marshal(report)
	if err != nil {
		tb.Fatal(err)
	}
	var canonical bytes.Buffer
	if err := json.Compact(&canonical, loose); err != nil {
		tb.Fatal(err)
	}
	return signer{
		Attest: &consumer.Attest{
			Scans: scans{size: size, scan: &scannerv1.Scan{
				ScanId: "scan", Image: ref, State: scannerv1.Scan_STATE_SUCCEEDED, Reports: []*scannerv1.Report{report},
				CreateTime: timestamppb.Now(), EndTime: timestamppb.Now(),
			}},
			Evidence: w, Formats: []core.SBOMFormat{core.SPDXJSON}, MaxSBOM: attest.MaxDocument, Log: obs.Discard("signer").Logger,
			Publish: func(context.Context, string, proto.Message) error { return nil },
		},
		event: &eventv1.ImageScannedEvent{Image: ref, ScanId: "scan", Platforms: []*eventv1.ImageScannedEvent_PlatformScan{
			{Digest: image.Digest, ReportDigest: core.Digest(canonical.Bytes())},
		}},
		by: by,
	}
}

// watchHeap gives the most that the heap held until the result is called, in bytes.
func watchHeap() (stop func() uint64) {
	runtime.GC()
	peak, end, done := uint64(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 { close(end); <-done; return peak }
}

// BenchmarkAttest_Memory handles the event of a scan with one bill of materials, from
// the scanner's stream to the attestation that was read back. peak-MiB is the most
// that the heap of the process held, the registry in it included.
func BenchmarkAttest_Memory(b *testing.B) {
	r := registrytest.Start(b, true)
	for _, size := range []int64{1 << 20, 16 << 20, 64 << 20, largest} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			b.SetBytes(size)
			peak := uint64(0)
			for b.Loop() {
				b.StopTimer()
				s := newSigner(b, r.Host, r.PushImage("team/app"), size, ecdsaKey)
				stop := watchHeap()
				b.StartTimer()
				if err := s.Handle(b.Context(), s.event, nil); err != nil {
					b.Fatal(err)
				}
				peak = max(peak, stop())
			}
			b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
		})
	}
}

// largest is a document as large as there may be; its end comes on top of its size.
const largest = attest.MaxDocument - 1<<20

// Limits of the memory of a signer, whatever the size of a document. The race
// detector multiplies what a process takes.
const (
	maxHeap = 48 << 20
	maxRSS  = 160 << 20
)

// childVariable has the test be the signer of its parent.
const childVariable = "SEAWORTHY_TEST_LARGE_DOCUMENT"

// TestLargeDocument signs and attaches the largest document that there may be, and a
// large one with the other kind of key, each as another identity in a process of its own
// whose memory is looked at.
func TestLargeDocument(t *testing.T) {
	if of := os.Getenv(childVariable); of != "" {
		attachLarge(t, of)
		return
	}
	if testing.Short() || race.Enabled {
		t.Skip("takes seconds, and minutes under the race detector")
	}
	r := registrytest.Start(t, true)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[kind]int64{ecdsaKey: largest, edKey: 96 << 20, ecdsaKey + stamped: largest, edKey + stamped: 96 << 20, noKey + stamped: largest}
	if sigstoretest.HasReal() {
		kinds[ecdsaKey+logged], kinds[noKey+stamped+logged] = largest, largest
	}
	for as, size := range kinds {
		image := r.PushImage("team/app")
		child := exec.CommandContext(t.Context(), program, "-test.run", "^TestLargeDocument$", "-test.v")
		child.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %s %d", childVariable, image.Registry, image.Repository, image.Digest, as, size))
		out, err := child.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", as, err, out)
		}
		t.Logf("%s, %d MiB: %s", as, size>>20, regexp.MustCompile(`peak.*`).Find(out))
		list, err := r.Client().Referrers(t.Context(), image, registry.Filter{})
		if err != nil || len(list.Referrers) != 2 {
			t.Errorf("%s: %d attestations, %v; want those of the document and the report", as, len(list.Referrers), err)
		}
	}
}

func attachLarge(t *testing.T, of string) {
	t.Helper()
	f := strings.Fields(of)
	image := imageref.Ref{Registry: f[0], Repository: f[1], Digest: f[2]}
	size, err := strconv.ParseInt(f[4], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	s := newSigner(t, image.Registry, image, size, kind(f[3]))
	debug.SetMemoryLimit(maxRSS)
	stop := watchHeap()
	if err := s.Handle(t.Context(), s.event, nil); err != nil {
		t.Fatal(err)
	}
	heap, rss := stop(), peakRSS(t)
	t.Logf("peak heap %d MiB, peak RSS %d MiB", heap>>20, rss>>20)
	if heap > maxHeap {
		t.Errorf("the heap held %d MiB", heap>>20)
	}
	// What is mapped of a file counts as resident and can be taken away at any time.
	if !strings.HasPrefix(f[3], string(edKey)) && rss > maxRSS {
		t.Errorf("the process held %d MiB", rss>>20)
	}
}

// peakRSS is the most that the process had in memory, in bytes; 0 where it cannot be known.
func peakRSS(t *testing.T) uint64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if m == nil {
		return 0
	}
	kib, err := strconv.ParseUint(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
