package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/warm"
)

const benchDomain = "bench.local"

// serving is a verdict service on a database of its own, behind mutual TLS, and
// beside it a bare gRPC server that echoes one answer, with the same messages and
// certificates.
type serving struct {
	verifierv1.UnimplementedVerdictServiceServer

	b      *testing.B
	db     *sqldb.DB
	store  *store.SQL
	client verifierv1.VerdictServiceClient
	echo   verifierv1.VerdictServiceClient
	refs   []*typev1.ImageRef
	// reply and batch are what the echo answers.
	reply *verifierv1.GetVerdictResponse
	batch *verifierv1.BatchGetVerdictsResponse
	// caller is the identity of a client, address where the verdict service is.
	caller  *tlsx.Source
	address string
	// telemetry is that of an installation without a collector.
	telemetry *obs.Telemetry
}

func newServing(b *testing.B, images int) *serving {
	b.Helper()
	s := &serving{b: b}
	var err error
	if s.db, err = sqldb.Open(b.Context(), sqldbtest.SQLite(b), "verifier"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.db.Close() })
	if err := s.db.Migrate(b.Context(), store.Migrations()); err != nil {
		b.Fatal(err)
	}
	s.store = store.New(s.db)
	for n := range images {
		s.refs = append(s.refs, s.save(n))
	}
	s.serve()
	return s
}

// verdictOf is a verdict as the baseline pack gives it: one platform, one policy of
// six rules, five attestations.
func verdictOf(image imageref.Ref) core.Verdict {
	at := time.Now().Truncate(time.Second)
	p := core.PlatformVerdict{
		Digest: image.Digest, Platform: core.Platform{OS: "linux", Architecture: "amd64"}, State: core.StatePass,
		Policies: []core.PolicyResult{{Policy: "baseline", Digest: image.Digest, State: core.StatePass}},
		Inputs: core.Inputs{
			AdvisoryDigest: image.Digest, AdvisoryTime: at, EvidenceDigest: image.Digest, PolicyDigests: []string{image.Digest},
		},
	}
	for _, r := range []string{"not-exploited", "no-fixable-critical", "no-fixable-high", "not-root", "supported-distribution", "no-secrets"} {
		p.Policies[0].Rules = append(p.Policies[0].Rules, core.RuleResult{Rule: r, Outcome: core.OutcomePassed, Control: "NIST SP 800-190 4.1.1"})
	}
	for _, t := range []string{"https://spdx.dev/Document", "https://cyclonedx.org/bom", "https://in-toto.io/attestation/vulns/v0.2", core.PredicateReport, "https://slsa.dev/provenance/v1"} {
		p.Inputs.Attestations = append(p.Inputs.Attestations, core.Attestation{PredicateType: t, ManifestDigest: image.Digest, KeyID: image.Digest, SignTime: at})
	}
	return core.Verdict{Image: image, State: core.StatePass, EvaluateTime: at, ExpireTime: at.Add(7 * 24 * time.Hour), Platforms: []core.PlatformVerdict{p}}
}

func benchImage(n int) imageref.Ref {
	return imageref.Ref{Registry: "registry.example:5000", Repository: "team/app" + strconv.Itoa(n%1000), Tag: "v1", Digest: fmt.Sprintf("sha256:%064x", n)}
}

func (s *serving) save(n int) *typev1.ImageRef {
	s.b.Helper()
	image := benchImage(n)
	v := verdictOf(image)
	m, err := verdictpb.FromCore(v)
	if err != nil {
		s.b.Fatal(err)
	}
	body, err := verdictpb.Encode(m)
	if err != nil {
		s.b.Fatal(err)
	}
	_, err = s.store.Save(s.b.Context(), store.NewVerdict{
		Image: image, State: v.State, Digest: m.GetDigest(), ChangeKey: m.GetDigest(), TraceID: strings.Repeat("a", 32),
		CreateTime: v.EvaluateTime, ExpireTime: v.ExpireTime, Body: body, Revision: store.AnyRevision,
	})
	if err != nil {
		s.b.Fatal(err)
	}
	return &typev1.ImageRef{Registry: image.Registry, Repository: image.Repository, Digest: image.Digest}
}

func (s *serving) serve() {
	b := s.b
	b.Helper()
	ca, err := tlsx.LoadOrCreateCA(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	source := func(id string) *tlsx.Source {
		cfg, err := ca.Issue(b.TempDir(), "bench", id, time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		src, err := tlsx.NewSource(cfg)
		if err != nil {
			b.Fatal(err)
		}
		return src
	}
	verifierID := tlsx.ServiceID(benchDomain, "verifier")
	own, caller := source(verifierID), source(tlsx.ClientID(benchDomain, "bench"))
	hub := &wake.Hub{}
	cache := warm.New(warm.Options{Source: s.store, Limit: 64 << 20, Now: time.Now, Changed: hub.Changed, Log: slog.New(slog.DiscardHandler)})
	telemetry, err := obs.Start(b.Context(), "verifier", obs.Config{SampleRatio: 1, LogLevel: "error", LogFormat: "json"}, os.Stderr)
	if err != nil {
		b.Fatal(err)
	}
	table := authz.Table{}
	for _, m := range verifierv1.VerdictService_ServiceDesc.Methods {
		table["/"+verifierv1.VerdictService_ServiceDesc.ServiceName+"/"+m.MethodName] = authz.Rule{Clients: true}
	}
	table[verifierv1.VerdictService_WatchVerdicts_FullMethodName] = authz.Rule{Clients: true}
	srv, err := grpcx.NewServer(grpcx.DefaultServerConfig("127.0.0.1:0"), grpcx.ServerDeps{TLS: own, Authz: table, Telemetry: telemetry, Readiness: lifecycle.NewReadiness(),
		Quiet: []string{verifierv1.VerdictService_GetVerdict_FullMethodName, verifierv1.VerdictService_BatchGetVerdicts_FullMethodName},
	})
	if err != nil {
		b.Fatal(err)
	}
	server.NewVerdicts(server.Deps{Store: s.store, Cache: cache, Hub: hub, Now: time.Now}).Register(srv)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{srv.Run, cache.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				b.Error(err)
			}
		})
	}
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	bare := grpc.NewServer(grpc.Creds(credentials.NewTLS(own.Server("h2"))))
	verifierv1.RegisterVerdictServiceServer(bare, s)
	wg.Go(func() { _ = bare.Serve(listener) })
	dial := func(address string) *grpc.ClientConn {
		// The same bare client for both: what is measured is the server.
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(caller.Client(verifierID))))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	s.client, s.echo = verifierv1.NewVerdictServiceClient(dial(srv.Addr())), verifierv1.NewVerdictServiceClient(dial(listener.Addr().String()))
	s.caller, s.address, s.telemetry = caller, srv.Addr(), telemetry
	b.Cleanup(func() { cancel(); bare.Stop(); wg.Wait() })
}

// latencies calls f n times from several goroutines and returns how long each call
// took, sorted, and the time of all.
func (s *serving) latencies(n int, f func(i int) error) ([]time.Duration, time.Duration) {
	s.b.Helper()
	const callers = 8
	out := make([]time.Duration, n)
	var wg sync.WaitGroup
	start := time.Now()
	for w := range callers {
		wg.Go(func() {
			for i := w; i < n; i += callers {
				began := time.Now()
				if err := f(i); err != nil {
					s.b.Error(err)
					return
				}
				out[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	all := time.Since(start)
	return out, all
}

func p99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*99/100]
}

// compare runs both in turns, so that what else the machine does hits both, and
// reports the throughput and the p99 of a as multiples of b's.
func (s *serving) compare(a, b func(i int) error) {
	s.b.Helper()
	const round = 2000
	var (
		times [2][]time.Duration
		total [2]time.Duration
	)
	s.latencies(round, a) // connections and caches
	s.latencies(round, b)
	s.b.ResetTimer()
	for n := 0; n < s.b.N; n += round {
		for i, f := range []func(int) error{a, b} {
			t, all := s.latencies(round, f)
			times[i], total[i] = append(times[i], t...), total[i]+all
		}
	}
	s.b.StopTimer()
	s.b.ReportMetric(float64(total[1])/float64(total[0]), "x-bare-throughput")
	s.b.ReportMetric(float64(p99(times[0]))/float64(p99(times[1])), "x-bare-p99")
	s.b.ReportMetric(float64(len(times[0]))/total[0].Seconds(), "calls/s")
	s.b.ReportMetric(float64(total[0].Microseconds())/float64(len(times[0])), "us/call")
}

// GetVerdict is the bare server: it sends back one answer, whatever is asked.
func (s *serving) GetVerdict(context.Context, *verifierv1.GetVerdictRequest) (*verifierv1.GetVerdictResponse, error) {
	return s.reply, nil
}

// BenchmarkGetVerdict compares answers from memory with a bare echo.
func BenchmarkGetVerdict(b *testing.B) {
	s := newServing(b, 1000)
	for _, view := range []verifierv1.VerdictView{verifierv1.VerdictView_VERDICT_VIEW_FULL, verifierv1.VerdictView_VERDICT_VIEW_BASIC} {
		b.Run(strings.ToLower(strings.TrimPrefix(view.String(), "VERDICT_VIEW_")), func(b *testing.B) {
			s.b = b
			get := func(i int) error {
				_, err := s.client.GetVerdict(context.Background(), &verifierv1.GetVerdictRequest{Image: s.refs[i%len(s.refs)], View: view})
				return err
			}
			one, err := s.client.GetVerdict(b.Context(), &verifierv1.GetVerdictRequest{Image: s.refs[0], View: view})
			if err != nil {
				b.Fatal(err)
			}
			s.reply = one
			s.compare(get, func(i int) error {
				_, err := s.echo.GetVerdict(context.Background(), &verifierv1.GetVerdictRequest{Image: s.refs[i%len(s.refs)], View: view})
				return err
			})
			b.ReportMetric(float64(proto.Size(one)), "B/answer")
		})
	}
}
