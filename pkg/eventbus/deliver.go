package eventbus

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
)

// errStopping ends the handlers that are still running when the drain time is
// over.
var errStopping = errors.New("the service is stopping")

// spareAttempts are deliveries above MaxDeliver that are still handled. The
// server counts a delivery also when it came to nothing because a replica was
// stopped or restarted; such a message deserves its last attempt.
const spareAttempts = 3

// Outcomes of a delivery, in metrics and spans.
const (
	outcomeDone       = "done"
	outcomeRetry      = "retry"
	outcomeDeadLetter = "dead_letter"
	outcomeGivenBack  = "given_back"
	outcomeUnsettled  = "unsettled"
)

// deliver handles one message and settles it.
func (c *consumption) deliver(ctx context.Context, msg jetstream.Msg, g *group) {
	d, err := c.delivery(msg)
	if err != nil {
		// Only a message that did not come through JetStream has no metadata.
		c.bus.log.ErrorContext(ctx, "message without metadata", "consumer", c.cfg.Durable, "error", err)
		return
	}
	// What the handler began it may finish: stopping ends its context later.
	hctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	hctx, span := c.bus.tel.tracer.Start(c.bus.tel.extract(hctx, msg.Headers()), "process "+d.Subject,
		trace.WithSpanKind(trace.SpanKindConsumer), processAttributes(d))
	defer span.End()
	keepAlive := make(chan struct{})
	limited, release := context.WithTimeout(hctx, c.cfg.MaxDuration)
	defer release()
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		c.keepAlive(ctx, limited, msg, c.queue.heartbeat(), cancel, keepAlive)
	}()
	began := time.Now()
	info, remembered := c.failure(d)
	var handlerErr error
	switch {
	case remembered:
		handlerErr = errors.New(info.Message)
	case d.Attempt > c.cfg.MaxDeliver+spareAttempts && !c.cfg.NoDeadLetter:
		handlerErr = Permanent(ReasonAttemptsExhausted, errors.New("delivered again and again without an answer; handling it may crash the service"))
	default:
		handlerErr = c.run(c.withPlace(limited, ctx, g), d)
	}
	took := time.Since(began)
	close(keepAlive)
	<-beats
	// The span goes on, the handler's time limit does not: settling must work
	// also after a timeout.
	settled := context.WithoutCancel(hctx)
	outcome := c.settle(settled, msg, d, handlerErr, info, remembered, errors.Is(context.Cause(hctx), errStopping))
	c.bus.tel.processed(settled, span, d, took, outcome, handlerErr)
}

// settle answers the server according to what the handler said, and returns the
// outcome.
func (c *consumption) settle(ctx context.Context, msg jetstream.Msg, d *Delivery, err error, info DeadLetterInfo, remembered, stopping bool) string {
	log := c.bus.log.With("consumer", d.Consumer, "event_id", d.ID, "attempt", d.Attempt)
	if err == nil {
		ackCtx, cancel := context.WithTimeout(ctx, c.bus.cfg.PublishTimeout)
		defer cancel()
		if err := msg.DoubleAck(ackCtx); err != nil {
			log.WarnContext(ctx, "message handled but not acknowledged; it will be redelivered", "error", err)
			return outcomeUnsettled
		}
		return outcomeDone
	}
	if stopping && !IsPermanent(err) {
		return c.nak(ctx, msg, d, 0, outcomeGivenBack)
	}
	delay := c.backoff(d.Attempt, rand.Float64()) //nolint:gosec // spreads load, guards nothing
	giveUp := remembered || IsPermanent(err) || d.Attempt >= c.cfg.MaxDeliver
	if c.cfg.NoDeadLetter || !giveUp {
		log.WarnContext(ctx, "message failed; it will be retried", "error", err, "wait", delay)
		return c.nak(ctx, msg, d, delay, outcomeRetry)
	}
	if !remembered {
		info = newDeadLetterInfo(c.bus.opts.Service, d, err, c.bus.opts.Now())
	}
	if err := c.publishDeadLetter(ctx, d, info); err != nil {
		log.ErrorContext(ctx, "dead letter not stored; the message stays in the stream", "reason", info.Reason, "error", err)
		c.remember(d, info)
		return c.nak(ctx, msg, d, delay, outcomeRetry)
	}
	log.ErrorContext(ctx, "message given up, dead letter stored", "reason", info.Reason, "error", err)
	c.forget(d)
	c.bus.tel.deadLettered(ctx, d, info.Reason)
	return c.term(ctx, msg, d, info.Reason)
}

// nak gives a message back; if that fails the server does it after AckWait.
func (c *consumption) nak(ctx context.Context, msg jetstream.Msg, d *Delivery, delay time.Duration, outcome string) string {
	give := msg.Nak
	if delay > 0 {
		give = func() error { return msg.NakWithDelay(delay) }
	}
	if err := give(); err != nil {
		c.bus.log.WarnContext(ctx, "message not returned; it will be redelivered", "consumer", d.Consumer, "event_id", d.ID, "error", err)
		return outcomeUnsettled
	}
	return outcome
}

func (c *consumption) term(ctx context.Context, msg jetstream.Msg, d *Delivery, reason string) string {
	if err := msg.TermWithReason(reason); err != nil {
		c.bus.log.WarnContext(ctx, "message not terminated; it will be redelivered", "consumer", d.Consumer, "event_id", d.ID, "error", err)
		return outcomeUnsettled
	}
	return outcomeDeadLetter
}

// run calls the handler and makes a panic an error.
func (c *consumption) run(ctx context.Context, d *Delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p := &panicError{value: v, stack: debug.Stack()}
			c.bus.log.ErrorContext(ctx, "handler panicked", "consumer", d.Consumer, "event_id", d.ID, "error", p, "stack", string(p.stack))
			err = p
		}
	}()
	return c.handler(ctx, d)
}

// keepAlive tells the server three times within AckWait that the message is
// being handled, until done or the handler's time is over. When the service
// stops it gives the handler the drain time, then ends it.
func (c *consumption) keepAlive(ctx, handling context.Context, msg jetstream.Msg, ackWait time.Duration, cancel context.CancelCauseFunc, done <-chan struct{}) {
	beat := time.NewTicker(max(ackWait/3, time.Millisecond))
	defer beat.Stop()
	stopping := ctx.Done()
	var drained <-chan time.Time
	for {
		select {
		case <-done:
			return
		case <-handling.Done():
			return
		case <-beat.C:
			if err := msg.InProgress(); err != nil {
				c.bus.log.DebugContext(handling, "heartbeat not sent", "consumer", c.cfg.Durable, "error", err)
			}
		case <-stopping:
			stopping = nil
			t := time.NewTimer(c.bus.cfg.DrainTimeout)
			defer t.Stop()
			drained = t.C
		case <-drained:
			cancel(errStopping)
		}
	}
}

// backoff is the wait after a failed attempt; r is random in [0,1).
func (c *consumption) backoff(attempt int, r float64) time.Duration {
	i := min(attempt, len(c.cfg.Backoff)) - 1
	return jitter(c.cfg.Backoff[max(i, 0)], r)
}

func (c *consumption) delivery(msg jetstream.Msg) (*Delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, err
	}
	return &Delivery{
		Message: parseMessage(msg.Subject(), msg.Headers(), msg.Data()), Header: firstValues(msg.Headers()),
		Stream: meta.Stream, Consumer: meta.Consumer, Sequence: meta.Sequence.Stream, Attempt: int(meta.NumDelivered),
	}, nil
}

func firstValues(h nats.Header) map[string]string {
	m := make(map[string]string, len(h))
	for k, v := range h {
		if len(v) > 0 {
			m[k] = v[0]
		}
	}
	return m
}
