package app_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

// BenchmarkKnownLayers is the time from the event of a push to ImageScanned, for an
// image of 1,000 packages and 5,000 files in five layers that another image had
// before: over NATS, with the registry on loopback and the reports in SQLite. The
// bare limit of it is the same of an image without any layer.
func BenchmarkKnownLayers(b *testing.B) {
	f := start(b)
	bare := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	full := bare
	for i := range 5 {
		entries := []layertest.Entry{layertest.File("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n")}
		if i == 0 {
			var status strings.Builder
			for p := range 300 {
				fmt.Fprintf(&status, "Package: lib%d\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.%d\n\n", p, p)
			}
			entries = append(entries, layertest.File("var/lib/dpkg/status", status.String()))
		}
		for p := range 140 {
			entries = append(entries, layertest.File(fmt.Sprintf("app%d/node_modules/p%d/package.json", i, p), fmt.Sprintf(`{"name":"p%d","version":"1.%d.0"}`, p, i)))
		}
		for p := range 860 {
			entries = append(entries, layertest.File(fmt.Sprintf("usr/share/doc/%d/%d", i, p), "text"))
		}
		layer := static.NewLayer(layertest.Gzip(b, layertest.Tar(b, entries...)), types.OCILayer)
		var err error
		if full, err = mutate.AppendLayers(full, layer); err != nil {
			b.Fatal(err)
		}
	}
	n := 0
	// scan pushes one more image of the same layers and returns when it is scanned.
	scan := func(img v1.Image) {
		b.StopTimer()
		n++
		img, err := mutate.Config(img, v1.Config{Labels: map[string]string{"n": fmt.Sprint(n)}})
		if err != nil {
			b.Fatal(err)
		}
		ref := f.push(b, fmt.Sprint("bench", n), img)
		b.StartTimer()
		f.publish(b, fmt.Sprint("bench", n), ref)
		f.wait(b)
	}
	scan(full)
	b.ResetTimer()
	for range b.N {
		scan(bare)
	}
	limit := b.Elapsed()
	b.ResetTimer()
	start := cpuTime(b)
	for range b.N {
		scan(full)
	}
	b.ReportMetric((cpuTime(b)-start).Seconds()*1000/float64(b.N), "cpu-ms/image")
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/image")
	b.ReportMetric(b.Elapsed().Seconds()/limit.Seconds(), "x-bare")
}

// cpuTime is what the process used so far: scanner, registry, bus and the pushes.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
