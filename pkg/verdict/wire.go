package verdict

import (
	"fmt"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/protofields"
)

// Numbers of the fields that are written and read here; a test compares them with the
// descriptors.
const (
	questionImages      protowire.Number = 1
	questionEnvironment protowire.Number = 2
	questionMinSequence protowire.Number = 5
	questionView        protowire.Number = 6

	imageRegistry   protowire.Number = 1
	imageRepository protowire.Number = 2
	imageTag        protowire.Number = 3
	imageDigest     protowire.Number = 4

	answersVerdicts protowire.Number = 1

	verdictState      protowire.Number = 2
	verdictReasons    protowire.Number = 3
	verdictExpireTime protowire.Number = 6
	verdictDigest     protowire.Number = 7
	verdictPending    protowire.Number = 10

	reasonCode    protowire.Number = 1
	reasonMessage protowire.Number = 2

	timeSeconds protowire.Number = 1
	timeNanos   protowire.Number = 2
)

// question is a BatchGetVerdictsRequest that writes itself: a hundred generated
// messages, made to be thrown away, cost more than the call.
type question struct {
	images      []imageref.Ref
	environment string
	minSequence int64
}

// MarshalWire implements grpcx.WireMarshaler.
func (q *question) MarshalWire() (mem.BufferSlice, error) {
	size := sizeString(q.environment) + 2*(1+protowire.SizeVarint(1<<63))
	for i := range q.images {
		n := sizeImage(&q.images[i])
		size += 1 + protowire.SizeBytes(n)
	}
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(size)
	b := (*buffer)[:0]
	for i := range q.images {
		r := &q.images[i]
		b = protowire.AppendTag(b, questionImages, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(sizeImage(r)))
		b = appendString(b, imageRegistry, r.Registry)
		b = appendString(b, imageRepository, r.Repository)
		b = appendString(b, imageTag, r.Tag)
		b = appendString(b, imageDigest, r.Digest)
	}
	b = appendString(b, questionEnvironment, q.environment)
	b = protowire.AppendTag(b, questionMinSequence, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(q.minSequence))
	b = protowire.AppendTag(b, questionView, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(verifierv1.VerdictView_VERDICT_VIEW_DECISION))
	*buffer = b
	return mem.BufferSlice{mem.NewBuffer(buffer, pool)}, nil
}

func sizeImage(r *imageref.Ref) int {
	return sizeString(r.Registry) + sizeString(r.Repository) + sizeString(r.Tag) + sizeString(r.Digest)
}

// sizeString is the size of a string field whose tag has one byte.
func sizeString(s string) int {
	if s == "" {
		return 0
	}
	return 1 + protowire.SizeBytes(len(s))
}

func appendString(b []byte, number protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return protowire.AppendString(b, s)
}

// answers are the verdicts of a BatchGetVerdictsResponse.
type answers struct{ verdicts []Verdict }

// UnmarshalWire implements grpcx.WireUnmarshaler.
func (a *answers) UnmarshalWire(data mem.BufferSlice) error {
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	a.verdicts = a.verdicts[:0]
	in := protofields.NewReader(buffer.ReadOnlyData())
	for in.Next() {
		if !in.Is(answersVerdicts, protowire.BytesType) {
			continue
		}
		v, err := readVerdict(in.Bytes())
		if err != nil {
			return fmt.Errorf("verdict %d: %w", len(a.verdicts), err)
		}
		a.verdicts = append(a.verdicts, v)
	}
	return in.Err()
}

func readVerdict(b []byte) (Verdict, error) {
	var (
		v             Verdict
		expires       bool
		seconds, nano int64
	)
	in := protofields.NewReader(b)
	for in.Next() {
		switch {
		case in.Is(verdictState, protowire.VarintType):
			v.State = stateOf(verifierv1.Verdict_State(in.Varint()))
		case in.Is(verdictReasons, protowire.BytesType):
			reason, err := readReason(in.Bytes())
			if err != nil {
				return Verdict{}, err
			}
			v.Reasons = append(v.Reasons, reason)
		case in.Is(verdictExpireTime, protowire.BytesType):
			expires = true
			at := protofields.NewReader(in.Bytes())
			for at.Next() {
				switch {
				case at.Is(timeSeconds, protowire.VarintType):
					seconds = int64(at.Varint())
				case at.Is(timeNanos, protowire.VarintType):
					nano = int64(int32(at.Varint()))
				}
			}
			if err := at.Err(); err != nil {
				return Verdict{}, err
			}
		case in.Is(verdictDigest, protowire.BytesType):
			v.Digest = in.String()
		case in.Is(verdictPending, protowire.VarintType):
			v.Pending = in.Varint() != 0
		}
	}
	if expires {
		v.ExpireTime = time.Unix(seconds, nano).UTC()
	}
	return v, in.Err()
}

func readReason(b []byte) (string, error) {
	var code, message string
	in := protofields.NewReader(b)
	for in.Next() {
		switch {
		case in.Is(reasonCode, protowire.BytesType):
			code = in.String()
		case in.Is(reasonMessage, protowire.BytesType):
			message = in.String()
		}
	}
	return code + ": " + message, in.Err()
}

func stateOf(s verifierv1.Verdict_State) State {
	switch s {
	case verifierv1.Verdict_STATE_PASS:
		return Pass
	case verifierv1.Verdict_STATE_FAIL:
		return Fail
	default:
		return Unknown
	}
}
