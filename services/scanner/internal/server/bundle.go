package server

import (
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/advisorybundle"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// exportChunk is the size of the pieces that a snapshot is given out in.
const exportChunk = 1 << 20

// ExportSnapshot implements the RPC.
func (a *advisories) ExportSnapshot(_ *scannerv1.ExportSnapshotRequest, stream grpc.ServerStreamingServer[scannerv1.ExportSnapshotResponse]) error {
	s := a.Snapshots.Snapshot()
	if s == nil {
		return apierr.New(codes.NotFound, core.ReasonNoSnapshot, "no advisories are in use: import some (seaworthyctl advisories import)")
	}
	m := &scannerv1.ExportSnapshotResponse{Snapshot: wire.Snapshot(s.Info())}
	for piece := range slices.Chunk(s.Encode(), exportChunk) {
		m.Chunk = piece
		if err := stream.Send(m); err != nil {
			return err
		}
		m = &scannerv1.ExportSnapshotResponse{}
	}
	return nil
}

// bundleReader reads the chunks of a stream.
type bundleReader struct {
	stream grpc.ClientStreamingServer[scannerv1.ImportBundleRequest, scannerv1.ImportBundleResponse]
	rest   []byte
	force  bool
	begun  bool
	// failed is what the stream ended with, if not with its end.
	failed error
}

// Read implements io.Reader.
func (r *bundleReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		req, err := r.stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.failed = err
			}
			return 0, err
		}
		if !r.begun {
			r.begun, r.force = true, req.GetForce()
		}
		r.rest = req.GetChunk()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// ImportBundle implements the RPC.
func (a *advisories) ImportBundle(stream grpc.ClientStreamingServer[scannerv1.ImportBundleRequest, scannerv1.ImportBundleResponse]) error {
	if len(a.TrustedKeys) == 0 {
		return apierr.New(codes.FailedPrecondition, "NO_TRUSTED_KEYS",
			"no key is configured that a bundle could be verified with (advisories.trusted_keys)")
	}
	r := &bundleReader{stream: stream}
	statement, content, err := advisorybundle.Read(r, a.TrustedKeys, advisory.MaxFile)
	switch {
	case r.failed != nil:
		return r.failed
	case errors.Is(err, advisorybundle.ErrUntrusted):
		return apierr.New(codes.PermissionDenied, "BUNDLE_UNTRUSTED", err.Error())
	case err != nil:
		return apierr.New(codes.InvalidArgument, "BUNDLE_MALFORMED", err.Error())
	}
	ctx := stream.Context()
	info, err := a.Snapshots.ImportFile(ctx, content, statement.Digest, r.force)
	if errors.Is(err, advisory.ErrCorrupt) || errors.Is(err, advisory.ErrOlder) || errors.Is(err, advisory.ErrNewer) {
		return apierr.New(codes.InvalidArgument, "BUNDLE_MALFORMED", err.Error())
	}
	if err != nil {
		return importError(err)
	}
	id, e := wire.Updated(info, a.Now())
	if err := a.Publisher.PublishAdvisories(ctx, id, e); err != nil {
		// The snapshot is in use; importing it again publishes again.
		return busError(err)
	}
	return stream.SendAndClose(&scannerv1.ImportBundleResponse{Snapshot: wire.Snapshot(info)})
}
