package consumer

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lru"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
)

var benchNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// scanned is the evidence of an image as it is recorded: its report is a real one, see
// testdata/reports.
func scanned(tb testing.TB, name string) core.PlatformEvidence {
	tb.Helper()
	f, err := os.Open(filepath.Join("testdata", "reports", name+".json.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	predicate, err := io.ReadAll(z)
	if err != nil {
		tb.Fatal(err)
	}
	var about struct {
		Scanner struct {
			Result struct {
				ImageDigest string `json:"imageDigest"`
			} `json:"result"`
		} `json:"scanner"`
	}
	if err := json.Unmarshal(predicate, &about); err != nil {
		tb.Fatal(err)
	}
	report, err := evidence.DecodeReport(predicate, about.Scanner.Result.ImageDigest)
	if err != nil {
		tb.Fatal(err)
	}
	source := core.Attestation{PredicateType: core.PredicateReport, ManifestDigest: report.AdvisoryDigest, KeyID: "key", SignTime: benchNow.Add(-time.Hour)}
	report.Source = source
	spdx := source
	spdx.PredicateType = "https://spdx.dev/Document"
	for i := range report.Findings {
		report.Findings[i].FirstSeen = benchNow.Add(-time.Duration(1+i%3) * 24 * time.Hour)
	}
	return core.PlatformEvidence{Digest: about.Scanner.Result.ImageDigest, Platform: report.Platform, Report: report, Attestations: []core.Attestation{source, spdx}}
}

// reports are all there are.
var reports = []string{"alpine-base", "alpine-server", "debian-11", "debian-12", "debian-apps", "go", "npm", "big"}

// grown is evidence with a number of findings: those of the real images one after the
// other, and again in another place of the image when there are no more.
func grown(b *testing.B, findings int) core.PlatformEvidence {
	b.Helper()
	var pool []core.Finding
	for _, name := range reports {
		pool = append(pool, scanned(b, name).Report.Findings...)
	}
	e := scanned(b, "debian-apps")
	e.Report.Findings = nil
	for i := range findings {
		f := pool[i%len(pool)]
		if again := i / len(pool); again > 0 {
			f.Location = fmt.Sprintf("copy-%d/%s", again, f.Location)
		}
		e.Report.Findings = append(e.Report.Findings, f)
	}
	return e
}

// judged is a store with images that the baseline judged; the evidence is that of the
// given ones in turn.
func judged(tb testing.TB, images int, of []core.PlatformEvidence) (*Reevaluator, replay.Rules) {
	tb.Helper()
	db, err := sqldb.Open(tb.Context(), sqldbtest.SQLite(tb), "verifier")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	if err := db.Migrate(tb.Context(), store.Migrations()); err != nil {
		tb.Fatal(err)
	}
	kept := store.New(db)
	loader, err := policy.NewLoader()
	if err != nil {
		tb.Fatal(err)
	}
	document, err := policy.Pack("baseline")
	if err != nil {
		tb.Fatal(err)
	}
	set, err := loader.Parse("baseline", document)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := kept.CreatePolicy(tb.Context(), store.Policy{
		Name: "baseline", Digest: set[0].Digest, Document: set[0].Document, Repositories: set[0].Repositories,
	}, 9, store.Audit{ID: "one", Headers: "{}"}); err != nil {
		tb.Fatal(err)
	}
	recorder, err := NewRecorder(kept, &wake.Hub{}, Patience{Overtaken: time.Hour, Longest: 6 * time.Hour}, obs.Discard("verifier"))
	if err != nil {
		tb.Fatal(err)
	}
	book := &RuleBook{Store: kept, Loader: loader}
	now := func() time.Time { return benchNow }
	rules, err := book.Current(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for i := range images {
		sum := sha256.Sum256(fmt.Appendf(nil, "image %d", i))
		image := imageref.Ref{Registry: "r.example", Repository: fmt.Sprintf("team/app%d", i), Tag: "v1", Digest: "sha256:" + hex.EncodeToString(sum[:])}
		e := of[i%len(of)]
		e.Digest = image.Digest
		made, err := replay.Judge(tb.Context(), image, []core.PlatformEvidence{e}, rules, benchNow)
		if err != nil {
			tb.Fatal(err)
		}
		if err := recorder.save(tb.Context(), change{Judged: made, revision: rules.Revision}); err != nil {
			tb.Fatal(err)
		}
	}
	return &Reevaluator{
		Evaluator: &Evaluator{Recorder: recorder, Rules: book.Current, Now: now}, Replayer: &replay.Replayer{Documents: kept, Loader: loader},
		Trusted: func(core.Attestation) bool { return true }, SyncTrust: func(context.Context) error { return nil }, Holder: "bench", Tracer: noop.NewTracerProvider().Tracer(""),
	}, rules
}

// BenchmarkReevaluate judges recorded images again after a change of the rules that
// changes no verdict, which is what most images see: from the database to the
// comparison of verdicts, with the evidence read and decoded anew (cold) or kept in
// memory (warm). Time is that of the processor; x-bare is it in units of that of the rules
// alone and of reading the same rows of the database. "real" are the real images in turn, then come single ones, then growing
// numbers of findings.
func BenchmarkReevaluate(b *testing.B) {
	all := make([]core.PlatformEvidence, 0, len(reports))
	for _, name := range reports {
		all = append(all, scanned(b, name))
	}
	b.Run("real", func(b *testing.B) { reevaluate(b, all) })
	for i, name := range reports {
		b.Run(name, func(b *testing.B) { reevaluate(b, all[i:i+1]) })
	}
	for _, findings := range []int{10, 50, 200, 1000, 5000} {
		b.Run(fmt.Sprintf("findings=%d", findings), func(b *testing.B) { reevaluate(b, []core.PlatformEvidence{grown(b, findings)}) })
	}
}

func reevaluate(b *testing.B, of []core.PlatformEvidence) {
	b.Helper()
	const images = 96
	r, rules := judged(b, images, of)
	work := store.Reevaluation{Revision: rules.Revision, Cause: store.Cause{Kind: core.CausePolicy, Detail: "policy baseline v2"}}
	alone, findings := 0.0, 0
	for _, e := range of {
		alone += rulesAlone(b, rules, e) / float64(len(of))
		findings += len(e.Report.Findings)
	}
	for name, limit := range map[string]int64{"cold": 0, "warm": 1 << 30} {
		b.Run(name, func(b *testing.B) {
			r.Replayer.Decoded = lru.New[string, record.Reading](limit, nil)
			if err := r.work(b.Context(), work); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				if err := r.work(b.Context(), work); err != nil {
					b.Fatal(err)
				}
			}
			whole := (cpuTime(b) - before).Seconds() / float64(b.N) / images
			b.ReportMetric(1/whole, "images/core-s")
			b.ReportMetric(whole*1e6, "us/image")
			b.ReportMetric(whole*1e6*float64(len(of))/float64(findings), "us/finding")
			b.ReportMetric(whole/(alone+readsAlone(b, r, limit == 0)), "x-bare")
		})
	}
}

// rulesAlone is the time of evaluating the rules of one image, in seconds.
func rulesAlone(b *testing.B, rules replay.Rules, e core.PlatformEvidence) float64 {
	b.Helper()
	const rounds = 200
	before := cpuTime(b)
	for range rounds {
		f := &core.Facts{Image: &e.Report.Image, Packages: e.Report.Packages, Findings: e.Report.Findings, Attestations: e.Attestations, Now: benchNow}
		for _, rule := range rules.Policies[0].Rules {
			if _, _, err := rule.Check.Evaluate(context.Background(), f); err != nil {
				b.Fatal(err)
			}
		}
	}
	return (cpuTime(b) - before).Seconds() / rounds
}

// readsAlone is the time of reading what an image is judged from, in seconds: its name,
// its last verdict and, unless that is in memory, its evidence as it is stored.
func readsAlone(b *testing.B, r *Reevaluator, documents bool) float64 {
	b.Helper()
	const rounds = 10
	kept := r.Evaluator.Recorder.Store
	read := 0
	before := cpuTime(b)
	for range rounds {
		var after imageref.Ref
		for {
			images, err := kept.JudgedAfter(b.Context(), after, reevaluateBatch)
			if err != nil {
				b.Fatal(err)
			}
			if len(images) == 0 {
				break
			}
			after = images[len(images)-1]
			read += len(images)
			found, err := kept.Lookup(b.Context(), images, time.Time{})
			if err != nil {
				b.Fatal(err)
			}
			if !documents {
				continue
			}
			var digests []string
			for _, i := range found {
				v, err := verdictpb.Decode(i.Latest.Body, 0, "", "")
				if err != nil {
					b.Fatal(err)
				}
				digests = append(digests, v.GetPlatforms()[0].GetInputs().GetEvidenceDigest())
			}
			if all, err := kept.Documents(b.Context(), digests, 1<<30); err != nil || len(all) != len(digests) {
				b.Fatal(len(all), err)
			}
		}
	}
	return (cpuTime(b) - before).Seconds() / float64(read)
}

// cpuTime is what the process has used so far on all cores, collecting garbage
// included: what else runs on the machine does not count.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
