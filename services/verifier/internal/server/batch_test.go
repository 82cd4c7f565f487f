package server

import (
	"slices"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

func TestBatchFieldNumbers(t *testing.T) {
	t.Parallel()
	for m, want := range map[proto.Message]map[string]protowire.Number{
		&verifierv1.BatchGetVerdictsRequest{}:  {"images": batchImages, "environment": batchEnvironment, "min_sequence": batchMinSequence, "view": batchView},
		&verifierv1.BatchGetVerdictsResponse{}: {"verdicts": 1, "shortened_from": batchShortened},
		&typev1.ImageRef{}:                     {"registry": imageRegistry, "repository": imageRepository, "tag": imageTag, "digest": imageDigest},
	} {
		all := m.ProtoReflect().Descriptor().Fields()
		if all.Len() != len(want) {
			t.Errorf("%T has %d fields, %d are read", m, all.Len(), len(want))
		}
		for i := range all.Len() {
			if f := all.Get(i); f.Number() != want[string(f.Name())] {
				t.Errorf("%s is %d, not %d", f.FullName(), f.Number(), want[string(f.Name())])
			}
		}
	}
}

// FuzzBatchRequest compares what is read with the generated message of the same bytes.
func FuzzBatchRequest(f *testing.F) {
	whole := &verifierv1.BatchGetVerdictsRequest{
		Images:      []*typev1.ImageRef{{Registry: "r.example", Repository: "a/b", Tag: "v1"}, {Digest: "sha256:00"}, {}},
		Environment: "prod", MinSequence: -7, View: verifierv1.VerdictView_VERDICT_VIEW_BASIC,
	}
	many := &verifierv1.BatchGetVerdictsRequest{Images: make([]*typev1.ImageRef, MaxBatch+1), View: -1}
	for i := range many.Images {
		many.Images[i] = &typev1.ImageRef{Tag: "x"}
	}
	for _, m := range []*verifierv1.BatchGetVerdictsRequest{{}, whole, many} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x0a, 0x03, 0x0a, 0x01, 0xff}) // a registry that is no UTF-8
	f.Add([]byte{0x0a, 0x02, 0x08, 0x01, 0x12, 0x01, 0xff})
	f.Add([]byte{0x0a, 0x05, 0x0a})
	f.Fuzz(func(t *testing.T, b []byte) {
		var (
			got  batchRequest
			want verifierv1.BatchGetVerdictsRequest
		)
		// In two buffers, as a message can arrive.
		err := got.UnmarshalWire(mem.BufferSlice{mem.SliceBuffer(b[:len(b)/2]), mem.SliceBuffer(b[len(b)/2:])})
		wantErr := proto.Unmarshal(b, &want)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%x: %v, generated: %v", b, err, wantErr)
		}
		if err != nil {
			return
		}
		if got.count != len(want.GetImages()) || got.environment != want.GetEnvironment() || got.minSequence != want.GetMinSequence() || got.view != want.GetView() {
			t.Errorf("%x: %+v, generated: %v", b, got, &want)
		}
		for i, ref := range got.refs {
			if ref != verdictpb.Ref(want.GetImages()[i]) {
				t.Errorf("%x: image %d is %v", b, i, ref)
			}
		}
		if len(got.refs) != min(got.count, MaxBatch) {
			t.Errorf("%x: %d images of %d", b, len(got.refs), got.count)
		}
	})
}

func TestBatchResponse(t *testing.T) {
	t.Parallel()
	for _, bodies := range [][][]byte{nil, {[]byte("ab"), []byte("c")}, {make([]byte, 5000), []byte("end")}} {
		all, err := batchResponse(bodies).MarshalWire()
		if err != nil {
			t.Fatal(err)
		}
		if got := all.Materialize(); !slices.Equal(got, slices.Concat(bodies...)) {
			t.Errorf("%d bytes, not %d", len(got), len(slices.Concat(bodies...)))
		}
		all.Free()
	}
}
