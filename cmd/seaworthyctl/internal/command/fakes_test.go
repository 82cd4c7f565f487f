package command_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/notifier/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

// recorder keeps what the services were asked.
type recorder struct {
	mu   sync.Mutex
	last any
}

func (r *recorder) record(req any) { r.mu.Lock(); defer r.mu.Unlock(); r.last = req }

func (r *recorder) asked() any { r.mu.Lock(); defer r.mu.Unlock(); return r.last }

func at(minutes int) *timestamppb.Timestamp {
	return timestamppb.New(now.Add(time.Duration(minutes) * time.Minute))
}

type fakeScanner struct {
	scannerv1.UnimplementedScannerServiceServer
	recorder
	scans        []*scannerv1.Scan // the states that WatchScan goes through
	pages        []*scannerv1.ListFindingsResponse
	sbom         []string
	snapshot     *scannerv1.SnapshotInfo
	imported     []*scannerv1.ImportSnapshotRequest
	answer       *scannerv1.ImportSnapshotResponse
	refreshed    *scannerv1.RefreshSnapshotResponse
	file, bundle []byte
	affected     []*scannerv1.ListAffectedImagesResponse
	err          error
}

func (s *fakeScanner) ListAffectedImages(_ context.Context, req *scannerv1.ListAffectedImagesRequest) (*scannerv1.ListAffectedImagesResponse, error) {
	s.record(req)
	if s.err != nil {
		return nil, s.err
	}
	if req.GetPageToken() == "" {
		return s.affected[0], nil
	}
	return s.affected[1], nil
}

func (s *fakeScanner) ScanImage(_ context.Context, req *scannerv1.ScanImageRequest) (*scannerv1.ScanImageResponse, error) {
	s.record(req)
	if s.err != nil {
		return nil, s.err
	}
	return &scannerv1.ScanImageResponse{Scan: s.scans[0]}, nil
}

func (s *fakeScanner) WatchScan(_ *scannerv1.WatchScanRequest, ss grpc.ServerStreamingServer[scannerv1.WatchScanResponse]) error {
	for _, scan := range s.scans {
		if err := ss.Send(&scannerv1.WatchScanResponse{Scan: scan}); err != nil {
			return err
		}
	}
	return nil
}

func (s *fakeScanner) ListFindings(_ context.Context, req *scannerv1.ListFindingsRequest) (*scannerv1.ListFindingsResponse, error) {
	s.record(req)
	if s.err != nil {
		return nil, s.err
	}
	if req.GetPageToken() == "" {
		return s.pages[0], nil
	}
	return s.pages[1], nil
}

func (s *fakeScanner) GetSbom(req *scannerv1.GetSbomRequest, ss grpc.ServerStreamingServer[scannerv1.GetSbomResponse]) error {
	s.record(req)
	for _, c := range s.sbom {
		if err := ss.Send(&scannerv1.GetSbomResponse{Chunk: []byte(c)}); err != nil {
			return err
		}
	}
	return s.err
}

type fakeAdvisories struct {
	scannerv1.UnimplementedAdvisoryServiceServer
	scanner *fakeScanner
}

func (a fakeAdvisories) GetSnapshot(context.Context, *scannerv1.GetSnapshotRequest) (*scannerv1.GetSnapshotResponse, error) {
	if a.scanner.snapshot == nil {
		return nil, apierr.New(codes.NotFound, "NO_SNAPSHOT", "no advisories were imported yet")
	}
	return &scannerv1.GetSnapshotResponse{Snapshot: a.scanner.snapshot}, nil
}

func (a fakeAdvisories) RefreshSnapshot(_ context.Context, req *scannerv1.RefreshSnapshotRequest) (*scannerv1.RefreshSnapshotResponse, error) {
	a.scanner.record(req)
	if a.scanner.err != nil {
		return nil, a.scanner.err
	}
	return a.scanner.refreshed, nil
}

func (a fakeAdvisories) ExportSnapshot(_ *scannerv1.ExportSnapshotRequest, ss grpc.ServerStreamingServer[scannerv1.ExportSnapshotResponse]) error {
	half := len(a.scanner.file) / 2
	if err := ss.Send(&scannerv1.ExportSnapshotResponse{Snapshot: a.scanner.snapshot, Chunk: a.scanner.file[:half]}); err != nil {
		return err
	}
	return ss.Send(&scannerv1.ExportSnapshotResponse{Chunk: a.scanner.file[half:]})
}

func (a fakeAdvisories) ImportBundle(ss grpc.ClientStreamingServer[scannerv1.ImportBundleRequest, scannerv1.ImportBundleResponse]) error {
	for {
		req, err := ss.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		a.scanner.record(req)
		a.scanner.bundle = append(a.scanner.bundle, req.GetChunk()...)
	}
	if a.scanner.err != nil {
		return a.scanner.err
	}
	return ss.SendAndClose(&scannerv1.ImportBundleResponse{Snapshot: a.scanner.snapshot})
}

func (a fakeAdvisories) ImportSnapshot(ss grpc.ClientStreamingServer[scannerv1.ImportSnapshotRequest, scannerv1.ImportSnapshotResponse]) error {
	for {
		req, err := ss.Recv()
		if errors.Is(err, io.EOF) {
			return ss.SendAndClose(a.scanner.answer)
		}
		if err != nil {
			return err
		}
		if a.scanner.err != nil {
			return a.scanner.err
		}
		a.scanner.imported = append(a.scanner.imported, req)
	}
}

type fakeSigner struct {
	signerv1.UnimplementedAttestationServiceServer
	bundle *signerv1.GetTrustBundleResponse
}

// fakeKeys has the keys of a signer's bundle.
type fakeKeys struct {
	signerv1.UnimplementedKeyAdminServiceServer
	recorder
	signer *fakeSigner
}

func (k *fakeKeys) ListKeys(context.Context, *signerv1.ListKeysRequest) (*signerv1.ListKeysResponse, error) {
	return &signerv1.ListKeysResponse{Keys: k.signer.bundle.GetKeys()}, nil
}

func (k *fakeKeys) RotateKey(_ context.Context, req *signerv1.RotateKeyRequest) (*signerv1.RotateKeyResponse, error) {
	k.record(req)
	return &signerv1.RotateKeyResponse{Key: k.signer.bundle.GetKeys()[0]}, nil
}

func (k *fakeKeys) RevokeKey(_ context.Context, req *signerv1.RevokeKeyRequest) (*signerv1.RevokeKeyResponse, error) {
	k.record(req)
	return nil, apierr.New(codes.FailedPrecondition, "KEY_IN_USE", "the key is in use: rotate it first")
}

func (s *fakeSigner) GetTrustBundle(context.Context, *signerv1.GetTrustBundleRequest) (*signerv1.GetTrustBundleResponse, error) {
	return s.bundle, nil
}

type fakeVerifier struct {
	verifierv1.UnimplementedVerdictServiceServer
	recorder
	answers []*verifierv1.Verdict // in turn; the last one again and again
	changes []*verifierv1.WatchVerdictsResponse
	drop    bool // end the first watch in the middle
	asks    int
	err     error
	history []*verifierv1.VerdictChange
	proof   *verifierv1.ExplainVerdictResponse

	exceptions []*verifierv1.Exception
	vex        []*verifierv1.VexDocument
}

func (v *fakeVerifier) GetVerdictHistory(_ context.Context, req *verifierv1.GetVerdictHistoryRequest) (*verifierv1.GetVerdictHistoryResponse, error) {
	v.record(req)
	if v.err != nil {
		return nil, v.err
	}
	// A page holds one change.
	page := 0
	if req.GetPageToken() != "" {
		page = int(req.GetPageToken()[0] - '0')
	}
	if page >= len(v.history) {
		return &verifierv1.GetVerdictHistoryResponse{}, nil
	}
	r := &verifierv1.GetVerdictHistoryResponse{Changes: v.history[page : page+1]}
	if page+1 < len(v.history) {
		r.NextPageToken = string(rune('0' + page + 1))
	}
	return r, nil
}

func (v *fakeVerifier) ExplainVerdict(_ context.Context, req *verifierv1.ExplainVerdictRequest) (*verifierv1.ExplainVerdictResponse, error) {
	v.record(req)
	return v.proof, v.err
}

func (v *fakeVerifier) GetVerdict(_ context.Context, req *verifierv1.GetVerdictRequest) (*verifierv1.GetVerdictResponse, error) {
	v.record(req)
	if v.err != nil {
		return nil, v.err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	answer := v.answers[min(v.asks, len(v.answers)-1)]
	v.asks++
	return &verifierv1.GetVerdictResponse{Verdict: answer}, nil
}

func (v *fakeVerifier) WatchVerdicts(req *verifierv1.WatchVerdictsRequest, ss grpc.ServerStreamingServer[verifierv1.WatchVerdictsResponse]) error {
	v.record(req)
	v.mu.Lock()
	drop := v.drop
	v.drop = false
	v.mu.Unlock()
	for _, c := range v.changes {
		if c.GetCursor() <= req.GetCursor() {
			continue
		}
		if err := ss.Send(c); err != nil {
			return err
		}
		if drop {
			return apierr.New(codes.Unavailable, "SERVER_STOPPING", "the server is stopping")
		}
	}
	<-ss.Context().Done()
	return ss.Context().Err()
}

type fakeNotifier struct {
	notifierv1.UnimplementedDeliveryServiceServer
	recorder
	deliveries []*notifierv1.Delivery
}

func (n *fakeNotifier) ListDeliveries(_ context.Context, req *notifierv1.ListDeliveriesRequest) (*notifierv1.ListDeliveriesResponse, error) {
	n.record(req)
	return &notifierv1.ListDeliveriesResponse{Deliveries: n.deliveries}, nil
}

func ledger() *typev1.ImageRef {
	return &typev1.ImageRef{Registry: "registry.test:5000", Repository: "shop/ledger", Tag: "1.4.0", Digest: digestA}
}

func verdict(state verifierv1.Verdict_State, reasons ...*verifierv1.Reason) *verifierv1.Verdict {
	return &verifierv1.Verdict{
		Image: ledger(), State: state, Reasons: reasons, EvaluateTime: at(-5), ExpireTime: at(60), TraceId: traceID,
		Platforms: []*verifierv1.PlatformVerdict{{
			Digest: digestB, Platform: &typev1.Platform{Os: "linux", Architecture: "arm64", Variant: "v8"}, State: state,
			Policies: []*verifierv1.PolicyResult{{
				Policy: "baseline", State: state,
				Rules: []*verifierv1.RuleResult{
					{Rule: "root-user", Outcome: verifierv1.RuleResult_OUTCOME_PASSED},
					{Rule: "fixable-high", Outcome: verifierv1.RuleResult_OUTCOME_DENIED, ItemCount: 3, Items: []string{"CVE-2022-32149 in golang.org/x/text", "evil \x1b[2J item"}},
				},
			}},
			Inputs: &verifierv1.Inputs{Attestations: []*verifierv1.EvidenceRef{{}, {}}},
		}},
	}
}
