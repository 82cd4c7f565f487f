package attest

import (
	"bytes"
	"encoding/json"
)

// compact appends the JSON value src to dst without the spaces between its tokens,
// as json.Compact does and several times faster, which is felt with bills of
// materials. What it does not take at once is left to json.Compact, whose errors
// are the ones that callers see.
func compact(dst *bytes.Buffer, src []byte) error {
	s := scan{src: src}
	switch {
	case !s.valid():
		return json.Compact(dst, src)
	case !s.spaced:
		dst.Write(src)
		return nil
	}
	start := 0
	for i := 0; i < len(src); i++ {
		switch src[i] {
		case '"':
			i = endOfString(src, i)
		case ' ', '\t', '\n', '\r':
			dst.Write(src[start:i])
			start = i + 1
		}
	}
	dst.Write(src[start:])
	return nil
}

// maxNesting is below the depth that encoding/json takes.
const maxNesting = 512

// scan reads one JSON value.
type scan struct {
	src []byte
	// spaced is set when there are spaces between tokens.
	spaced bool
}

// valid reports whether it is one JSON value of at most maxNesting levels.
func (s *scan) valid() bool {
	src := s.src
	var stack [maxNesting]byte // '{' or '['
	depth, i := 0, 0
	for {
		// A value.
		i = s.skipSpace(i)
		if i >= len(src) {
			return false
		}
		switch c := src[i]; c {
		case '{', '[':
			if depth == maxNesting {
				return false
			}
			stack[depth] = c
			depth++
			i = s.skipSpace(i + 1)
			if i < len(src) && src[i] == c+2 { // '}' and ']' follow two after
				depth--
				i++
				break
			}
			if c == '{' {
				if i = s.key(i); i < 0 {
					return false
				}
			}
			continue
		default:
			if i = scalar(src, i); i < 0 {
				return false
			}
		}
		// What follows a value.
		for {
			i = s.skipSpace(i)
			if depth == 0 {
				return i == len(src)
			}
			if i >= len(src) {
				return false
			}
			open := stack[depth-1]
			if src[i] == open+2 {
				depth--
				i++
				continue
			}
			if src[i] != ',' {
				return false
			}
			i++
			if open == '{' {
				if i = s.key(i); i < 0 {
					return false
				}
			}
			break
		}
	}
}

// key reads a name and its colon and returns what follows, or -1.
func (s *scan) key(i int) int {
	src := s.src
	i = s.skipSpace(i)
	if i >= len(src) || src[i] != '"' {
		return -1
	}
	if i = endOfString(src, i); i < 0 {
		return -1
	}
	i = s.skipSpace(i + 1)
	if i >= len(src) || src[i] != ':' {
		return -1
	}
	return i + 1
}

// scalar reads a string, number or word and returns what follows, or -1.
func scalar(src []byte, i int) int {
	switch c := src[i]; {
	case c == '"':
		if i = endOfString(src, i); i < 0 {
			return -1
		}
		return i + 1
	case c == '-' || c >= '0' && c <= '9':
		return number(src, i)
	}
	for _, word := range [][]byte{[]byte("true"), []byte("false"), []byte("null")} {
		if bytes.HasPrefix(src[i:], word) {
			return i + len(word)
		}
	}
	return -1
}

func number(src []byte, i int) int {
	if src[i] == '-' {
		i++
	}
	if i < len(src) && src[i] == '0' {
		i++
	} else if i = digits(src, i); i < 0 {
		return -1
	}
	if i < len(src) && src[i] == '.' {
		if i = digits(src, i+1); i < 0 {
			return -1
		}
	}
	if i < len(src) && (src[i] == 'e' || src[i] == 'E') {
		if i++; i < len(src) && (src[i] == '+' || src[i] == '-') {
			i++
		}
		return digits(src, i)
	}
	return i
}

// digits reads at least one digit.
func digits(src []byte, i int) int {
	start := i
	for i < len(src) && src[i] >= '0' && src[i] <= '9' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

func (s *scan) skipSpace(i int) int {
	src, start := s.src, i
	for i < len(src) && (src[i] == ' ' || src[i] == '\t' || src[i] == '\n' || src[i] == '\r') {
		i++
	}
	s.spaced = s.spaced || i > start
	return i
}

// special are the bytes of a string that are not simply part of it.
var special = func() (t [256]bool) {
	for c := range ' ' {
		t[c] = true
	}
	t['"'], t['\\'] = true, true
	return t
}()

// endOfString returns where the string that begins at i ends, or -1.
func endOfString(src []byte, i int) int {
	for i++; i < len(src); i++ {
		if !special[src[i]] {
			continue
		}
		switch src[i] {
		case '"':
			return i
		case '\\':
			if i++; i >= len(src) {
				return -1
			}
			switch src[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i >= len(src) || !isHex(src[i]) {
						return -1
					}
				}
			default:
				return -1
			}
		default:
			return -1
		}
	}
	return -1
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
