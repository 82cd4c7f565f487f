package tlsx

import (
	"strings"
	"testing"
)

func TestParseID(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in   string
		want Identity
		ok   bool
	}{
		{"spiffe://seaworthy.local/service/scanner", Identity{"seaworthy.local", "service", "scanner"}, true},
		{"spiffe://seaworthy.local/operator/alice.b_C-1", Identity{"seaworthy.local", "operator", "alice.b_C-1"}, true},
		{"spiffe://x/client/ci", Identity{"x", "client", "ci"}, true},
		{"", Identity{}, false},
		{"spiffe://", Identity{}, false},
		{"SPIFFE://seaworthy.local/service/scanner", Identity{}, false},
		{"https://seaworthy.local/service/scanner", Identity{}, false},
		{"spiffe://Seaworthy.local/service/scanner", Identity{}, false},
		{"spiffe://seaworthy.local:1/service/scanner", Identity{}, false},
		{"spiffe://user@seaworthy.local/service/scanner", Identity{}, false},
		{"spiffe:///service/scanner", Identity{}, false},
		{"spiffe://seaworthy.local/service", Identity{}, false},
		{"spiffe://seaworthy.local/service/", Identity{}, false},
		{"spiffe://seaworthy.local/service/a/b", Identity{}, false},
		{"spiffe://seaworthy.local/service/..", Identity{}, false},
		{"spiffe://seaworthy.local/service/scan%6eer", Identity{}, false},
		{"spiffe://seaworthy.local/service/scanner?x=1", Identity{}, false},
		{"spiffe://seaworthy.local/service/scanner#f", Identity{}, false},
		{"spiffe://seaworthy.local/robot/r2", Identity{}, false},
		{"spiffe://" + strings.Repeat("a", 256) + "/service/x", Identity{}, false},
		{"spiffe://a/service/" + strings.Repeat("x", 2048), Identity{}, false},
	} {
		got, err := ParseID(tc.in)
		if (err == nil) != tc.ok || got != tc.want {
			t.Errorf("ParseID(%.60q) = %+v, %v; want %+v, ok %v", tc.in, got, err, tc.want, tc.ok)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("spiffe://seaworthy.local/service/scanner")
	f.Add("spiffe://seaworthy.local/service/../operator/x")
	f.Add("spiffe://a/b/c?d#e")
	f.Fuzz(func(t *testing.T, in string) {
		id, err := ParseID(in)
		if err != nil {
			return
		}
		if id.String() != in {
			t.Errorf("ParseID(%q).String() = %q", in, id.String())
		}
	})
}
