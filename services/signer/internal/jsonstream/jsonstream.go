// Package jsonstream reads JSON documents of any size in memory that does not grow
// with them: it checks that what is written to it is one JSON value, passes it on
// without the spaces between its tokens, and hands out the few strings in it that
// somebody asked for.
package jsonstream

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Limits of a document.
const (
	// MaxNesting is how deep objects and arrays may be in each other.
	MaxNesting = 512
	// MaxText is how much of a string is handed out, in bytes as they are written.
	MaxText = 4 << 10
	// MaxFields is how many fields a Shape may name.
	MaxFields = 32
)

// ErrMalformed says that it is not one JSON value, or not of the shape that was asked for.
var ErrMalformed = errors.New("malformed JSON")

// Shape says what of a value is wanted: Text, Fields or Elements. null is let pass
// where any of them is wanted; other values of another kind are ErrMalformed.
type Shape struct {
	// Text is called with a string. cut is set if it is longer than MaxText: then
	// it is the begin of it as it is written. text is not to be kept.
	Text func(text []byte, cut bool) error
	// Fields are those of an object, at most MaxFields. One that is there twice, or a
	// name that equals one but for case, is ErrMalformed: readers would differ on what
	// counts.
	Fields []Field
	// Elements is of each element of an array.
	Elements *Shape
	// Begin and End are called at the start and the end of an object with Fields.
	Begin, End func() error
}

// Field is a field of an object, by its exact name.
type Field struct {
	Name  string
	Shape *Shape
}

// frame is an object or array that was begun and not ended.
type frame struct {
	kind  byte // '{' or '['
	shape *Shape
	seen  uint32 // bits of the Fields that were there
}

// Writer takes a document in pieces. Errors stay: what was passed on is then not to
// be used.
type Writer struct {
	out   *bufio.Writer
	stack []frame
	// next is the shape of the value that follows; nil if nothing of it is wanted.
	next *Shape
	scan
	text    []byte
	keep    bool // the string goes to text
	cut     bool
	escaped bool // there is a backslash in text
	read    int64
	err     error
}

// NewWriter returns a writer that passes a document on to out and hands out what
// shape wants.
func NewWriter(out io.Writer, shape *Shape) *Writer {
	return &Writer{out: bufio.NewWriterSize(out, 32<<10), next: shape, text: make([]byte, 0, 128)}
}

// Write implements io.Writer. Errors are ErrMalformed, those of out and those of the
// functions of the Shape.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if err := w.write(p); err != nil {
		w.err = err
		return 0, err
	}
	w.read += int64(len(p))
	return len(p), nil
}

// Close says whether the document is complete and passes on the rest of it.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if w.state == inNumber && len(w.stack) == 0 && w.number.complete() {
		w.state = done
	}
	if w.state != done {
		w.err = fmt.Errorf("%w: it ends after %d bytes within a value", ErrMalformed, w.read)
		return w.err
	}
	w.err = w.out.Flush()
	return w.err
}

// begin enters an object or array.
func (w *Writer) begin(kind byte) error {
	if len(w.stack) == MaxNesting {
		return fmt.Errorf("more than %d levels", MaxNesting)
	}
	if s := w.next; s != nil {
		if kind == '{' && s.Fields == nil || kind == '[' && s.Elements == nil {
			return errors.New("a value is of another kind than it has to be")
		}
		if kind == '{' && s.Begin != nil {
			if err := s.Begin(); err != nil {
				return err
			}
		}
	}
	w.stack = append(w.stack, frame{kind: kind, shape: w.next})
	if kind == '{' {
		w.state = keyOrEnd
		w.keep = false
		return nil
	}
	w.state = valueOrEnd
	w.element()
	return nil
}

// element makes the next value an element of the array on top.
func (w *Writer) element() {
	w.next = nil
	if s := w.stack[len(w.stack)-1].shape; s != nil {
		w.next = s.Elements
	}
}

// end leaves an object or array.
func (w *Writer) end() error {
	top := w.stack[len(w.stack)-1]
	w.stack = w.stack[:len(w.stack)-1]
	w.afterValue()
	if top.kind == '{' && top.shape != nil && top.shape.End != nil {
		return top.shape.End()
	}
	return nil
}

func (w *Writer) afterValue() {
	w.state = after
	if len(w.stack) == 0 {
		w.state = done
	}
}

// beginString is called at the quotation mark of a name or a value.
func (w *Writer) beginString(key bool) error {
	w.text, w.cut, w.escaped = w.text[:0], false, false
	switch {
	case key:
		w.state = inKey
		w.keep = w.stack[len(w.stack)-1].shape != nil
	case w.next != nil && w.next.Text == nil:
		return errors.New("a string where there has to be something else")
	default:
		w.state = inString
		w.keep = w.next != nil
	}
	return nil
}

func (w *Writer) endString() error {
	if w.state == inKey {
		w.state = colon
		return w.name()
	}
	shape := w.next
	w.afterValue()
	if !w.keep {
		return nil
	}
	text, err := w.unescaped()
	if err != nil {
		return err
	}
	return shape.Text(text, w.cut)
}

// name finds out which shape the value of a name has.
func (w *Writer) name() error {
	w.next = nil
	if !w.keep {
		return nil
	}
	name, err := w.unescaped()
	if err != nil {
		return err
	}
	top := &w.stack[len(w.stack)-1]
	for i, f := range top.shape.Fields {
		if f.Name != string(name) {
			if bytes.EqualFold([]byte(f.Name), name) {
				return fmt.Errorf("the name %q is not %q, but some readers take it for that", name, f.Name)
			}
			continue
		}
		if top.seen&(1<<i) != 0 {
			return fmt.Errorf("%q stands twice in one object", f.Name)
		}
		top.seen |= 1 << i
		w.next = f.Shape
	}
	return nil
}

// collect keeps a piece of a string that is wanted.
func (w *Writer) collect(piece []byte) {
	if !w.keep || w.cut {
		return
	}
	if room := MaxText - len(w.text); len(piece) > room {
		piece, w.cut = piece[:room], true
	}
	w.text = append(w.text, piece...)
}

func (w *Writer) unescaped() ([]byte, error) {
	if !w.escaped || w.cut {
		return w.text, nil
	}
	var s string
	quoted := append(append([]byte{'"'}, w.text...), '"')
	if err := json.Unmarshal(quoted, &s); err != nil {
		return nil, err
	}
	return []byte(s), nil
}
