package jsonstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// found collects what a shape of names and nested lists hands out.
func found(doc []byte, piece int) (texts []string, compact string, err error) {
	var out bytes.Buffer
	take := func(prefix string) *Shape {
		return &Shape{Text: func(text []byte, cut bool) error {
			texts = append(texts, fmt.Sprintf("%s=%.20s", prefix, text))
			if cut {
				texts = append(texts, "cut")
			}
			return nil
		}}
	}
	note := func(s string) func() error { return func() error { texts = append(texts, s); return nil } }
	w := NewWriter(&out, &Shape{Fields: []Field{
		{"name", take("name")},
		{"list", &Shape{Elements: take("element")}},
		{"items", &Shape{Elements: &Shape{
			Fields: []Field{{"id", take("id")}}, Begin: note("("), End: note(")"),
		}}},
	}})
	for len(doc) > 0 {
		n := min(piece, len(doc))
		if _, err := w.Write(doc[:n]); err != nil {
			return nil, "", err
		}
		doc = doc[n:]
	}
	err = w.Close()
	return texts, out.String(), err
}

func TestWriter_HandsOut(t *testing.T) {
	long := strings.Repeat("x", MaxText+1)
	tests := []struct {
		doc  string
		want []string
	}{
		{`{}`, nil},
		{`{"name":"a"}`, []string{"name=a"}},
		{` { "name" : "a\u00e4\n" } `, []string{"name=aä\n"}},
		{`{"n\u0061me":"a"}`, []string{"name=a"}},
		{`{"other":{"name":"no","list":["no"]},"list":["a","b"],"x":[{"id":"no"}]}`, []string{"element=a", "element=b"}},
		{`{"items":[{"id":"1","x":{"id":"no"}},{"no":true},{}]}`, []string{"(", "id=1", ")", "(", ")", "(", ")"}},
		{`{"name":null,"list":null,"items":[null]}`, nil},
		{`{"name":"` + long + `"}`, []string{"name=" + long[:20], "cut"}},
		{`{"name":"` + long[:MaxText] + `"}`, []string{"name=" + long[:20]}},
	}
	for _, tt := range tests {
		for _, piece := range []int{1, 2, 3, 1 << 20} {
			got, compact, err := found([]byte(tt.doc), piece)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%.60s in pieces of %d: %q, %v; want %q", tt.doc, piece, got, err, tt.want)
			}
			var want bytes.Buffer
			if err := json.Compact(&want, []byte(tt.doc)); err != nil || compact != want.String() {
				t.Errorf("%.60s in pieces of %d: passed on %.60s, %v", tt.doc, piece, compact, err)
			}
		}
	}
}

func TestWriter_Refuses(t *testing.T) {
	for _, doc := range []string{
		``, ` `, `{`, `{"a"`, `{"a":1`, `{"a":1,}`, `{} {}`, `{}x`, `{"name":"a","name":"b"}`, `{"Name":"a"}`, `{"items":[{"ID":"a"}]}`, `{"liſt":[]}`, `{"name":1}`, `{"name":{}}`,
		`{"list":"a"}`, `{"list":{}}`, `{"items":[[]]}`, `[]`, `"a"`, `1`, `true`, `{"a":01}`, `{"a":-}`, `{"a":1.}`, `{"a":1e}`,
		`{"a":.5}`, `{"a":tru}`, `{"a":nul }`, `{"a":"` + "\n" + `"}`, `{"a":"\x"}`, `{"a":"\u12g4"}`, `{a:1}`, `{"a" 1}`, `{"a":1]`, `{1:2}`,
		`{"x":` + strings.Repeat("[", MaxNesting) + strings.Repeat("]", MaxNesting) + `}`,
	} {
		for _, piece := range []int{1, 1 << 20} {
			if got, _, err := found([]byte(doc), piece); !errors.Is(err, ErrMalformed) {
				t.Errorf("%.40s in pieces of %d: %v, %v", doc, piece, got, err)
			}
		}
	}
}

func TestWriter_OtherErrorsAreTold(t *testing.T) {
	cause := errors.New("enough")
	w := NewWriter(io.Discard, &Shape{Fields: []Field{{"a", &Shape{Text: func([]byte, bool) error { return cause }}}}})
	_, err := w.Write([]byte(`{"a":"b"}`))
	_, again := w.Write([]byte(` `))
	for _, err := range []error{err, again, w.Close()} {
		if !errors.Is(err, cause) {
			t.Errorf("%v", err)
		}
	}
	full := NewWriter(failing{cause}, &Shape{Fields: []Field{}})
	_, err = full.Write([]byte(`{}`))
	if err := errors.Join(err, full.Close()); !errors.Is(err, cause) || errors.Is(err, ErrMalformed) {
		t.Errorf("the reader fails: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// FuzzWriter: whatever comes, in whatever pieces, is taken for JSON exactly if
// encoding/json does, and passed on as it does.
func FuzzWriter(f *testing.F) {
	for _, doc := range []string{`{"name":"a","list":["\u0061"],"items":[{"id":"x"}]}`, `[1, -0.5e+3, true ,null]`, `"\ud800"`, `{"a":{"b":[ ]}} `, `-0`} {
		f.Add([]byte(doc), uint8(3))
	}
	f.Fuzz(func(t *testing.T, doc []byte, piece uint8) {
		var out, want bytes.Buffer
		w := NewWriter(&out, nil)
		for rest := doc; len(rest) > 0; {
			n := min(int(piece)+1, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				break
			}
			rest = rest[n:]
		}
		err := w.Close()
		if deep := bytes.Count(doc, []byte("{"))+bytes.Count(doc, []byte("[")) > MaxNesting; deep {
			return
		}
		if valid := json.Valid(doc); valid != (err == nil) {
			t.Fatalf("encoding/json says %v, we say %v", valid, err)
		}
		if err == nil {
			if err := json.Compact(&want, doc); err != nil || !bytes.Equal(out.Bytes(), want.Bytes()) {
				t.Errorf("passed on %q, want %q", out.Bytes(), want.Bytes())
			}
		}
		_, _, _ = found(doc, int(piece)+1)
	})
}

// BenchmarkWriter reads a document; x-bare is its speed against json.Compact of the
// whole in memory, in the same run.
func BenchmarkWriter(b *testing.B) {
	doc := []byte(`{"items":[` + strings.Repeat(`{"id":"pkg:deb/debian/libc6@2.36", "n": [1, 2, {"x": "some text of usual length"}]},`+"\n", 1<<14) + `{}]}`)
	b.SetBytes(int64(len(doc)))
	var last []byte
	shape := &Shape{Fields: []Field{{"items", &Shape{Elements: &Shape{Fields: []Field{
		{"id", &Shape{Text: func(text []byte, _ bool) error { last = text; return nil }}},
	}}}}}}
	var ours, bare time.Duration
	var compact bytes.Buffer
	for b.Loop() {
		start := time.Now()
		w := NewWriter(io.Discard, shape)
		if _, err := w.Write(doc); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		read := time.Now()
		compact.Reset()
		if err := json.Compact(&compact, doc); err != nil {
			b.Fatal(err)
		}
		ours, bare = ours+read.Sub(start), bare+time.Since(read)
	}
	b.ReportMetric(float64(bare)/float64(ours), "x-bare")
	_ = last
}

func ExampleWriter() {
	w := NewWriter(os.Stdout, &Shape{Fields: []Field{{"name", &Shape{Text: func(text []byte, _ bool) error {
		fmt.Printf("the name is %s\n", text)
		return nil
	}}}}})
	fmt.Fprint(w, `{"version": 1, "na`)
	fmt.Fprint(w, `me": "app"}`)
	if err := w.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// the name is app
	// {"version":1,"name":"app"}
}
