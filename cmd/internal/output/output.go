// Package output writes what the commands found: tables for people and JSON for
// programs. Much of it comes out of images and registries, so text in tables is
// made harmless for a terminal first.
package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Table is a table whose columns are aligned when it is flushed.
type Table struct {
	w   *tabwriter.Writer
	err error
}

// NewTable begins a table with its headings; without any it has none.
func NewTable(w io.Writer, headings ...string) *Table {
	t := &Table{w: tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)}
	if len(headings) > 0 {
		t.Row(headings...)
	}
	return t
}

// Row adds a row. Cells are cleaned; an empty one is shown as a dash.
func (t *Table) Row(cells ...string) {
	clean := make([]string, len(cells))
	for i, c := range cells {
		if clean[i] = Clean(c); clean[i] == "" {
			clean[i] = "-"
		}
	}
	if _, err := fmt.Fprintln(t.w, strings.Join(clean, "\t")); err != nil && t.err == nil {
		t.err = err
	}
}

// Flush writes the table.
func (t *Table) Flush() error {
	if t.err != nil {
		return t.err
	}
	return t.w.Flush()
}

// Clean replaces what could steer a terminal or reorder its text: control
// characters, invisible ones and broken UTF-8. White space becomes a blank.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return '\uFFFD'
		default:
			return r
		}
	}, s)
}

// Plain returns a writer for text that people read: what could steer their terminal or
// reorder its text is replaced as Clean does, and lines stay lines. A character may be
// split over two writes. What JSON and JSONLine write passes unchanged.
func Plain(w io.Writer) io.Writer { return &plain{w: w} }

type plain struct {
	w io.Writer

	mu   sync.Mutex
	rest []byte // the beginning of a character
}

// Write implements io.Writer.
func (p *plain) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := slices.Concat(p.rest, b)
	whole := len(text)
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if start := len(text) - i; utf8.RuneStart(text[start]) {
			if !utf8.FullRune(text[start:]) {
				whole = start
			}
			break
		}
	}
	p.rest = bytes.Clone(text[whole:])
	lines := strings.Split(string(text[:whole]), "\n")
	for i := range lines {
		lines[i] = Clean(lines[i])
	}
	if _, err := io.WriteString(p.w, strings.Join(lines, "\n")); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Sprintf makes text. What comes from elsewhere goes into it as an argument and cannot
// begin a line of its own: every string, error and Stringer is cleaned.
func Sprintf(format string, args ...any) string {
	clean := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case string:
			a = Clean(v)
		case error:
			a = Clean(v.Error())
		case fmt.Stringer:
			a = Clean(v.String())
		}
		clean[i] = a
	}
	return fmt.Sprintf(format, clean...)
}

// Printf writes the text of Sprintf.
func Printf(w io.Writer, format string, args ...any) error {
	_, err := io.WriteString(w, Sprintf(format, args...))
	return err
}

// Document returns a writer for a document that must arrive as it is, such as a policy or
// a bill of materials. A terminal gets it as Plain text.
func Document(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return Plain(w)
		}
	}
	return w
}

// Cut shortens s to at most n characters.
func Cut(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n-1]) + "…"
}

// ShortDigest shortens a digest to the first 12 hex digits.
func ShortDigest(d string) string {
	hex, ok := strings.CutPrefix(d, "sha256:")
	if !ok || len(hex) < 12 {
		return d
	}
	return "sha256:" + hex[:12]
}

// Time is t in UTC, to the second; empty for the zero time.
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Timestamp is Time of a message's field; empty if it is not set.
func Timestamp(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return Time(t.AsTime())
}

// JSON writes v, a proto.Message or anything encoding/json knows, indented.
func JSON(w io.Writer, v any) error {
	raw, err := marshal(v)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// JSONLine writes v on one line, for streams.
func JSONLine(w io.Writer, v any) error {
	raw, err := marshal(v)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	// protojson varies its white space on purpose.
	if err := json.Compact(&b, raw); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	if m, ok := v.(proto.Message); ok {
		raw, err := protojson.Marshal(m)
		if err != nil {
			return nil, err
		}
		b.Write(raw)
	} else {
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false) // purls and URLs stay readable
		if err := enc.Encode(v); err != nil {
			return nil, err
		}
	}
	return escape(bytes.TrimSpace(b.Bytes())), nil
}

// escape writes what Clean would replace as JSON's \u: the same document, harmless for a
// terminal. Both encoders leave such characters in strings only.
func escape(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for _, r := range string(raw) {
		switch {
		case r < 0x7f, r == utf8.RuneError, unicode.IsPrint(r) && !unicode.IsSpace(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// Enum is the name of an enum value without its prefix, for example "PASS" of
// STATE_PASS.
func Enum(name fmt.Stringer, prefix string) string {
	return strings.TrimPrefix(name.String(), prefix)
}
