package server_test

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/verdict"
)

// BatchGetVerdicts is the bare server: it sends back one answer, whatever is asked.
func (s *serving) BatchGetVerdicts(context.Context, *verifierv1.BatchGetVerdictsRequest) (*verifierv1.BatchGetVerdictsResponse, error) {
	return s.batch, nil
}

// cpuTime is what the process has used: server and clients of the benchmark are one.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cost is what a kind of call takes.
type cost struct {
	// cpu and wall are those of all calls of eight callers at a time.
	cpu, wall time.Duration
	calls     int
	// alone are the times of calls of one caller.
	alone []time.Duration
}

func (c *cost) p50() time.Duration {
	slices.Sort(c.alone)
	return c.alone[len(c.alone)/2]
}

// costs runs calls in turns, so that what else the machine does hits all of them.
func (s *serving) costs(calls ...func(i int) error) []cost {
	s.b.Helper()
	const round = 400
	out := make([]cost, len(calls))
	for _, f := range calls {
		s.latencies(len(s.refs), f)
	}
	s.b.ResetTimer()
	for n := 0; n < s.b.N; n += round {
		for c, f := range calls {
			before := cpuTime(s.b)
			_, all := s.latencies(round, f)
			out[c].cpu += cpuTime(s.b) - before
			out[c].wall += all
			out[c].calls += round
			for i := range round / 8 {
				began := time.Now()
				if err := f(i); err != nil {
					s.b.Fatal(err)
				}
				out[c].alone = append(out[c].alone, time.Since(began))
			}
		}
	}
	s.b.StopTimer()
	return out
}

// BenchmarkBatchGetVerdicts compares 100 images at once with a single one in the same
// view: by CPU time of server and client, by time of eight callers, and by the median
// of one caller. What plain gRPC needs for the same bytes is x-single-bare.
func BenchmarkBatchGetVerdicts(b *testing.B) {
	s := newServing(b, 1000)
	for _, view := range []verifierv1.VerdictView{
		verifierv1.VerdictView_VERDICT_VIEW_DECISION, verifierv1.VerdictView_VERDICT_VIEW_BASIC, verifierv1.VerdictView_VERDICT_VIEW_FULL,
	} {
		b.Run(strings.ToLower(strings.TrimPrefix(view.String(), "VERDICT_VIEW_")), func(b *testing.B) {
			s.b = b
			single := func(api verifierv1.VerdictServiceClient) func(i int) error {
				return func(i int) error {
					_, err := api.GetVerdict(context.Background(), &verifierv1.GetVerdictRequest{Image: s.refs[i%len(s.refs)], View: view})
					return err
				}
			}
			batch := func(api verifierv1.VerdictServiceClient) func(i int) error {
				return func(i int) error {
					_, err := api.BatchGetVerdicts(context.Background(), &verifierv1.BatchGetVerdictsRequest{Images: s.hundred(i), View: view})
					return err
				}
			}
			var err error
			if s.reply, err = s.client.GetVerdict(b.Context(), &verifierv1.GetVerdictRequest{Image: s.refs[0], View: view}); err != nil {
				b.Fatal(err)
			}
			if s.batch, err = s.client.BatchGetVerdicts(b.Context(), &verifierv1.BatchGetVerdictsRequest{Images: s.hundred(0), View: view}); err != nil {
				b.Fatal(err)
			}
			c := s.costs(batch(s.client), single(s.client), batch(s.echo), single(s.echo))
			s.report(c[0], c[1])
			b.ReportMetric(float64(c[2].cpu)/float64(c[3].cpu), "x-single-bare")
			b.ReportMetric(float64(proto.Size(s.batch)), "B/answer")
		})
	}
	b.Run("client", func(b *testing.B) {
		s.b = b
		client, err := verdict.New(verdict.Config{Address: s.address, TLS: s.caller, Telemetry: s.telemetry})
		if err != nil {
			b.Fatal(err)
		}
		defer client.Close()
		var refs []imageref.Ref
		for _, r := range s.refs {
			refs = append(refs, imageref.Ref{Registry: r.GetRegistry(), Repository: r.GetRepository(), Digest: r.GetDigest()})
		}
		// Without Run the client keeps nothing, and every question is a call.
		c := s.costs(func(i int) error {
			at := i * 100 % len(refs)
			_, err := client.Batch(context.Background(), refs[at:at+100])
			return err
		}, func(i int) error {
			_, err := client.Get(context.Background(), refs[i%len(refs)])
			return err
		})
		s.report(c[0], c[1])
	})
}

func (s *serving) hundred(i int) []*typev1.ImageRef {
	at := i * 100 % len(s.refs)
	return s.refs[at : at+100]
}

// report compares batches with single calls.
func (s *serving) report(batch, single cost) {
	s.b.ReportMetric(float64(batch.cpu)/float64(single.cpu), "x-single-cpu")
	s.b.ReportMetric(float64(batch.wall)/float64(single.wall), "x-single")
	s.b.ReportMetric(float64(batch.p50())/float64(single.p50()), "x-single-p50")
	s.b.ReportMetric(float64(single.cpu.Microseconds())/float64(single.calls), "us-cpu/single")
	s.b.ReportMetric(float64(batch.cpu.Microseconds())/float64(batch.calls), "us-cpu/batch")
}
