package consumer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/lru"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
)

var benchNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// shaped is evidence of the shape of a distribution's image: 88 packages, as Debian 12
// minbase has, and a number of findings.
func shaped(image imageref.Ref, findings int) core.PlatformEvidence {
	source := core.Attestation{PredicateType: core.PredicateReport, ManifestDigest: image.Digest, KeyID: "key", SignTime: benchNow.Add(-time.Hour)}
	spdx := source
	spdx.PredicateType = "https://spdx.dev/Document"
	r := &core.Report{
		Source: source, AdvisoryDigest: image.Digest, AdvisoryTime: benchNow.Add(-24 * time.Hour),
		Image: core.Image{User: "65532", Created: benchNow.Add(-48 * time.Hour), EnvNames: []string{"PATH"}, Distro: core.Distro{ID: "debian", Version: "12"}},
	}
	for i := range 88 {
		r.Packages = append(r.Packages, core.Package{
			Purl: fmt.Sprintf("pkg:deb/debian/lib%d@1.2.3-4+deb12u1?arch=amd64&distro=debian-12", i), Name: fmt.Sprintf("lib%d", i), Version: "1.2.3-4+deb12u1",
			Ecosystem: "Debian:12", SourceName: fmt.Sprintf("source%d", i/2), SourceVersion: "1.2.3-4", Location: "var/lib/dpkg/status",
			Licenses: []string{"GPL-2.0-or-later"},
		})
	}
	for i := range findings {
		r.Findings = append(r.Findings, core.Finding{
			ID: fmt.Sprintf("DEBIAN-CVE-2026-%05d", i), Aliases: []string{fmt.Sprintf("CVE-2026-%05d", i)}, Severity: "MEDIUM", SeverityRank: core.SeverityMedium,
			CVSS: 5.5, EPSS: 0.01, Package: fmt.Sprintf("lib%d", i%88), Version: "1.2.3-4+deb12u1",
			Purl: fmt.Sprintf("pkg:deb/debian/lib%d@1.2.3-4+deb12u1?arch=amd64&distro=debian-12", i%88), FixedVersions: []string{"1.2.3-5"}, Location: "var/lib/dpkg/status",
		})
	}
	return core.PlatformEvidence{Digest: image.Digest, Report: r, Attestations: []core.Attestation{source, spdx}}
}

// judged is a store with images that the baseline judged.
func judged(b *testing.B, images, findings int) (*Reevaluator, replay.Rules) {
	b.Helper()
	db, err := sqldb.Open(b.Context(), sqldbtest.SQLite(b), "verifier")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	if err := db.Migrate(b.Context(), store.Migrations()); err != nil {
		b.Fatal(err)
	}
	kept := store.New(db)
	loader, err := policy.NewLoader()
	if err != nil {
		b.Fatal(err)
	}
	document, err := policy.Pack("baseline")
	if err != nil {
		b.Fatal(err)
	}
	set, err := loader.Parse("baseline", document)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := kept.CreatePolicy(b.Context(), store.Policy{
		Name: "baseline", Digest: set[0].Digest, Document: set[0].Document, Repositories: set[0].Repositories,
	}, 9, store.Audit{ID: "one", Headers: "{}"}); err != nil {
		b.Fatal(err)
	}
	recorder, err := NewRecorder(kept, &wake.Hub{}, obs.Discard("verifier"))
	if err != nil {
		b.Fatal(err)
	}
	book := &RuleBook{Store: kept, Loader: loader}
	now := func() time.Time { return benchNow }
	rules, err := book.Current(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for i := range images {
		sum := sha256.Sum256(fmt.Appendf(nil, "image %d", i))
		image := imageref.Ref{Registry: "r.example", Repository: fmt.Sprintf("team/app%d", i), Tag: "v1", Digest: "sha256:" + hex.EncodeToString(sum[:])}
		made, err := replay.Judge(b.Context(), image, []core.PlatformEvidence{shaped(image, findings)}, rules, benchNow)
		if err != nil {
			b.Fatal(err)
		}
		if err := recorder.save(b.Context(), change{Judged: made, revision: rules.Revision}); err != nil {
			b.Fatal(err)
		}
	}
	return &Reevaluator{
		Evaluator: &Evaluator{Recorder: recorder, Rules: book.Current, Now: now}, Replayer: &replay.Replayer{Documents: kept, Loader: loader},
		Trusted: func(core.Attestation) bool { return true }, Holder: "bench", Tracer: noop.NewTracerProvider().Tracer(""),
	}, rules
}

// BenchmarkReevaluate judges recorded images again after a change of the rules that
// changes no verdict, which is what most images see: from the database to the
// comparison of verdicts, with the evidence decoded anew (cold) or kept in memory
// (warm). Time is that of the processor; x-rules is it in units of that of the rules alone.
func BenchmarkReevaluate(b *testing.B) {
	const images = 100
	for _, findings := range []int{0, 50, 200, 1000} {
		for name, limit := range map[string]int64{"cold": 0, "warm": 1 << 30} {
			b.Run(fmt.Sprintf("findings=%d/%s", findings, name), func(b *testing.B) {
				r, rules := judged(b, images, findings)
				r.Replayer.Decoded = lru.New[string, core.PlatformEvidence](limit, nil)
				work := store.Reevaluation{Revision: rules.Revision, Cause: store.Cause{Kind: core.CausePolicy, Detail: "policy baseline v2"}}
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
				bare := rulesAlone(b, rules, findings)
				b.ReportMetric(1/whole, "images/core-s")
				b.ReportMetric(whole/bare, "x-rules")
			})
		}
	}
}

// rulesAlone is the time of evaluating the rules of one image, in seconds.
func rulesAlone(b *testing.B, rules replay.Rules, findings int) float64 {
	b.Helper()
	e := shaped(imageref.Ref{Digest: "sha256:aa"}, findings)
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
