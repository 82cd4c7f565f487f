package grpcx

import (
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// WireMarshaler is a message that has its protobuf encoding at hand. A handler may
// return one in place of the generated message.
type WireMarshaler interface {
	// MarshalWire gives the encoding; it is freed when it has been sent.
	MarshalWire() (mem.BufferSlice, error)
}

// WireUnmarshaler is a message that reads its protobuf encoding by itself, for calls
// whose generated messages would be mostly garbage. It must accept and refuse what the
// generated message does.
type WireUnmarshaler interface {
	// UnmarshalWire reads the encoding and keeps nothing of its memory.
	UnmarshalWire(data mem.BufferSlice) error
}

// Codec is protobuf as gRPC has it, also for messages that do their own encoding. On
// the wire both are the same, so either side may use it without the other.
type Codec struct{ proto encoding.CodecV2 }

// NewCodec returns the codec. Servers of this package use it for every call; clients
// that need it give it to a call with grpc.ForceCodecV2.
func NewCodec() Codec { return Codec{encoding.GetCodecV2(grpcproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(WireMarshaler); ok {
		return m.MarshalWire()
	}
	return c.proto.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(WireUnmarshaler); ok {
		return m.UnmarshalWire(data)
	}
	return c.proto.Unmarshal(data, v)
}

// Name implements encoding.CodecV2.
func (c Codec) Name() string { return grpcproto.Name }
