package linediff

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("x\n", maxLines+1)
	for name, tc := range map[string]struct {
		from, to string
		want     []string
	}{
		"equal":       {"a\nb\n", "a\nb\n", nil},
		"from none":   {"", "a\nb\n", []string{"+a", "+b"}},
		"to none":     {"a\n", "", []string{"-a"}},
		"in between":  {"a\nb\nc\n", "a\nB\nc\n", []string{" a", "-b", "+B", " c"}},
		"moved":       {"a\nb\nc\n", "b\nc\na\n", []string{"-a", " b", " c", "+a"}},
		"twice":       {"a\nb\nc\nd\n", "A\nb\nc\nD\n", []string{"-a", "+A", " b", " c", "-d", "+D"}},
		"far away":    {"1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nV\n6\n7\n8\n9\n", []string{"…", " 2", " 3", " 4", "-5", "+V", " 6", " 7", " 8", "…"}},
		"no last end": {"a\nb", "a\nb\n", nil},
	} {
		got := Lines(tc.from, tc.to)
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if got := Lines(many, "y\n"+strings.ReplaceAll(many, "x", "y")); len(got) != 2*maxLines+3 {
		t.Errorf("a long text: %d lines", len(got))
	}
}
