package server

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/protofields"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// Numbers of the fields that batchRequest reads and batchResponse writes; a test compares
// them with the descriptors.
const (
	batchImages      protowire.Number = 1
	batchEnvironment protowire.Number = 2
	batchMinSequence protowire.Number = 5
	batchView        protowire.Number = 6

	batchShortened protowire.Number = 2

	imageRegistry   protowire.Number = 1
	imageRepository protowire.Number = 2
	imageTag        protowire.Number = 3
	imageDigest     protowire.Number = 4
)

// Register adds the service to a server. BatchGetVerdicts has a handler of its own: a
// hundred questions and answers as generated messages cost several times the call.
func (s *Verdicts) Register(to *grpcx.Server) {
	desc := verifierv1.VerdictService_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i := range desc.Methods {
		if desc.Methods[i].MethodName == "BatchGetVerdicts" {
			desc.Methods[i].Handler = handleBatch
		}
	}
	to.RegisterService(&desc, s)
}

func handleBatch(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the signature is gRPC's
	req := &batchRequest{}
	if err := decode(req); err != nil {
		return nil, err
	}
	handle := func(ctx context.Context, _ any) (any, error) {
		s, ok := srv.(*Verdicts)
		if !ok {
			return nil, fmt.Errorf("service is a %T", srv)
		}
		return s.batch(ctx, req)
	}
	if interceptor == nil {
		return handle(ctx, req)
	}
	return interceptor(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: verifierv1.VerdictService_BatchGetVerdicts_FullMethodName}, handle)
}

func (s *Verdicts) batch(ctx context.Context, req *batchRequest) (batchResponse, error) {
	if req.count > MaxBatch {
		return nil, apierr.InvalidField("images", fmt.Sprintf("%d images, at most %d are answered at once", req.count, MaxBatch))
	}
	q, err := checkQuestion(req, verifierv1.VerdictView_VERDICT_VIEW_DECISION)
	if err != nil {
		return nil, err
	}
	// One reference that is wrong must not cost the caller the other answers.
	var faults map[int]error
	sound := req.refs
	for i, ref := range req.refs {
		err := checkRef(ref)
		if err == nil {
			err = checkEnvironment(q.environment, ref)
		}
		if err != nil && faults == nil {
			faults, sound = map[int]error{}, slices.Clone(req.refs[:i])
		}
		if err != nil {
			faults[i] = err
		} else if faults != nil {
			sound = append(sound, ref)
		}
	}
	all, whole, err := s.boundedAnswers(ctx, sound, q)
	if err != nil {
		return nil, err
	}
	if faults == nil {
		return shortened(all, whole, len(all)), nil
	}
	out := make([][]byte, len(req.refs))
	from := len(out)
	for i := range out {
		fault := faults[i]
		if fault == nil {
			if whole--; whole < 0 {
				from = min(from, i)
			}
			out[i], all = all[0], all[1:]
			continue
		}
		// What is no reference is not repeated as one.
		v := s.unjudged(imageref.Ref{}, core.CodeInvalidReference, fmt.Sprintf("images[%d]: %v", i, fault))
		v.Image = nil
		if out[i], err = encode(v, verifierv1.VerdictView_VERDICT_VIEW_BASIC); err != nil {
			return nil, err
		}
	}
	return shortened(out, from, len(out)), nil
}

// maxBatchBytes of verdicts are answered as fully as was asked for, far below the limit
// of a message, and batchPart verdicts are read at a time to find out.
const (
	maxBatchBytes = 8 << 20
	batchPart     = 50
)

// boundedAnswers is answers with the view of a decision after the first maxBatchBytes.
// It also returns how many have the view of the question.
func (s *Verdicts) boundedAnswers(ctx context.Context, refs []imageref.Ref, q question) (out [][]byte, whole int, err error) {
	if q.view == verifierv1.VerdictView_VERDICT_VIEW_DECISION {
		out, err = s.answers(ctx, refs, q)
		return out, len(out), err
	}
	size := 0
	for part := range slices.Chunk(refs, batchPart) {
		all, err := s.answers(ctx, part, q)
		if err != nil {
			return nil, 0, err
		}
		for _, body := range all {
			if size += len(body); size > maxBatchBytes && len(out) > 0 {
				q.view = verifierv1.VerdictView_VERDICT_VIEW_DECISION
				rest, err := s.answers(ctx, refs[len(out):], q)
				return append(out, rest...), len(out), err
			}
			out = append(out, body)
		}
	}
	return out, len(out), nil
}

// shortened adds from which answer on the view is that of a decision, if there are any.
func shortened(all [][]byte, from, count int) batchResponse {
	if from >= count {
		return all
	}
	return append(all, protowire.AppendVarint(protowire.AppendTag(nil, batchShortened, protowire.VarintType), uint64(from)))
}

// batchResponse is a BatchGetVerdictsResponse: encoded answers, each with its field.
type batchResponse [][]byte

// MarshalWire implements grpcx.WireMarshaler.
func (r batchResponse) MarshalWire() (mem.BufferSlice, error) {
	size := 0
	for _, body := range r {
		size += len(body)
	}
	pool := mem.DefaultBufferPool()
	b := pool.Get(size)
	*b = (*b)[:0]
	for _, body := range r {
		*b = append(*b, body...)
	}
	return mem.BufferSlice{mem.NewBuffer(b, pool)}, nil
}

// batchRequest is a BatchGetVerdictsRequest, read without a message for each image.
type batchRequest struct {
	// refs are the images, at most MaxBatch of count. They share one string.
	refs        []imageref.Ref
	count       int
	environment string
	minSequence int64
	view        verifierv1.VerdictView
}

// GetView implements asking.
func (r *batchRequest) GetView() verifierv1.VerdictView { return r.view }

// GetMinSequence implements asking.
func (r *batchRequest) GetMinSequence() int64 { return r.minSequence }

// GetEnvironment implements asking.
func (r *batchRequest) GetEnvironment() string { return r.environment }

// UnmarshalWire implements grpcx.WireUnmarshaler.
func (r *batchRequest) UnmarshalWire(data mem.BufferSlice) error {
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	b := buffer.ReadOnlyData()
	*r = batchRequest{}
	text := string(b)
	count := protofields.NewReader(b)
	for count.Next() {
		if count.Is(batchImages, protowire.BytesType) {
			r.count++
		}
	}
	r.refs = make([]imageref.Ref, 0, min(r.count, MaxBatch))
	in := protofields.NewReader(b)
	for in.Next() {
		switch {
		case in.Is(batchImages, protowire.BytesType):
			from, to := in.Range()
			ref, err := readRef(b[from:to], text[from:to])
			if err != nil {
				return err
			}
			if len(r.refs) < MaxBatch {
				r.refs = append(r.refs, ref)
			}
		case in.Is(batchEnvironment, protowire.BytesType):
			r.environment = in.String()
		case in.Is(batchMinSequence, protowire.VarintType):
			r.minSequence = int64(in.Varint())
		case in.Is(batchView, protowire.VarintType):
			r.view = verifierv1.VerdictView(in.Varint())
		}
	}
	return in.Err()
}

// readRef reads an ImageRef, whose strings become parts of text: the same message.
func readRef(b []byte, text string) (imageref.Ref, error) {
	var ref imageref.Ref
	in := protofields.NewReader(b)
	for in.Next() {
		var to *string
		switch {
		case in.Is(imageRegistry, protowire.BytesType):
			to = &ref.Registry
		case in.Is(imageRepository, protowire.BytesType):
			to = &ref.Repository
		case in.Is(imageTag, protowire.BytesType):
			to = &ref.Tag
		case in.Is(imageDigest, protowire.BytesType):
			to = &ref.Digest
		default:
			continue
		}
		from, end := in.Text()
		*to = text[from:end]
	}
	return ref, in.Err()
}
