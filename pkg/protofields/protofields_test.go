package protofields_test

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/sourcecontextpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seaworthy-dev/seaworthy/pkg/protofields"
)

// FuzzReader compares messages of a string and of numbers with what the generated ones
// make of the same bytes.
func FuzzReader(f *testing.F) {
	for _, m := range []proto.Message{
		&sourcecontextpb.SourceContext{FileName: "a/b.proto"}, &timestamppb.Timestamp{Seconds: 1, Nanos: -2}, &timestamppb.Timestamp{},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x0a, 0x01, 0xff})                         // no UTF-8
	f.Add([]byte{0x0a, 0x05, 'a'})                          // too short
	f.Add([]byte{0x0b, 0x0c, 0x0a, 0x01, 'a'})              // a group
	f.Add([]byte{0x0c})                                     // the end of none
	f.Add([]byte{0x0d, 1, 2, 3, 4, 0x08, 1, 0x0a, 1, 'b'})  // other types
	f.Add([]byte{0x00, 0x00})                               // no number
	f.Add([]byte{0x0a, 0x01, 'a', 0x0a, 0x01, 'b', 0x10})   // twice, and cut off
	f.Add([]byte{0xfa, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00}) // a number too large
	f.Add([]byte("\xc8\xaf\xff\x86''"))                     // a number too large for a message, not for its encoding
	f.Fuzz(func(t *testing.T, b []byte) {
		var (
			text    sourcecontextpb.SourceContext
			name    string
			where   string
			textErr = proto.Unmarshal(b, &text)
		)
		r := protofields.NewReader(b)
		for r.Next() {
			if r.Is(1, protowire.BytesType) {
				name = r.String()
				from, to := r.Text()
				where = string(b[from:to])
			}
		}
		if (r.Err() == nil) != (textErr == nil) {
			t.Fatalf("%x: %v, generated: %v", b, r.Err(), textErr)
		}
		if textErr == nil && (name != text.GetFileName() || where != name) {
			t.Errorf("%x: %q at %q, generated: %q", b, name, where, text.GetFileName())
		}
		var (
			at     timestamppb.Timestamp
			got    timestamppb.Timestamp
			number = proto.Unmarshal(b, &at)
		)
		r = protofields.NewReader(b)
		for r.Next() {
			switch {
			case r.Is(1, protowire.VarintType):
				got.Seconds = int64(r.Varint())
			case r.Is(2, protowire.VarintType):
				got.Nanos = int32(r.Varint())
			}
		}
		if (r.Err() == nil) != (number == nil) {
			t.Fatalf("%x: %v, generated: %v", b, r.Err(), number)
		}
		if number == nil && (got.GetSeconds() != at.GetSeconds() || got.GetNanos() != at.GetNanos()) {
			t.Errorf("%x: %v, generated: %v", b, &got, &at)
		}
	})
}
