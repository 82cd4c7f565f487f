package output_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain, ünïcode – 漢字":     "plain, ünïcode – 漢字",
		"a\tb\nc\r\nd":            "a b c  d",
		"\x1b[2J\x1b]0;owned\x07": "\uFFFD[2J\uFFFD]0;owned\uFFFD",
		"safe\u202Egnp.exe":       "safe\uFFFDgnp.exe",
		"zero\u200Bwidth":         "zero\uFFFDwidth",
		"broken\xff":              "broken\uFFFD",
		"c1\u009b31m":             "c1\uFFFD31m",
	} {
		if got := output.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	table := output.NewTable(&b, "NAME", "VALUE")
	table.Row("a", "1")
	table.Row("long name", "")
	table.Row("evil\nROW", "\x1b[31mred")
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "NAME       VALUE\na          1\nlong name  -\nevil ROW   \uFFFD[31mred\n"
	if b.String() != want {
		t.Errorf("table:\n%swant:\n%s", b.String(), want)
	}
}

func TestShortForms(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ got, want string }{
		{output.Cut("short", 5), "short"},
		{output.Cut("täxtual", 4), "täx…"},
		{output.ShortDigest("sha256:0123456789abcdef"), "sha256:0123456789ab"},
		{output.ShortDigest("sha512:0123456789abcdef"), "sha512:0123456789abcdef"},
		{output.ShortDigest("sha256:01"), "sha256:01"},
		{output.Time(time.Time{}), ""},
		{output.Timestamp(nil), ""},
		{output.Timestamp(timestamppb.New(time.Unix(0, 5))), "1970-01-01T00:00:00Z"},
		{output.Enum(typev1.Severity_SEVERITY_HIGH, "SEVERITY_"), "HIGH"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := output.JSON(&b, &typev1.Platform{Os: "linux", Architecture: "a&b"}); err != nil {
		t.Fatal(err)
	}
	if err := output.JSONLine(&b, &typev1.Platform{Os: "linux", Architecture: "amd64"}); err != nil {
		t.Fatal(err)
	}
	if err := output.JSON(&b, map[string]string{"purl": "pkg:x?a=b&c=<d>"}); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"os\": \"linux\",\n  \"architecture\": \"a&b\"\n}\n" +
		"{\"os\":\"linux\",\"architecture\":\"amd64\"}\n" +
		"{\n  \"purl\": \"pkg:x?a=b&c=<d>\"\n}\n"
	if b.String() != want {
		t.Errorf("JSON:\n%swant:\n%s", b.String(), want)
	}
}

func TestPrintf(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := output.Printf(&b, "%s %v %s %d\n", "a\nb", errors.New("c\rd"), typev1.Severity_SEVERITY_HIGH, 5); err != nil {
		t.Fatal(err)
	}
	if want := "a b c d SEVERITY_HIGH 5\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// A document that is not written to a terminal arrives as it is; to one it is text.
func TestDocument(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	const document = "a\x1b[2J\r\n"
	if _, err := output.Document(&b).Write([]byte(document)); err != nil || b.String() != document {
		t.Errorf("%q, %v", b.String(), err)
	}
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as terminals are
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if output.Document(device) == io.Writer(device) {
		t.Error("a terminal gets the document as it is")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if output.Document(file) != io.Writer(file) {
		t.Error("a file does not get the document as it is")
	}
}

// What JSON writes says exactly what it was given, and passes Plain unchanged.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{"\x1b[31m", "ok", "\u202e\u2066\u009b\u2028\u00a0\U000E0001\ufffd", "\\u202e", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		in = strings.ToValidUTF8(in, "\ufffd")
		var direct, plain strings.Builder
		for _, v := range []any{map[string]string{in: in}, &typev1.Platform{Os: in}} {
			if err := output.JSON(&direct, v); err != nil {
				t.Fatal(err)
			}
			if err := output.JSON(output.Plain(&plain), v); err != nil {
				t.Fatal(err)
			}
		}
		if direct.String() != plain.String() {
			t.Errorf("Plain changed %q into %q", direct.String(), plain.String())
		}
		dec := json.NewDecoder(strings.NewReader(plain.String()))
		var a map[string]string
		if err := dec.Decode(&a); err != nil || a[in] != in {
			t.Errorf("%q came back as %q, %v", in, a, err)
		}
		var b struct{ OS string }
		if err := dec.Decode(&b); err != nil || b.OS != in {
			t.Errorf("%q came back as %q, %v", in, b.OS, err)
		}
	})
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[31m")
	f.Add("ok")
	f.Fuzz(func(t *testing.T, in string) {
		out := output.Clean(in)
		if strings.ContainsAny(out, "\x00\x07\x08\x1b\x7f\n\r\t\u202e\u200b") {
			t.Errorf("Clean(%q) = %q", in, out)
		}
		if output.Clean(out) != out {
			t.Errorf("Clean is not idempotent on %q", in)
		}
	})
}

func TestPlain(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	const written = "a\x1b[2Jb\u202e\n\tc\rd\xff\n"
	n, err := output.Plain(&b).Write([]byte(written))
	if want := "a\ufffd[2Jb\ufffd\n c d\ufffd\n"; err != nil || n != len(written) || b.String() != want {
		t.Errorf("%d, %v, %q, want %q", n, err, b.String(), want)
	}
	// A character may come in two writes.
	b.Reset()
	w := output.Plain(&b)
	for _, part := range []string{"ü\xe2", "\x80", "\xaex\xf0\x9f\x98", "\x80\n"} {
		if n, err := w.Write([]byte(part)); err != nil || n != len(part) {
			t.Errorf("%q: %d, %v", part, n, err)
		}
	}
	if want := "ü\ufffdx\U0001F600\n"; b.String() != want {
		t.Errorf("in parts: %q, want %q", b.String(), want)
	}
}
