package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const benchmarks = `goos: linux
BenchmarkScan/files=1000-2   3  9 ns/op  20.0 cpu-ms/scan  1.5 x-bare
BenchmarkScan/files=1000-2   3  9 ns/op  99.0 cpu-ms/scan  1.5 x-bare
BenchmarkScan/files=1000-2   3  9 ns/op  10.0 cpu-ms/scan  1.5 x-bare
BenchmarkScan/files=2000-2   3  9 ns/op  30.0 cpu-ms/scan  1.5 x-bare
BenchmarkScan/files=4000-2   3  9 ns/op  50.0 cpu-ms/scan  1.5 x-bare
PASS
`

func TestGrowth(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "growth")
	var table bytes.Buffer
	if err := run(strings.NewReader(benchmarks), &table, dir); err != nil {
		t.Fatal(err)
	}
	if want := "| files | 1000 | 4000 | 20.0 to 50.0 | 10.00 | 1.000 |\n"; !strings.HasSuffix(table.String(), want) {
		t.Errorf("%q does not end with %q", table.String(), want)
	}
	plot, err := os.ReadFile(filepath.Join(dir, "files.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(plot), "<circle"); n != 3 {
		t.Errorf("%d points", n)
	}
	for d := xml.NewDecoder(bytes.NewReader(plot)); err == nil; {
		_, err = d.Token()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the plot is no XML: %v", err)
	}
}

func TestGrowth_refuses(t *testing.T) {
	for name, in := range map[string]string{
		"two sizes": "BenchmarkScan/files=1-2 1 20 cpu-ms/scan\nBenchmarkScan/files=2-2 1 20 cpu-ms/scan\n",
		"no size":   "BenchmarkScan-2 1 20 cpu-ms/scan\n",
		"no number": "BenchmarkScan/files=1-2 1 many cpu-ms/scan\n",
	} {
		if err := run(strings.NewReader(in), io.Discard, t.TempDir()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFit(t *testing.T) {
	// A cloud without a direction, and a line.
	if l := fit([]point{{0, 0}, {0, 2}, {2, 0}, {2, 2}}); l.slope != 0 || l.r2 != 0 || l.intercept != 1 {
		t.Errorf("%+v", l)
	}
	if l := fit([]point{{1, 3}, {2, 5}, {3, 7}}); math.Abs(l.slope-2) > 1e-9 || math.Abs(l.intercept-1) > 1e-9 || math.Abs(l.r2-1) > 1e-9 {
		t.Errorf("%+v", l)
	}
}
