package core_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

func TestSupportEnd(t *testing.T) {
	for _, c := range []struct{ id, version, want string }{
		{"debian", "12", "2028-07-01"}, {"debian", "12.5", "2028-07-01"}, {"alpine", "3.22.1", "2027-05-02"}, {"alpine", "3.2", ""},
		{"ubuntu", "24.04", "2029-06-01"}, {"rocky", "9.4", "2032-06-01"}, {"debian", "", ""}, {"debian", "1", ""}, {"other", "1.2.3", ""},
	} {
		got := ""
		if end := core.SupportEnd(core.Distro{ID: c.id, Version: c.version}); !end.IsZero() {
			got = end.Format(time.DateOnly)
		}
		if got != c.want {
			t.Errorf("%s %s: %q, want %q", c.id, c.version, got, c.want)
		}
	}
}

// TestSupportTable: every row is well-formed, stands once and below a source.
func TestSupportTable(t *testing.T) {
	content, err := os.ReadFile("support.tsv")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	source := false
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			source = source || strings.Contains(line, "https://")
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 3 || !source || seen[fields[0]+" "+fields[1]] {
			t.Fatalf("row %q", line)
		}
		seen[fields[0]+" "+fields[1]] = true
		if _, err := time.Parse(time.DateOnly, fields[2]); err != nil {
			t.Errorf("row %q: %v", line, err)
		}
	}
}
