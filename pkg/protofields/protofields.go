// Package protofields reads encoded protobuf messages field by field, for the few calls
// whose generated messages cost more than what is done with them.
package protofields

import (
	"errors"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

var (
	errNotUTF8     = errors.New("string field contains invalid UTF-8")
	errFieldNumber = errors.New("field number is too large")
)

// Reader goes over the fields of one message, in the order they were written:
//
//	r := protofields.NewReader(b)
//	for r.Next() {
//		switch {
//		case r.Is(1, protowire.BytesType):
//
// A field that comes twice counts the last time, as in generated messages, unless it is
// repeated. It keeps the bytes it reads.
type Reader struct {
	b   []byte
	at  int
	err error

	number protowire.Number
	kind   protowire.Type
	varint uint64
	value  []byte
}

// NewReader returns a reader before the first field.
func NewReader(b []byte) Reader { return Reader{b: b} }

// Next goes to the next field. It is false at the end and at the first error.
func (r *Reader) Next() bool {
	if r.err != nil || r.at == len(r.b) {
		return false
	}
	var n int
	if r.number, r.kind, n = protowire.ConsumeTag(r.b[r.at:]); n < 0 {
		r.err = protowire.ParseError(n)
		return false
	}
	if r.number > protowire.MaxValidNumber {
		r.err = errFieldNumber
		return false
	}
	r.at += n
	r.varint, r.value = 0, nil
	switch r.kind {
	case protowire.VarintType:
		r.varint, n = protowire.ConsumeVarint(r.b[r.at:])
	case protowire.BytesType:
		r.value, n = protowire.ConsumeBytes(r.b[r.at:])
	default:
		n = protowire.ConsumeFieldValue(r.number, r.kind, r.b[r.at:])
	}
	if n < 0 {
		r.err = protowire.ParseError(n)
		return false
	}
	r.at += n
	return true
}

// Err is the error that ended the reading; nil at the end of the message.
func (r *Reader) Err() error { return r.err }

// Is tells whether the field has a number and is encoded as one of its type is. One
// that is encoded otherwise is to be passed over, like one of an unknown number.
func (r *Reader) Is(number protowire.Number, kind protowire.Type) bool {
	return r.number == number && r.kind == kind
}

// Varint is the value of a field of type VarintType.
func (r *Reader) Varint() uint64 { return r.varint }

// Bytes is the value of a field of type BytesType, a part of the message.
func (r *Reader) Bytes() []byte { return r.value }

// Range says where the value of a field of type BytesType is in the message.
func (r *Reader) Range() (from, to int) { return r.at - len(r.value), r.at }

// Text checks that a field of type BytesType is a string, and says where it is in the
// message. What is no UTF-8 ends the reading.
func (r *Reader) Text() (from, to int) {
	if !utf8.Valid(r.value) {
		r.err = errNotUTF8
	}
	return r.Range()
}

// String is the value of a field of type BytesType, as a string of its own. What is no
// UTF-8 ends the reading.
func (r *Reader) String() string {
	if !utf8.Valid(r.value) {
		r.err = errNotUTF8
	}
	return string(r.value)
}
