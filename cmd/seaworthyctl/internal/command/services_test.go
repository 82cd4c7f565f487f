package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/command"
	notifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/notifier/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/output"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	denied := &verifierv1.Reason{Code: "RULE_DENIED", Policy: "baseline", Rule: "fixable-high", Message: "3 fixable findings are high or worse"}
	f.verifier.answers = []*verifierv1.Verdict{verdict(verifierv1.Verdict_STATE_FAIL, denied)}
	f.golden("verdict-fail", f.run("verdict", "shop/ledger:1.4.0"))
	f.golden("verdict-fail-json", f.run("verdict", "shop/ledger:1.4.0", "-o", "json"))
	want := &verifierv1.GetVerdictRequest{Image: &typev1.ImageRef{Registry: "registry.test:5000", Repository: "shop/ledger", Tag: "1.4.0"}}
	if d := cmp.Diff(want, f.verifier.asked(), protocmp.Transform()); d != "" {
		t.Errorf("request (-want +got):\n%s", d)
	}

	f.verifier.answers = []*verifierv1.Verdict{{Image: ledger(), State: verifierv1.Verdict_STATE_PASS}}
	if r := f.run("verdict", digestA); r.code != 0 {
		t.Errorf("PASS: %+v", r)
	}
	if d := cmp.Diff(&verifierv1.GetVerdictRequest{Image: &typev1.ImageRef{Digest: digestA}}, f.verifier.asked(), protocmp.Transform()); d != "" {
		t.Errorf("request for a digest alone (-want +got):\n%s", d)
	}
	f.verifier.answers = []*verifierv1.Verdict{{Image: &typev1.ImageRef{Digest: digestB}, State: verifierv1.Verdict_STATE_UNKNOWN, Pending: true, Reasons: []*verifierv1.Reason{{Code: "PENDING", Message: "the scan runs"}}}}
	f.golden("verdict-unknown", f.run("verdict", "docker.io/library/alpine:3"))
	f.verifier.answers = []*verifierv1.Verdict{{Image: ledger()}}
	if r := f.run("verdict", digestA); r.code != 2 {
		t.Errorf("a verdict without state: %+v, want exit code 2", r)
	}
}

func TestVerdict_waits(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.verifier.answers = []*verifierv1.Verdict{
		{State: verifierv1.Verdict_STATE_UNKNOWN, Reasons: []*verifierv1.Reason{{Code: "NEVER_SEEN"}}},
		{State: verifierv1.Verdict_STATE_UNKNOWN, Pending: true, Reasons: []*verifierv1.Reason{{Code: "PENDING"}}},
		verdict(verifierv1.Verdict_STATE_PASS),
	}
	if r := f.run("verdict", "shop/ledger:1.4.0", "--wait", "30s"); r.code != 0 {
		t.Errorf("a verdict that comes while waiting: %+v", r)
	}
	if req := f.verifier.asked().(*verifierv1.GetVerdictRequest); !req.GetWait() || req.GetResolve() || req.GetEnvironment() != "" {
		t.Errorf("the service was asked %v", req)
	}
	f.run("verdict", "shop/ledger:1.4.0", "--resolve", "--environment", "staging")
	if req := f.verifier.asked().(*verifierv1.GetVerdictRequest); req.GetWait() || !req.GetResolve() || req.GetEnvironment() != "staging" {
		t.Errorf("the service was asked %v", req)
	}
	f.verifier.answers = f.verifier.answers[:1]
	f.verifier.asks = 0
	start := time.Now()
	if r := f.run("verdict", "shop/ledger:1.4.0", "-w", "700ms"); r.code != 2 {
		t.Errorf("a verdict that does not come: %+v, want exit code 2", r)
	}
	if took := time.Since(start); took < 700*time.Millisecond {
		t.Errorf("waited only %v", took)
	}
}

func TestVerdictWatch(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.verifier.drop = true
	f.verifier.changes = []*verifierv1.WatchVerdictsResponse{
		{Cursor: 1, SendTime: at(1), Verdict: verdict(verifierv1.Verdict_STATE_UNKNOWN, &verifierv1.Reason{Code: "PENDING", Message: "on its way"})},
		{Cursor: 1, SendTime: at(2)},
		{Cursor: 2, SendTime: at(3), PreviousState: verifierv1.Verdict_STATE_UNKNOWN, Verdict: verdict(verifierv1.Verdict_STATE_PASS)},
	}
	for _, format := range []string{"table", "json"} {
		ctx, cancel := context.WithCancel(t.Context())
		var out, errOut output.Buffer
		code := make(chan int, 1)
		go func() {
			code <- command.Run(ctx, []string{"verdict", "watch", "--cursor", "0", "-o", format, "--context", f.file}, command.Env{
				Out: &out, Err: &errOut, Now: func() time.Time { return now },
				Places: func(flag string) fleetcontext.Places { return fleetcontext.Places{Flag: flag} },
			})
		}()
		deadline := time.Now().Add(20 * time.Second)
		for strings.Count(out.String(), "\n") < 2 && time.Now().Before(deadline) {
			select {
			case c := <-code:
				t.Fatalf("ended with %d: %s", c, errOut.String())
			case <-time.After(10 * time.Millisecond):
			}
		}
		cancel()
		f.golden("watch-"+format, result{<-code, out.String(), errOut.String()})
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	scan := func(state scannerv1.Scan_State) *scannerv1.Scan {
		return &scannerv1.Scan{ScanId: "scan-1", Image: ledger(), State: state, TraceId: traceID}
	}
	done := scan(scannerv1.Scan_STATE_SUCCEEDED)
	done.Reports = []*scannerv1.Report{
		{ImageDigest: digestA, Platform: &typev1.Platform{Os: "linux", Architecture: "amd64"}, PackageCount: 123, FindingCount: 4},
		{ImageDigest: digestB, Platform: &typev1.Platform{Os: "linux", Architecture: "arm64"}, Incomplete: true, Problems: []string{"layer 2: not gzip"}},
	}
	f.scanner.scans = []*scannerv1.Scan{scan(scannerv1.Scan_STATE_QUEUED), scan(scannerv1.Scan_STATE_RUNNING), done}
	f.golden("scan", f.run("scan", "shop/ledger:1.4.0"))
	if f.scanner.asked().(*scannerv1.ScanImageRequest).GetRequestId() == "" {
		t.Error("the request has no id: a retry would be a second scan")
	}
	f.golden("scan-wait", f.run("scan", "shop/ledger:1.4.0", "--wait"))

	failed := scan(scannerv1.Scan_STATE_FAILED)
	failed.ErrorReason, failed.ErrorMessage = "LAYER_CORRUPT", "layer 2 is not what its digest says"
	f.scanner.scans = []*scannerv1.Scan{failed}
	f.golden("scan-failed", f.run("scan", "shop/ledger:1.4.0", "--wait"))
	failed.ErrorReason = "IMAGE_NOT_FOUND"
	if r := f.run("scan", "shop/ledger:1.4.0", "--wait"); r.code != 5 {
		t.Errorf("scan of a missing image: %+v, want exit code 5", r)
	}
	f.scanner.err = apierr.New(codes.PermissionDenied, "REGISTRY_NOT_ALLOWED", "registry evil.test is not configured")
	f.golden("scan-not-allowed", f.run("scan", "evil.test/x:1"))
}

func TestFindings(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.scanner.pages = []*scannerv1.ListFindingsResponse{
		{ImageDigest: digestA, NextPageToken: "2", Findings: []*scannerv1.Finding{{
			Id: "CVE-2022-32149", PackageName: "golang.org/x/text", PackageVersion: "v0.3.7", Severity: typev1.Severity_SEVERITY_HIGH,
			FixedVersions: []string{"0.3.8"}, Kev: true, Location: "usr/bin/ledger", Summary: "Denial of service \x1b]0;x\x07 in language tags",
		}}},
		{ImageDigest: digestA, Findings: []*scannerv1.Finding{
			{Id: "CVE-2024-1", PackageName: "zlib", PackageVersion: "1.2", Severity: typev1.Severity_SEVERITY_LOW},
			{Id: "CVE-2024-2", PackageName: "zlib", PackageVersion: "1.2", Severity: typev1.Severity_SEVERITY_LOW},
		}},
	}
	f.golden("findings", f.run("findings", "shop/ledger:1.4.0", "--min-severity", "low"))
	asked := f.scanner.asked().(*scannerv1.ListFindingsRequest)
	if asked.GetMinSeverity() != typev1.Severity_SEVERITY_LOW || asked.GetImage().GetDigest() != digestA {
		t.Errorf("second page asked with %v", asked)
	}
	f.golden("findings-json", f.run("findings", "shop/ledger:1.4.0", "-o", "json"))
	f.scanner.pages = []*scannerv1.ListFindingsResponse{{ImageDigest: digestA}}
	f.golden("findings-none", f.run("findings", "shop/ledger:1.4.0"))
	f.scanner.err = apierr.New(codes.NotFound, "SCAN_NOT_FOUND", "the image has no finished scan")
	f.golden("findings-not-found", f.run("findings", "shop/ledger:1.4.0"))
}

func TestSbom(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.scanner.sbom = []string{`{"spdxVersion":`, `"SPDX-2.3"}`}
	r := f.run("sbom", "shop/ledger:1.4.0", "--format", "spdx-json", "--platform", "linux/arm/v7")
	if r.code != 0 || r.out != `{"spdxVersion":"SPDX-2.3"}` || r.err != "" {
		t.Errorf("sbom = %+v", r)
	}
	want := &typev1.Platform{Os: "linux", Architecture: "arm", Variant: "v7"}
	if d := cmp.Diff(want, f.scanner.asked().(*scannerv1.GetSbomRequest).GetPlatform(), protocmp.Transform()); d != "" {
		t.Errorf("platform (-want +got):\n%s", d)
	}
	f.scanner.err = apierr.New(codes.Unimplemented, "UNIMPLEMENTED", "CycloneDX comes in a later release")
	if r := f.run("sbom", "shop/ledger:1.4.0", "--format", "cyclonedx-json"); r.code != 3 {
		t.Errorf("a document that breaks off: %+v, want exit code 3", r)
	}
}

func TestAdvisories(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.golden("advisories-none", f.run("advisories", "status"))
	f.scanner.snapshot = &scannerv1.SnapshotInfo{Digest: digestA, DataTime: at(-60 * 24 * 3), AdvisoryCount: 58759, RejectedCount: 2, Ecosystems: []string{"Debian", "Go"}}
	f.golden("advisories-status", f.run("advisories", "status"))
	f.scanner.refreshed = &scannerv1.RefreshSnapshotResponse{Snapshot: f.scanner.snapshot, Changed: true, Feeds: []*scannerv1.FeedStatus{
		{Name: "osv-debian", CheckTime: at(0), ChangeTime: at(-60), TryTime: at(0)},
		{Name: "kev", CheckTime: at(-120), ChangeTime: at(-600), TryTime: at(0), Error: "download https://feeds.example/kev.json: the server answers 503 Service Unavailable"},
	}}
	f.golden("advisories-refresh", f.run("advisories", "refresh", "--force"))
	if req, ok := f.scanner.asked().(*scannerv1.RefreshSnapshotRequest); !ok || !req.GetForce() {
		t.Errorf("request %v", f.scanner.asked())
	}
	f.scanner.refreshed.Changed, f.scanner.refreshed.Feeds = false, nil
	f.golden("advisories-refresh-same", f.run("advisories", "refresh"))
	f.scanner.err = apierr.New(codes.FailedPrecondition, "NO_FEEDS", "no feeds are configured (advisories.feeds)")
	f.golden("advisories-refresh-none", f.run("advisories", "refresh"))
	f.scanner.err = nil

	dir := t.TempDir()
	for i := range 1201 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("CVE-%04d.json", i)), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "huge.json"), make([]byte, 4<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	f.scanner.answer = &scannerv1.ImportSnapshotResponse{
		Snapshot: f.scanner.snapshot,
		Rejected: []*scannerv1.RejectedRecord{{Name: "CVE-0007.json", Message: "id is missing"}},
	}
	site := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer site.Close()
	if r := f.run("advisories", "import", site.URL+"/CVE-0001.json"); r.code != 0 || len(f.scanner.imported) != 1 || len(f.scanner.imported[0].GetRecords()) != 1 {
		t.Errorf("import from a web server: %+v, %v", r, f.scanner.imported)
	}
	if r := f.run("advisories", "import", site.URL+"/none.json"); r.code == 0 || !strings.Contains(r.err, "404") {
		t.Errorf("import of what is not there: %+v", r)
	}
	f.scanner.imported = nil
	f.golden("advisories-import", f.run("advisories", "import", dir, "--force"))
	records := 0
	for _, m := range f.scanner.imported {
		records += len(m.GetRecords())
		if n := len(m.GetRecords()); n > 500 {
			t.Errorf("message with %d records", n)
		}
	}
	if records != 1201 || !f.scanner.imported[0].GetForce() {
		t.Errorf("%d records arrived, force %v", records, f.scanner.imported[0].GetForce())
	}

	f.scanner.imported = nil
	lists := t.TempDir()
	for name, content := range map[string]string{"kev.json": `{"catalogVersion":"1","vulnerabilities":[{"cveID":"CVE-1"}]}`, "epss.csv": "cve,epss\nCVE-1,0.5\n"} {
		if err := os.WriteFile(filepath.Join(lists, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := f.run("advisories", "import", lists); r.code != 0 {
		t.Errorf("import of scores: %+v", r)
	}
	var kev, epss string
	for _, m := range f.scanner.imported {
		kev, epss, records = kev+string(m.GetKevJson()), epss+string(m.GetEpssCsv()), records+len(m.GetRecords())
	}
	if !strings.Contains(kev, "CVE-1") || epss != "cve,epss\nCVE-1,0.5\n" || records != 1201 {
		t.Errorf("scores arrived as %q and %q", kev, epss)
	}

	f.scanner.err = apierr.New(codes.FailedPrecondition, "SNAPSHOT_TOO_SMALL", "the snapshot would shrink by 90 %")
	f.golden("advisories-too-small", f.run("advisories", "import", dir))
	f.scanner.err = nil
	f.as(tlsx.ClientID(domain, "ci"))
	f.golden("advisories-denied", f.run("advisories", "import", dir))
	if r := f.run("advisories", "import", t.TempDir()); r.code != 4 {
		t.Errorf("import of an empty directory: %+v, want exit code 4", r)
	}
}

func TestDeliveries(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.notifier.deliveries = []*notifierv1.Delivery{
		{DeliveryId: "d2", Subscription: "chat", ImageDigest: digestA, State: notifierv1.Delivery_STATE_PENDING, Attempts: 2, LastStatusCode: 503, LastError: "the subscriber answered 503", CreateTime: at(-3), NextAttemptTime: at(2)},
		{DeliveryId: "d1", Subscription: "audit", ImageDigest: digestA, State: notifierv1.Delivery_STATE_DELIVERED, Attempts: 1, LastStatusCode: 204, CreateTime: at(-4)},
	}
	f.verifier.answers = []*verifierv1.Verdict{verdict(verifierv1.Verdict_STATE_PASS)}
	f.golden("deliveries", f.run("deliveries", "shop/ledger:1.4.0", "--state", "pending"))
	want := &notifierv1.ListDeliveriesRequest{PageSize: 100, ImageDigest: digestA, State: notifierv1.Delivery_STATE_PENDING}
	if d := cmp.Diff(want, f.notifier.asked(), protocmp.Transform()); d != "" {
		t.Errorf("request (-want +got):\n%s", d)
	}
	f.verifier.answers = []*verifierv1.Verdict{{State: verifierv1.Verdict_STATE_UNKNOWN}}
	if r := f.run("deliveries", "shop/ledger:9"); r.code != 5 {
		t.Errorf("deliveries of an image never seen: %+v, want exit code 5", r)
	}
	f.notifier.deliveries = nil
	if r := f.run("deliveries", "-o", "json"); r.code != 0 || strings.TrimSpace(r.out) != "{}" {
		t.Errorf("no deliveries as JSON: %+v", r)
	}
}

func TestContextAndVersion(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := f.run("context", "show")
	for _, want := range []string{f.file, "spiffe://seaworthy.local/operator/admin", f.context.Addresses.Verifier, "registry.test:5000"} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("context show = %+v, want %q in it", r, want)
		}
	}
	if r := f.run("context", "show", "-o", "json"); !json.Valid([]byte(r.out)) || r.code != 0 {
		t.Errorf("context show -o json = %+v", r)
	}
	if r := f.run("version"); r.code != 0 || !strings.HasPrefix(r.out, "seaworthyctl ") {
		t.Errorf("version = %+v", r)
	}
	if r := f.run("completion", "bash"); r.code != 0 || r.out == "" {
		t.Errorf("completion bash ended with %d", r.code)
	}
}

// TestContextIsSaid says which context answered if the command does not name one, and
// takes none from a folder that only holds a file.
func TestContextIsSaid(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := runWith(t.Context(), fleetcontext.Places{Env: f.file}, "context", "show")
	if want := "context: " + f.file + " ($SEAWORTHY_CONTEXT)\n"; r.code != 0 || r.err != want {
		t.Errorf("by the variable: %+v, want %q", r, want)
	}
	folder := filepath.Join(t.TempDir(), "checked out")
	if err := fleetcontext.Save(filepath.Join(folder, ".seaworthy", fleetcontext.FileName), f.context); err != nil {
		t.Fatal(err)
	}
	planted := fleetcontext.Places{WorkDir: folder, ConfigDir: filepath.Join(t.TempDir(), "config")}
	if r := runWith(t.Context(), planted, "context", "show"); r.code != 6 || !strings.Contains(r.err, "is not the context of a fleet that you started here") {
		t.Errorf("by a folder: %+v", r)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	nowhere := fleetcontext.Places{WorkDir: t.TempDir()}
	r := runWith(t.Context(), nowhere, "verdict", "alpine")
	if r.code != 6 || !strings.Contains(r.err, "no fleet found") || !strings.Contains(r.err, "make run") {
		t.Errorf("without a fleet: %+v", r)
	}
	for name, args := range map[string][]string{
		"unknown command":      {"verdicts", "x"},
		"unknown subcommand":   {"advisories", "imprt"},
		"unknown flag":         {"verdict", "x", "--wat"},
		"no image":             {"verdict"},
		"two images":           {"findings", "a", "b"},
		"bad image":            {"verdict", "shop/UPPER:1"},
		"bad digest":           {"verdict", "sha256:12"},
		"bad output":           {"verdict", "x", "-o", "yaml"},
		"pem elsewhere":        {"verdict", "x", "-o", "pem"},
		"bad severity":         {"findings", "x", "--min-severity", "awful"},
		"bad format":           {"sbom", "x", "--format", "docx"},
		"bad platform":         {"sbom", "x", "--platform", "linux"},
		"bad state":            {"deliveries", "--state", "lost"},
		"bad cursor":           {"verdict", "watch", "--cursor", "-2"},
		"negative wait":        {"verdict", "x", "--wait", "-1s"},
		"negative timeout":     {"verdict", "x", "--timeout", "-1s"},
		"bad sequence":         {"deadletter", "show", "seven"},
		"sequence zero":        {"deadletter", "show", "0"},
		"nothing to replay":    {"deadletter", "replay"},
		"all and some":         {"deadletter", "replay", "--all", "7"},
		"filter without all":   {"deadletter", "replay", "7", "--reason", "X"},
		"no certificate dir":   {"certs", "init"},
		"bad trust domain":     {"certs", "init", "--dir", t.TempDir(), "--trust-domain", "A B"},
		"bad validity":         {"certs", "init", "--dir", t.TempDir(), "--validity", "0s"},
		"import without paths": {"advisories", "import"},
	} {
		if r := f.run(args...); r.code != 4 || !strings.Contains(r.err, "error: ") || !strings.Contains(r.err, "--help") && !strings.Contains(r.err, "deadletter list") {
			t.Errorf("%s: %+v, want exit code 4 and where to read on", name, r)
		}
	}

	f.verifier.err = apierr.New(codes.Internal, "INTERNAL", "internal error")
	if r := f.run("verdict", "x"); r.code != 3 {
		t.Errorf("internal error: %+v, want exit code 3", r)
	}
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.context.Addresses.Verifier = closed.Addr().String()
	_ = closed.Close()
	f.context.Addresses.Notifier = ""
	f.save()
	if r := f.run("verdict", "x"); r.code != 6 || !strings.Contains(r.err, "is the fleet running?") {
		t.Errorf("verifier down: %+v, want exit code 6", r)
	}
	if r := f.run("deliveries"); r.code != 3 || !strings.Contains(r.err, "add the address") {
		t.Errorf("no address: %+v, want exit code 3", r)
	}
	// The scanner at the verifier's address must not be believed.
	f.context.Addresses.Verifier = f.context.Addresses.Scanner
	f.save()
	if r := f.run("verdict", "x"); r.code != 6 || !strings.Contains(r.err, "the server is spiffe://seaworthy.local/service/scanner") {
		t.Errorf("another service answers: %+v, want exit code 6", r)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"scan"}, {"verdict"}, {"verdict", "watch"}, {"findings"}, {"sbom"}, {"attestations"}, {"advisories", "import"}, {"advisories", "status"},
		{"trust-bundle"}, {"keys", "list"}, {"keys", "rotate"}, {"keys", "revoke"}, {"deadletter", "list"}, {"deadletter", "show"}, {"deadletter", "replay"}, {"deliveries"}, {"certs", "init"},
		{"context", "show"}, {"version"},
	} {
		r := runWith(t.Context(), fleetcontext.Places{}, append(args, "--help")...)
		if r.code != 0 || !strings.Contains(r.out, "Examples:\n  seaworthyctl "+strings.Join(args[:1], " ")) {
			t.Errorf("%v --help has no example: %+v", args, r)
		}
	}
	if r := runWith(t.Context(), fleetcontext.Places{}, "--help"); !strings.Contains(r.out, "Exit codes:") {
		t.Error("the help does not name the exit codes")
	}
}
