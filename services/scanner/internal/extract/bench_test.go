package extract_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

// realisticLayer has what layers have most of: the sources and programs of this
// machine's Go, a node_modules, a package database.
func realisticLayer(b *testing.B) []byte {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	entries := []lt.Entry{lt.File("etc/os-release", debianRelease), lt.File("var/lib/dpkg/status", dpkgStatus(350))}
	size := 0
	env, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	root := filepath.Join(strings.TrimSpace(string(env)), "src")
	err = filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || size > 48<<20 {
			return err
		}
		content, err := os.ReadFile(p)
		size += len(content)
		entries = append(entries, lt.File("usr/local/go/src/"+strings.TrimPrefix(p, root+"/"), string(content)))
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1500 {
		dir := fmt.Sprintf("app/node_modules/m%d", i)
		entries = append(entries, npm(dir, fmt.Sprintf("m%d", i), "1.2.3"), lt.File(dir+"/index.js", strings.Repeat(fmt.Sprintf("f(%d);\n", r.Uint64()), 200)))
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		b.Fatal(err)
	}
	entries = append(entries, lt.Executable("usr/bin/app", string(content)))
	return lt.Gzip(b, lt.Tar(b, entries...))
}

// bare is what cannot be done without: both digests, decompression, the walk.
func bare(b *testing.B, blob []byte) {
	b.Helper()
	compressed, plain := sha256.New(), sha256.New()
	zr, err := gzip.NewReader(io.TeeReader(bytes.NewReader(blob), compressed))
	if err != nil {
		b.Fatal(err)
	}
	tr := tar.NewReader(io.TeeReader(zr, plain))
	for {
		_, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// cpu is what the process has taken of the processor.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLayer reads a layer and extracts its packages, and in turns does only what
// cannot be left out. x-bare is the ratio of the processor time of the two, peak-MiB
// the highest heap above what was there before.
func BenchmarkLayer(b *testing.B) {
	blob := realisticLayer(b)
	s := lt.Store{}
	d := s.Add(blob)
	x := extractor(b, s, nil)
	var ours, limit time.Duration
	peak := watchHeap()
	b.SetBytes(int64(len(blob)))
	for b.Loop() {
		start := cpu()
		bare(b, blob)
		limit += cpu() - start
		start = cpu()
		inv, err := x.Extract(b.Context(), imageref.Ref{}, []core.Descriptor{d})
		ours += cpu() - start
		if err != nil || len(inv.Packages) < 1850 {
			b.Fatalf("%d packages, %v", len(inv.Packages), err)
		}
	}
	b.ReportMetric(ours.Seconds()/limit.Seconds(), "x-bare")
	b.ReportMetric(float64(peak())/(1<<20), "peak-MiB")
}

// watchHeap samples the heap until the function that it returns is called.
func watchHeap() func() uint64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	before, most := sample[0].Value.Uint64(), uint64(0)
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	return func() uint64 {
		close(stop)
		done.Wait()
		return most - min(before, most)
	}
}
