package eventbus_test

import (
	"context"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// traced is telemetry that records its spans.
func traced(service string) (*obs.Telemetry, *tracetest.SpanRecorder) {
	t, r := obs.Discard(service), tracetest.NewSpanRecorder()
	t.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r))
	return t, r
}

func spanNamed(t *testing.T, r *tracetest.SpanRecorder, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	var found sdktrace.ReadOnlySpan
	eventually(t, "span "+name, func() bool {
		i := slices.IndexFunc(r.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() == name })
		if i >= 0 {
			found = r.Ended()[i]
		}
		return i >= 0
	})
	return found
}

// One trace: push, publish, handler, dead letter and its handler, each the child
// of the one before.
func TestTrace_Parents(t *testing.T) {
	e := newEnv(t)
	e.buses()
	tel := map[string]*tracetest.SpanRecorder{}
	bus := func(service string) (*eventbus.Bus, trace.Tracer) {
		o := e.options(service)
		o.Telemetry, tel[service] = traced(service)
		return e.connect(o), o.Telemetry.Tracer()
	}
	producer, tracer := bus("producer")
	worker, _ := bus("worker")
	observer, _ := bus("observer")

	handlerTrace := make(chan string, 1)
	e.consume(worker, "worker-jobs", 1, func(ctx context.Context, _ *eventbus.Delivery) error {
		handlerTrace <- obs.TraceID(ctx)
		return eventbus.Permanent("NO", errBroken)
	})
	got := make(chan struct{})
	e.consume(observer, "observer-deadletters", 1, func(context.Context, *eventbus.Delivery) error { close(got); return nil })

	ctx, root := tracer.Start(t.Context(), "webhook")
	if err := producer.Publish(ctx, job("a")); err != nil {
		t.Fatal(err)
	}
	root.End()
	receive(t, got, "dead letter")

	chain := []sdktrace.ReadOnlySpan{
		spanNamed(t, tel["producer"], "webhook"),
		spanNamed(t, tel["producer"], "send "+subjectJobs),
		spanNamed(t, tel["worker"], "process "+subjectJobs),
		spanNamed(t, tel["worker"], "send "+subjectLetter),
		spanNamed(t, tel["observer"], "process "+subjectLetter),
	}
	want := chain[0].SpanContext().TraceID()
	if id := <-handlerTrace; id != want.String() {
		t.Errorf("the handler's trace is %s, want %s", id, want)
	}
	for i, s := range chain[1:] {
		if s.SpanContext().TraceID() != want {
			t.Errorf("%s is in trace %s, want %s", s.Name(), s.SpanContext().TraceID(), want)
		}
		if s.Parent().SpanID() != chain[i].SpanContext().SpanID() {
			t.Errorf("the parent of %s is not %s", s.Name(), chain[i].Name())
		}
	}
	if k := chain[1].SpanKind(); k != trace.SpanKindProducer {
		t.Errorf("send is of kind %v", k)
	}
	if k := chain[2].SpanKind(); k != trace.SpanKindConsumer {
		t.Errorf("process is of kind %v", k)
	}
	attrs := attribute.NewSet(chain[2].Attributes()...)
	for name, want := range map[attribute.Key]string{
		"messaging.system": "nats", "messaging.operation.type": "process", "messaging.destination.name": subjectJobs,
		"messaging.message.id": "a", "messaging.consumer.group.name": "worker-jobs", "seaworthy.eventbus.outcome": "dead_letter",
	} {
		if v, _ := attrs.Value(name); v.AsString() != want {
			t.Errorf("attribute %s is %q, want %q", name, v.AsString(), want)
		}
	}
}

// A message without trace context must not join the trace that the consumer
// happened to be started in.
func TestTrace_NoneInTheMessage(t *testing.T) {
	e := newEnv(t)
	e.buses()
	o := e.options("worker")
	tel, spans := traced("worker")
	o.Telemetry = tel
	worker := e.connect(o)
	if _, err := e.root().Publish(e.ctx(), subjectJobs, []byte("plain")); err != nil {
		t.Fatal(err)
	}
	ctx, start := tel.Tracer().Start(t.Context(), "start")
	defer start.End()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- worker.Consume(ctx, "worker-jobs", 1, func(context.Context, *eventbus.Delivery) error { return nil })
	}()
	s := spanNamed(t, spans, "process "+subjectJobs)
	cancel()
	if err := receive(t, done, "end"); err != nil {
		t.Error(err)
	}
	if s.Parent().IsValid() || s.SpanContext().TraceID() == start.SpanContext().TraceID() {
		t.Error("the handler's span is in the trace of the start")
	}
}

func TestMetrics_Outcomes(t *testing.T) {
	e := newEnv(t)
	producer, _, observer := e.buses()
	o := e.options("worker")
	worker := e.connect(o)
	letters := e.letters(observer)
	e.consume(worker, "worker-jobs", 1, func(_ context.Context, d *eventbus.Delivery) error {
		if d.ID == "bad" {
			return eventbus.Permanent("NO", errBroken)
		}
		return nil
	})
	e.publish(producer, "good", "bad")
	receive(t, letters, "dead letter")
	eventually(t, "metrics", func() bool {
		families, err := o.Telemetry.Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					names[f.GetName()+"/"+l.GetName()+"="+l.GetValue()] = true
				}
			}
		}
		return names["messaging_client_consumed_messages_total/outcome=done"] &&
			names["messaging_client_consumed_messages_total/outcome=dead_letter"] &&
			names["seaworthy_eventbus_dead_letters_total/reason=NO"]
	})
}
