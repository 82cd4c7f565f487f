// Package strictjson reads JSON documents that decide something and come from
// somebody else: manifests, image configurations, statements, bundles, webhooks.
//
// Readers of JSON differ. encoding/json takes `Manifests` for `manifests` and the last
// of two equal names; others distinguish case, or take the first. Whoever writes a
// document can use that to show one content to us and another to the program that
// uses it. So a document that readers would understand differently is refused:
//
//   - two members of one object have the same name, at any level, also in values that
//     the caller does not decode;
//   - the name of a member equals one that the caller knows under simple Unicode case
//     folding, but is not identical to it (`Manifests`, `manifeſts`);
//   - it is not valid UTF-8, has an unpaired surrogate, or is followed by more data.
//
// Other unknown names are allowed. The keys of a map are data: they may differ in case
// alone, but none may be there twice.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a document.
const (
	// MaxSize is the largest document in bytes. Callers have lower limits of their own.
	MaxSize = 256 << 20
	// MaxDepth is how deep objects and arrays may be nested.
	MaxDepth = 512
	// MaxMembers is how many members one object may have.
	MaxMembers = 1 << 18
)

// ErrInvalid is matched by every error about a document.
var ErrInvalid = errors.New("invalid JSON")

// Error says what is wrong with a document, and where.
type Error struct {
	// Pointer is the place as a JSON Pointer (RFC 6901), shortened if it is long;
	// empty for the document as a whole.
	Pointer string
	// Problem is one sentence without the place.
	Problem string
	cause   error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Pointer == "" {
		return "invalid JSON: " + e.Problem
	}
	return fmt.Sprintf("invalid JSON: %s (at %q)", e.Problem, e.Pointer)
}

// Is matches ErrInvalid.
func (e *Error) Is(target error) bool { return target == ErrInvalid }

// Unwrap gives the error of the decoder, if it found the problem.
func (e *Error) Unwrap() error { return e.cause }

// Unmarshal decodes data into v as encoding/json does, after it has refused what other
// readers would understand differently. The names that the caller knows are those of
// the structs of v. A type with an UnmarshalJSON of its own decides there which names
// it knows, by calling Unmarshal for the type that it decodes into.
func Unmarshal(data []byte, v any) error {
	if err := check(data, shapeOf(reflect.TypeOf(v))); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return decodeError(err)
	}
	return nil
}

// UnmarshalKnown is Unmarshal, and refuses names that v does not have.
func UnmarshalKnown(data []byte, v any) error {
	if err := check(data, shapeOf(reflect.TypeOf(v))); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return decodeError(err)
	}
	return nil
}

// Check says what is wrong with data whatever is decoded of it later: everything but
// the names that differ in case from known ones.
func Check(data []byte) error { return check(data, nil) }

func decodeError(err error) error {
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) {
		return &Error{Problem: fmt.Sprintf("%s where %s is expected, in field %s", t.Value, t.Type, clip(t.Field)), cause: err}
	}
	return &Error{Problem: clip(err.Error()), cause: err}
}

// check reads the whole document. root says which names are known in it.
func check(data []byte, root *shape) error {
	if len(data) > MaxSize {
		return &Error{Problem: fmt.Sprintf("%d bytes are more than %d", len(data), MaxSize)}
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	// The shape of each open object and array, and of the value that comes next.
	open := make([]level, 1, 16)
	open[0].next = root
	for {
		tok, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			if _, n := dec.StackIndex(0); n == 0 {
				return &Error{Problem: "the document ends early"}
			}
			return nil
		}
		if err != nil {
			return syntaxError(err)
		}
		// The decoder goes on with another document after the first.
		if _, n := dec.StackIndex(0); n > 1 {
			return &Error{Problem: "more data follows the document"}
		}
		at := &open[len(open)-1]
		switch tok.Kind() {
		case '{', '[':
			if len(open) > MaxDepth {
				return &Error{Problem: fmt.Sprintf("more than %d levels", MaxDepth)}
			}
			open = append(open, level{shape: at.next, next: at.next.element()})
		case '}', ']':
			open = open[:len(open)-1]
		case '"':
			if kind, n := dec.StackIndex(dec.StackDepth()); kind == '{' && n%2 == 1 {
				if n/2 >= MaxMembers {
					return &Error{Pointer: clip(string(dec.StackPointer())), Problem: fmt.Sprintf("more than %d members", MaxMembers)}
				}
				if problem := at.name(tok); problem != "" {
					return &Error{Pointer: clip(string(dec.StackPointer())), Problem: problem}
				}
			}
		default: // values without members
		}
	}
}

// level is an object or array that is open.
type level struct {
	shape *shape
	next  *shape
	seen  []*field
}

// name looks up a member's name and says what is wrong with it.
func (l *level) name(tok jsontext.Token) string {
	s := l.shape
	if s == nil || s.fields == nil {
		return ""
	}
	name := tok.String()
	f, known := s.fields[name]
	if !known {
		l.next = nil
		if like, ok := s.folded[fold(name)]; ok {
			return fmt.Sprintf("the name %q is not %q, but some readers take it for that", clip(name), like)
		}
		return ""
	}
	l.next = f.shape
	if f.names == 1 {
		return "" // the decoder refuses it the second time
	}
	for _, before := range l.seen {
		if before == f {
			return fmt.Sprintf("the field with the name %q is there twice", clip(name))
		}
	}
	l.seen = append(l.seen, f)
	return ""
}

// syntaxError replaces the decoder's message, which quotes the document at any length.
func syntaxError(err error) error {
	var s *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Problem: "the document ends early", cause: io.ErrUnexpectedEOF}
	case !errors.As(err, &s):
		return &Error{Problem: clip(err.Error()), cause: err}
	case errors.Is(s.Err, jsontext.ErrDuplicateName):
		return &Error{Pointer: clip(string(s.JSONPointer)), Problem: fmt.Sprintf("the name %q is there twice", clip(s.JSONPointer.LastToken()))}
	default:
		return &Error{Pointer: clip(string(s.JSONPointer)), Problem: clip(s.Err.Error())}
	}
}

// maxClip is how much of a document's own text an error repeats.
const maxClip = 120

func clip(s string) string {
	if len(s) <= maxClip {
		return s
	}
	s = s[:maxClip]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}
