// Growth draws how the cost of a scan grows: it reads what `go test -bench` prints of
// BenchmarkScan, takes the median of every size, fits a line, and writes one plot in
// SVG for each thing that grows, and a table in Markdown with the fits.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// metric is the unit of BenchmarkScan that is drawn.
const metric = "cpu-ms/scan"

// point is one size and what it cost.
type point struct{ x, y float64 }

func main() {
	out := flag.String("out", "docs/growth", "folder that the plots are written to")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *out); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "growth:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, table io.Writer, dir string) error {
	series, err := read(in)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(table, "| what grows | from | to | CPU ms | µs for each more | R² |\n|---|---:|---:|---:|---:|---:|\n")
	for _, name := range slices.Sorted(maps.Keys(series)) {
		points := series[name]
		if len(points) < 3 {
			return fmt.Errorf("%s has %d sizes: a line through two points says nothing", name, len(points))
		}
		l := fit(points)
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), draw(name, points, l), 0o644); err != nil {
			return err
		}
		first, last := points[0], points[len(points)-1]
		_, _ = fmt.Fprintf(table, "| %s | %.0f | %.0f | %.1f to %.1f | %.2f | %.3f |\n", name, first.x, last.x, first.y, last.y, l.slope*1000, l.r2)
	}
	return nil
}

// read returns the medians of the runs of every size, smallest first, by what grows.
func read(in io.Reader) (map[string][]point, error) {
	runs := map[string]map[float64][]float64{}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		at := slices.Index(fields, metric)
		if at < 1 {
			continue
		}
		_, size, _ := strings.Cut(fields[0], "/")
		name, number, ok := strings.Cut(size, "=")
		number, _, _ = strings.Cut(number, "-") // the number of processors
		x, err := strconv.ParseFloat(number, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("%q names no size", fields[0])
		}
		y, err := strconv.ParseFloat(fields[at-1], 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fields[0], err)
		}
		if runs[name] == nil {
			runs[name] = map[float64][]float64{}
		}
		runs[name][x] = append(runs[name][x], y)
	}
	out := map[string][]point{}
	for name, sizes := range runs {
		for _, x := range slices.Sorted(maps.Keys(sizes)) {
			slices.Sort(sizes[x])
			out[name] = append(out[name], point{x, sizes[x][len(sizes[x])/2]})
		}
	}
	return out, nil
}

// line is a fit by least squares; r2 is the share of the variation that it explains.
type line struct{ slope, intercept, r2 float64 }

func fit(points []point) line {
	var mx, my float64
	for _, p := range points {
		mx, my = mx+p.x/float64(len(points)), my+p.y/float64(len(points))
	}
	var xx, xy, yy float64
	for _, p := range points {
		xx, xy, yy = xx+(p.x-mx)*(p.x-mx), xy+(p.x-mx)*(p.y-my), yy+(p.y-my)*(p.y-my)
	}
	l := line{r2: 1}
	if xx > 0 {
		l.slope = xy / xx
	}
	l.intercept = my - l.slope*mx
	if xx > 0 && yy > 0 {
		l.r2 = xy * xy / (xx * yy)
	}
	return l
}
