package jsonstream

import (
	"errors"
	"fmt"
)

// state is where in a document a writer is.
type state uint8

const (
	value      state = iota // a value must follow
	valueOrEnd              // after '['
	keyOrEnd                // after '{'
	key                     // after ',' in an object
	colon
	after // a value
	inString
	inKey
	inNumber
	inWord // true, false or null
	done
)

// scan is the place within a token.
type scan struct {
	state  state
	number numberState
	// escape is 1 after a backslash and then 5 to 2 for the digits of \u that are missing.
	escape uint8
	// word is what must still follow of true, false or null.
	word string
}

// plain are the bytes of a string that are simply part of it.
var plain = func() (t [256]bool) {
	for c := ' '; c < 256; c++ {
		t[c] = true
	}
	t['"'], t['\\'] = false, false
	return t
}()

// write reads p and passes it on in runs between spaces.
func (w *Writer) write(p []byte) error {
	run := 0
	for i := 0; i < len(p); {
		if w.state == inString || w.state == inKey {
			n, err := w.inside(p[i:])
			if err != nil {
				return w.at(i, err)
			}
			i += n
			continue
		}
		c := p[i]
		if c == ' ' || c == '\n' || c == '\t' || c == '\r' {
			if err := w.space(); err != nil {
				return w.at(i, err)
			}
			if run < i {
				if _, err := w.out.Write(p[run:i]); err != nil {
					return err
				}
			}
			i++
			run = i
			continue
		}
		again, err := w.token(c)
		if err != nil {
			return w.at(i, err)
		}
		if !again {
			i++
		}
	}
	_, err := w.out.Write(p[run:])
	return err
}

func (w *Writer) at(i int, err error) error {
	return fmt.Errorf("%w: at byte %d: %w", ErrMalformed, w.read+int64(i), err)
}

// inside reads within a string and says how much of p belongs to it.
func (w *Writer) inside(p []byte) (int, error) {
	i := 0
	for i < len(p) {
		if w.escape > 0 {
			if err := w.escaping(p[i]); err != nil {
				return i, err
			}
			w.collect(p[i : i+1])
			i++
			continue
		}
		begin := i
		for i < len(p) && plain[p[i]] {
			i++
		}
		w.collect(p[begin:i])
		if i == len(p) {
			break
		}
		switch p[i] {
		case '"':
			return i + 1, w.endString()
		case '\\':
			w.escape, w.escaped = 1, true
			w.collect(p[i : i+1])
			i++
		default:
			return i, fmt.Errorf("byte %#x in a string", p[i])
		}
	}
	return i, nil
}

// escaping reads a byte after a backslash.
func (w *Writer) escaping(c byte) error {
	switch {
	case w.escape > 1:
		if c < '0' || c > '9' && c < 'A' || c > 'F' && c < 'a' || c > 'f' {
			return fmt.Errorf("%q in an escape", c)
		}
		if w.escape--; w.escape == 1 {
			w.escape = 0
		}
	case c == 'u':
		w.escape = 5
	default:
		switch c {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			w.escape = 0
		default:
			return fmt.Errorf("escape of %q", c)
		}
	}
	return nil
}

// space ends a number; within a word it is wrong.
func (w *Writer) space() error {
	switch w.state {
	case inNumber:
		return w.endNumber()
	case inWord:
		return fmt.Errorf("space before %q", w.word)
	default:
		return nil
	}
}

func (w *Writer) endNumber() error {
	if !w.number.complete() {
		return errors.New("incomplete number")
	}
	w.afterValue()
	return nil
}

// token reads a byte outside of strings. It says true if c, which ended a number,
// has to be read again.
func (w *Writer) token(c byte) (again bool, err error) {
	switch w.state {
	case inNumber:
		if w.number.take(c) {
			return false, nil
		}
		return true, w.endNumber()
	case inWord:
		if c != w.word[0] {
			return false, fmt.Errorf("%q instead of %q", c, w.word[0])
		}
		if w.word = w.word[1:]; w.word == "" {
			w.afterValue()
		}
		return false, nil
	case value:
		return false, w.value(c)
	case valueOrEnd:
		if c == ']' {
			return false, w.end()
		}
		return false, w.value(c)
	case keyOrEnd, key:
		switch {
		case c == '"':
			return false, w.beginString(true)
		case c == '}' && w.state == keyOrEnd:
			return false, w.end()
		}
	case colon:
		if c == ':' {
			w.state = value
			return false, nil
		}
	case after:
		top := w.stack[len(w.stack)-1].kind
		switch {
		case c == top+2: // '}' and ']' follow two after
			return false, w.end()
		case c == ',' && top == '{':
			w.state = key
			return false, nil
		case c == ',':
			w.state = value
			w.element()
			return false, nil
		}
	case done:
		return false, fmt.Errorf("%q follows the document", c)
	case inString, inKey: // are not read here
	}
	return false, fmt.Errorf("unexpected %q", c)
}

// value reads the first byte of a value.
func (w *Writer) value(c byte) error {
	switch {
	case c == '{' || c == '[':
		return w.begin(c)
	case c == '"':
		return w.beginString(false)
	case c == 'n':
		w.state, w.word = inWord, "null"[1:]
		return nil
	case w.next != nil:
		return fmt.Errorf("%q where there has to be something else", c)
	case c == 't':
		w.state, w.word = inWord, "true"[1:]
	case c == 'f':
		w.state, w.word = inWord, "false"[1:]
	case c == '-' || c >= '0' && c <= '9':
		w.state, w.number = inNumber, numberBegin
		w.number.take(c)
	default:
		return fmt.Errorf("unexpected %q", c)
	}
	return nil
}

// numberState is what was read of a number.
type numberState uint8

const (
	numberBegin numberState = iota
	numberMinus
	numberZero
	numberInteger
	numberPoint
	numberFraction
	numberE
	numberSign
	numberExponent
)

func (n *numberState) complete() bool {
	return *n == numberZero || *n == numberInteger || *n == numberFraction || *n == numberExponent
}

// take says whether c goes on with the number.
func (n *numberState) take(c byte) bool {
	digit := c >= '0' && c <= '9'
	next := *n
	switch *n {
	case numberBegin, numberMinus:
		switch {
		case c == '-' && *n == numberBegin:
			next = numberMinus
		case c == '0':
			next = numberZero
		case digit:
			next = numberInteger
		}
	case numberZero, numberInteger:
		switch {
		case digit && *n == numberInteger:
			return true
		case c == '.':
			next = numberPoint
		case c == 'e' || c == 'E':
			next = numberE
		}
	case numberPoint:
		if digit {
			next = numberFraction
		}
	case numberFraction:
		switch {
		case digit:
			return true
		case c == 'e' || c == 'E':
			next = numberE
		}
	case numberE, numberSign, numberExponent:
		switch {
		case digit:
			*n = numberExponent
			return true
		case *n == numberE && (c == '+' || c == '-'):
			next = numberSign
		}
	}
	if next == *n {
		return false
	}
	*n = next
	return true
}
