package oneshot_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/klauspost/compress/gzip"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/oneshot"
)

// BenchmarkScan shows how the CPU time of a scan grows with what is in an image.
// x-bare is the ratio to reading, decompressing and walking the same layers and nothing else.
func BenchmarkScan(b *testing.B) {
	for _, c := range []struct {
		unit                                string
		layers, files, packages, advisories int
	}{
		{"layers", 1, 2000, 100, 0},
		{"layers", 4, 2000, 100, 0},
		{"layers", 8, 2000, 100, 0},
		{"layers", 16, 2000, 100, 0},
		{"files", 2, 1000, 100, 0},
		{"files", 2, 4000, 100, 0},
		{"files", 2, 8000, 100, 0},
		{"files", 2, 16000, 100, 0},
		{"packages", 2, 2000, 250, 0},
		{"packages", 2, 2000, 1000, 0},
		{"packages", 2, 2000, 2000, 0},
		{"packages", 2, 2000, 4000, 0},
		{"advisories", 2, 2000, 1000, 2000},
		{"advisories", 2, 2000, 1000, 8000},
		{"advisories", 2, 2000, 1000, 16000},
		{"advisories", 2, 2000, 1000, 32000},
	} {
		n := map[string]int{"layers": c.layers, "files": c.files, "packages": c.packages, "advisories": c.advisories}[c.unit]
		b.Run(fmt.Sprintf("%s=%d", c.unit, n), func(b *testing.B) {
			dir := benchImage(b, c.layers, c.files, c.packages)
			o := options(b, "oci:"+dir)
			o.Layers = 1
			if c.advisories > 0 {
				o.Matcher = benchAdvisories(b, c.advisories, c.packages)
			}
			b.ResetTimer()
			start := cpuTime(b)
			for range b.N {
				if _, _, err := oneshot.Scan(b.Context(), o); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			scanned := cpuTime(b)
			for range b.N {
				bareWalk(b, dir)
			}
			b.ReportMetric((scanned-start).Seconds()*1000/float64(b.N), "cpu-ms/scan")
			b.ReportMetric((scanned-start).Seconds()/(cpuTime(b)-scanned).Seconds(), "x-bare")
		})
	}
}

// cpuTime is what the process used so far: unlike the clock it does not depend on
// what else the machine does.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchImage makes an image of files of 4 kB, and packages in half of the layers.
func benchImage(b *testing.B, layers, files, packages int) string {
	b.Helper()
	content := strings.Repeat("All work and no play makes Jack a dull boy.\n", 93)
	out := make([][]lt.Entry, layers)
	out[0] = append(out[0], lt.File("etc/os-release", debian))
	for i := range files {
		l := i % layers
		out[l] = append(out[l], lt.File(fmt.Sprintf("usr/share/l%d/d%d/file%d", l, i/100, i), content[i%100:]))
	}
	for i := range packages {
		l := i % layers
		out[l] = append(out[l], npm(fmt.Sprintf("app%d/node_modules/p%d", l, i), fmt.Sprintf("p%d", i), "1.0.0"))
	}
	dir := filepath.Join(b.TempDir(), "bench")
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		b.Fatal(err)
	}
	if err := p.AppendImage(image(b, linux, out...)); err != nil {
		b.Fatal(err)
	}
	return dir
}

// benchAdvisories are so many advisories about the packages of benchImage: what grows is
// what is said about each, and all of it affects the version that is installed.
func benchAdvisories(b *testing.B, n, packages int) *advisory.Snapshot {
	b.Helper()
	builder := advisory.NewBuilder(n)
	for i := range n {
		record := fmt.Sprintf(`{"id":"GHSA-%d","modified":"2024-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"npm","name":"p%d"},`+
			`"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"2.0.%d"}]}]}]}`, i, i%packages, i)
		if err := builder.Add("bench", []byte(record)); err != nil {
			b.Fatal(err)
		}
	}
	s, err := builder.Build()
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// bareWalk decompresses every layer of a layout and walks over its entries.
func bareWalk(b *testing.B, dir string) {
	b.Helper()
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range blobs {
		f, err := os.Open(file)
		if err != nil {
			b.Fatal(err)
		}
		magic := make([]byte, 2)
		if _, err := io.ReadFull(f, magic); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) {
			zr, err := gzip.NewReader(io.MultiReader(bytes.NewReader(magic), f))
			if err != nil {
				b.Fatal(err)
			}
			tr := tar.NewReader(zr)
			for err == nil {
				_, err = tr.Next()
			}
			if !errors.Is(err, io.EOF) {
				b.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
