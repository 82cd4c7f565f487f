package strictjson

import (
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// UnmarshalMessage decodes the JSON form of a message, as Unmarshal does that of a
// struct. Fields that the message does not have are left out.
func UnmarshalMessage(data []byte, m proto.Message) error {
	if err := CheckMessage(data, m); err != nil {
		return err
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: MaxDepth}).Unmarshal(data, m); err != nil {
		return &Error{Problem: clip(err.Error()), cause: err}
	}
	return nil
}

// CheckMessage is what UnmarshalMessage refuses before it decodes, for documents that
// another library decodes into m.
func CheckMessage(data []byte, m proto.Message) error {
	return check(data, ofMessageLocked(m.ProtoReflect().Descriptor()))
}

var (
	messagesMu sync.Mutex
	messages   = map[protoreflect.FullName]*shape{}
)

func ofMessageLocked(d protoreflect.MessageDescriptor) *shape {
	messagesMu.Lock()
	defer messagesMu.Unlock()
	return ofMessage(d)
}

// ofMessage finds the shape of a message. The well-known types have a JSON form of
// their own without names of fields, or with free ones.
func ofMessage(d protoreflect.MessageDescriptor) *shape {
	if d.ParentFile().Package() == "google.protobuf" {
		return nil
	}
	if s, ok := messages[d.FullName()]; ok {
		return s
	}
	s := newObject()
	messages[d.FullName()] = s
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		s.add(&field{shape: ofField(f)}, f.JSONName(), f.TextName())
	}
	return s
}

func ofField(f protoreflect.FieldDescriptor) *shape {
	value := f
	if f.IsMap() {
		value = f.MapValue()
	}
	var inner *shape
	if m := value.Message(); m != nil {
		inner = ofMessage(m)
	}
	if f.IsMap() || f.IsList() {
		return &shape{elements: inner}
	}
	return inner
}
