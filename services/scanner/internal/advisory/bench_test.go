package advisory_test

import (
	"archive/zip"
	"encoding/json"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/osv-scalibr/semantic"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// osvFile is one record as it lies in an archive.
type osvFile struct {
	name    string
	content []byte
}

// osvFiles reads all real records there are.
func osvFiles(tb testing.TB, dir string) []osvFile {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "osv", "*", "all.zip"))
	if err != nil {
		tb.Fatal(err)
	}
	var out []osvFile
	for _, p := range paths {
		zr, err := zip.OpenReader(p)
		if err != nil {
			tb.Fatal(err)
		}
		for _, f := range zr.File {
			rc, err := f.Open()
			if err != nil {
				tb.Fatal(err)
			}
			content, err := io.ReadAll(rc)
			rc.Close()
			if err != nil {
				tb.Fatal(err)
			}
			out = append(out, osvFile{f.Name, content})
		}
		zr.Close()
	}
	return out
}

func buildAll(tb testing.TB, files []osvFile) *advisory.Snapshot {
	tb.Helper()
	b := advisory.NewBuilder(1_000_000)
	for _, f := range files {
		if err := b.Add(f.name, f.content); err != nil {
			tb.Fatal(err)
		}
	}
	s, err := b.Build()
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// timed runs f until it has taken a while and returns the time of one run.
func timed(f func()) time.Duration {
	n := 0
	start := time.Now()
	for ; n == 0 || time.Since(start) < 200*time.Millisecond; n++ {
		f()
	}
	return time.Since(start) / time.Duration(n)
}

// report prints how many times the bare limit, measured in this run, the benchmark
// takes.
func report(b *testing.B, bare time.Duration) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(bare), "x-bare")
}

// BenchmarkBuild builds a snapshot of all real records; bare is to parse the same
// bytes as JSON, without looking at them.
func BenchmarkBuild(b *testing.B) {
	files := osvFiles(b, testData(b))
	size := 0
	start := time.Now()
	for _, f := range files {
		size += len(f.content)
		var v any
		if err := json.Unmarshal(f.content, &v); err != nil {
			b.Fatal(err)
		}
	}
	bare := time.Since(start)
	var s *advisory.Snapshot
	for b.Loop() {
		s = buildAll(b, files)
	}
	report(b, bare)
	b.SetBytes(int64(size))
	b.ReportMetric(float64(s.Size())/(1<<20), "MiB-file")
}

// BenchmarkOpen opens the snapshot of all real records; bare is to read the same
// file and take its CRC.
func BenchmarkOpen(b *testing.B) {
	s := buildAll(b, osvFiles(b, testData(b)))
	path := filepath.Join(b.TempDir(), "snapshot")
	if err := s.WriteFile(path); err != nil {
		b.Fatal(err)
	}
	bare := timed(func() {
		content, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))
	})
	for b.Loop() {
		if _, err := advisory.Open(path, s.Info().Digest); err != nil {
			b.Fatal(err)
		}
	}
	report(b, bare)
}

// BenchmarkMatch matches an inventory of 1,000 packages, made of real ones; bare is
// to look each package up in a map and to compare its version with each one that
// the records name, by the same rules.
func BenchmarkMatch(b *testing.B) {
	dir := testData(b)
	s := buildAll(b, osvFiles(b, dir))
	packages := thousand(b, dir, s)
	type key struct{ ecosystem, name string }
	names := map[key][]string{}
	records, err := s.Records()
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range records {
		for _, a := range r.Affected {
			for _, events := range a.Ranges {
				for _, e := range events {
					if v := e.Fixed + e.LastAffected; v != "" {
						k := key{a.Ecosystem, a.Name}
						names[k] = append(names[k], v)
					}
				}
			}
		}
	}
	bare := timed(func() {
		for i := range packages {
			p := &packages[i]
			v, err := semantic.Parse(p.AdvisoryVersion(), p.Ecosystem)
			if err != nil {
				continue
			}
			for _, other := range names[key{p.Ecosystem, p.AdvisoryName()}] {
				_, _ = v.CompareStr(other)
			}
		}
	})
	found := 0
	for b.Loop() {
		findings, _ := s.Match(packages)
		found = len(findings)
	}
	report(b, bare)
	b.ReportMetric(float64(found), "findings")
}

// thousand is an inventory of 1,000 packages: those of a real database, and Go, npm,
// PyPI and Maven packages that advisories speak of. Three of four are in the highest
// version that any record calls fixed, the fourth in the lowest.
func thousand(tb testing.TB, dir string, s *advisory.Snapshot) []core.Package {
	tb.Helper()
	out := inventory(tb, filepath.Join(dir, "packages", "debian-12.15-minbase")).Packages
	records, err := s.Records()
	if err != nil {
		tb.Fatal(err)
	}
	type key struct{ ecosystem, name string }
	fixed := map[key][]string{}
	var keys []key
	for _, r := range records {
		for _, a := range r.Affected {
			switch a.Ecosystem {
			case "Go", "npm", "PyPI", "Maven":
			default:
				continue
			}
			k := key{a.Ecosystem, a.Name}
			for _, events := range a.Ranges {
				for _, e := range events {
					if v := e.Fixed; v != "" {
						if fixed[k] == nil {
							keys = append(keys, k)
						}
						fixed[k] = append(fixed[k], v)
					}
				}
			}
		}
	}
	for i := range keys {
		if len(out) == 1000 {
			break
		}
		k := keys[i*97%len(keys)]
		slices.SortFunc(fixed[k], func(a, b string) int {
			c, err := semantic.MustParse(a, k.ecosystem).CompareStr(b)
			if err != nil {
				tb.Fatal(err)
			}
			return c
		})
		version := fixed[k][len(fixed[k])-1]
		if i%4 == 0 {
			version = fixed[k][0]
		}
		out = append(out, core.Package{Name: k.name, Version: version, Ecosystem: k.ecosystem})
	}
	return out
}
