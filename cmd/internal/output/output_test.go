package output_test

import (
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
}
