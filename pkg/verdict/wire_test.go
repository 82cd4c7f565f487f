package verdict

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

func TestFieldNumbers(t *testing.T) {
	t.Parallel()
	for m, want := range map[proto.Message]map[string]protowire.Number{
		&verifierv1.BatchGetVerdictsRequest{}:  {"images": questionImages, "environment": questionEnvironment, "min_sequence": questionMinSequence, "view": questionView},
		&typev1.ImageRef{}:                     {"registry": imageRegistry, "repository": imageRepository, "tag": imageTag, "digest": imageDigest},
		&verifierv1.BatchGetVerdictsResponse{}: {"verdicts": answersVerdicts},
		&verifierv1.Verdict{}: {
			"state": verdictState, "reasons": verdictReasons, "expire_time": verdictExpireTime, "digest": verdictDigest, "pending": verdictPending,
		},
		&verifierv1.Reason{}:     {"code": reasonCode, "message": reasonMessage},
		&timestamppb.Timestamp{}: {"seconds": timeSeconds, "nanos": timeNanos},
	} {
		all := m.ProtoReflect().Descriptor().Fields()
		for name, number := range want {
			f := all.ByNumber(number)
			if f == nil || string(f.Name()) != name {
				t.Errorf("%T: field %d is not %s", m, number, name)
			}
		}
	}
}

func TestQuestion(t *testing.T) {
	t.Parallel()
	many := make([]imageref.Ref, MaxBatch)
	for i := range many {
		many[i] = imageref.Ref{Registry: "registry.example:5000", Repository: "team/app", Tag: "v1", Digest: "sha256:" + string(make([]byte, 64))}
	}
	for _, q := range []question{{}, {images: []imageref.Ref{{Tag: "x"}, {}}, environment: "prod", minSequence: 1 << 62}, {images: many}} {
		b, err := q.MarshalWire()
		if err != nil {
			t.Fatal(err)
		}
		var m verifierv1.BatchGetVerdictsRequest
		if err := proto.Unmarshal(b.Materialize(), &m); err != nil {
			t.Fatal(err)
		}
		b.Free()
		want := &verifierv1.BatchGetVerdictsRequest{Environment: q.environment, MinSequence: q.minSequence, View: verifierv1.VerdictView_VERDICT_VIEW_DECISION}
		for _, r := range q.images {
			want.Images = append(want.Images, &typev1.ImageRef{Registry: r.Registry, Repository: r.Repository, Tag: r.Tag, Digest: r.Digest})
		}
		if !proto.Equal(&m, want) {
			t.Errorf("%v instead of %v", &m, want)
		}
	}
}

// FuzzAnswers compares what is read with the generated message of the same bytes. Only
// what is read is compared: bytes that are no message can still hold sound answers.
func FuzzAnswers(f *testing.F) {
	for _, m := range []*verifierv1.BatchGetVerdictsResponse{
		{},
		{Verdicts: []*verifierv1.Verdict{
			{},
			{
				Image: &typev1.ImageRef{Tag: "v1"}, State: verifierv1.Verdict_STATE_PASS, Digest: "sha256:00", Sequence: 7, Platforms: []*verifierv1.PlatformVerdict{{}},
				ExpireTime: timestamppb.New(time.Unix(1_800_000_000, 5)),
			},
			{State: verifierv1.Verdict_STATE_FAIL, Pending: true, Reasons: []*verifierv1.Reason{{Code: "A", Message: "b", Policy: "p"}, {}}, ExpireTime: &timestamppb.Timestamp{}},
		}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x0a, 0x03, 0x3a, 0x01, 0xff})
	f.Add([]byte{0x0a, 0x02, 0x10, 0x09})
	f.Fuzz(func(t *testing.T, b []byte) {
		var want verifierv1.BatchGetVerdictsResponse
		if proto.Unmarshal(b, &want) != nil {
			_ = new(answers).UnmarshalWire(mem.BufferSlice{mem.SliceBuffer(b)}) // must not panic
			return
		}
		var got answers
		if err := got.UnmarshalWire(mem.BufferSlice{mem.SliceBuffer(b[:len(b)/2]), mem.SliceBuffer(b[len(b)/2:])}); err != nil {
			t.Fatalf("%x: %v, but the generated message takes it", b, err)
		}
		if len(got.verdicts) != len(want.GetVerdicts()) {
			t.Fatalf("%x: %d answers, not %d", b, len(got.verdicts), len(want.GetVerdicts()))
		}
		for i, v := range got.verdicts {
			w := want.GetVerdicts()[i]
			var reasons []string
			for _, r := range w.GetReasons() {
				reasons = append(reasons, r.GetCode()+": "+r.GetMessage())
			}
			var ends time.Time
			if e := w.GetExpireTime(); e != nil {
				ends = e.AsTime()
			}
			if v.State != stateOf(w.GetState()) || v.Digest != w.GetDigest() || v.Pending != w.GetPending() || !v.ExpireTime.Equal(ends) || !slices.Equal(v.Reasons, reasons) {
				t.Errorf("%x: %+v, generated: %v", b, v, w)
			}
		}
	})
}
