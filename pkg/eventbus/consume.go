package eventbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Handler handles one delivery. nil acknowledges it; an error brings it back
// after the consumer's backoff, or makes it a dead letter if the error came from
// Permanent or this was the last attempt. ctx ends with the consumer's
// MaxDuration, and some time after the service was told to stop; it carries a
// span that is a child of the sender's. Handlers must be idempotent: the same
// message may come twice.
type Handler func(ctx context.Context, d *Delivery) error

// Timing of pull requests.
const (
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	// maxRemembered bounds the failures that are kept until their dead letter
	// can be stored.
	maxRemembered = 1000
	// readAhead is how often a consumption whose handlers are all busy asks for more
	// messages, and readAheadBatch how many it asks for at a time.
	readAhead      = 100 * time.Millisecond
	readAheadBatch = 100
)

// consumption is one running Consume.
type consumption struct {
	bus     *Bus
	stream  string
	cfg     Consumer
	handler Handler
	queue   *queue
	running sync.WaitGroup // handlers

	mu       sync.Mutex
	failures map[uint64]DeadLetterInfo // by stream sequence
}

// Consume hands the messages of a durable to h, at most concurrency (1 to 1,000)
// at a time and at most half of those for one Options.Group; handlers that are in Idle do
// not count. While all handlers are busy it takes more messages from the server than it
// can handle, so that groups with few messages need not wait for those with many; see
// queue. It returns nil after ctx ended or the bus was closed and all handlers returned:
// they have the configured DrainTimeout, then their contexts end. It waits for
// streams that do not exist yet. The error is of the call: a durable that is not
// this service's.
func (b *Bus) Consume(ctx context.Context, durable string, concurrency int, h Handler) error {
	stream, cfg, ok := b.opts.Topology.consumer(durable)
	if !ok || cfg.Service != b.opts.Service {
		return fmt.Errorf("consume %s: %w: it is not a consumer of %s", durable, ErrNotAllowed, b.opts.Service)
	}
	if concurrency < 1 || concurrency > 1000 {
		return fmt.Errorf("consume %s: concurrency %d is not 1 to 1000", durable, concurrency)
	}
	if b.opts.DeadLetter == nil && !cfg.NoDeadLetter {
		return fmt.Errorf("consume %s: no dead letter function", durable)
	}
	if !b.enter() {
		return fmt.Errorf("consume %s: %w: the bus is closed", durable, ErrUnavailable)
	}
	defer b.consumers.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &consumption{
		bus: b, stream: stream.Name, cfg: b.cfg.consumer(cfg), handler: h,
		failures: map[uint64]DeadLetterInfo{},
	}
	c.queue = newQueue(concurrency, c.cfg.AckWait, b.opts.Now)
	var background sync.WaitGroup
	background.Go(func() {
		select {
		case <-b.done:
			cancel()
		case <-ctx.Done():
		}
	})
	background.Go(func() { c.tend(ctx) })
	c.work(ctx)
	background.Wait()
	for _, msg := range c.queue.drain() {
		c.giveUp(msg)
	}
	c.running.Wait()
	return nil
}

// dispatch starts handlers for messages that wait, as many as may begin.
func (c *consumption) dispatch(ctx context.Context) {
	for ctx.Err() == nil {
		msg, g := c.queue.next()
		if msg == nil {
			return
		}
		c.running.Go(func() {
			c.deliver(ctx, msg, g)
			c.queue.done(g)
			c.dispatch(ctx)
		})
	}
}

// tend keeps the messages that wait alive, and gives those back that waited long.
func (c *consumption) tend(ctx context.Context) {
	for sleep(ctx, max(c.queue.heartbeat()/3, time.Millisecond)) {
		back, stay := c.queue.waitingLong()
		for _, msg := range back {
			c.giveUp(msg)
		}
		for _, msg := range stay {
			if err := msg.InProgress(); err != nil {
				c.bus.log.DebugContext(ctx, "heartbeat of a waiting message not sent", "consumer", c.cfg.Durable, "error", err)
			}
		}
	}
}

// group is what a message shares handlers for.
func (c *consumption) group(msg jetstream.Msg) string {
	if c.bus.opts.Group == nil {
		return ""
	}
	m := parseMessage(msg.Subject(), msg.Headers(), nil)
	return c.bus.opts.Group(&m)
}

// enter registers a consumption unless the bus is closing.
func (b *Bus) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return false
	}
	b.consumers.Add(1)
	return true
}

// work takes messages one by one until ctx ends, through all faults.
func (c *consumption) work(ctx context.Context) {
	for wait := minReconnectWait; ctx.Err() == nil; wait = min(2*wait, maxReconnectWait) {
		began := time.Now()
		err := c.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxReconnectWait {
			wait = minReconnectWait
		}
		if !errors.Is(err, jetstream.ErrNoHeartbeat) {
			level := slog.LevelWarn
			if c.bus.Ready() != nil {
				level = slog.LevelDebug // readyz says what is missing
			}
			c.bus.log.Log(ctx, level, "consumer interrupted", "consumer", c.cfg.Durable, "error", err)
		}
		c.bus.kick()
		if !sleep(ctx, wait) {
			return
		}
	}
}

// session takes messages until something goes wrong with the subscription. While a
// handler is free it asks for one message and waits for it. While all are busy it takes
// only what the server has for nobody else: a message that a free replica can have is
// not taken by a busy one.
func (c *consumption) session(ctx context.Context) error {
	if err := c.bus.waitUp(ctx); err != nil {
		return err
	}
	consumer, err := c.bus.boundConsumer(ctx, c.stream, c.cfg)
	if err != nil {
		return err
	}
	if err := c.bus.sound(ctx, c.stream); err != nil {
		return err
	}
	// The provisioner's configuration may differ from ours; the server's counts.
	ackWait := consumer.CachedInfo().Config.AckWait
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1),
		jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat))
	if err != nil {
		return err
	}
	defer c.giveBack(messages)
	next := time.NewTicker(readAhead)
	defer next.Stop()
	for ctx.Err() == nil {
		c.dispatch(ctx)
		if c.queue.idle() {
			msg, err := messages.Next(jetstream.NextContext(ctx))
			if err != nil {
				return err
			}
			c.queue.add(c.group(msg), msg, ackWait)
			continue
		}
		select {
		case <-ctx.Done():
		case <-c.queue.changed:
		case <-next.C:
			if err := c.fetch(consumer, ackWait); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// fetch takes what waits at the server, as far as there is room.
func (c *consumption) fetch(consumer jetstream.Consumer, ackWait time.Duration) error {
	for n := readAheadBatch; n == readAheadBatch; {
		room := min(c.queue.room(), readAheadBatch)
		if room == 0 {
			return nil
		}
		batch, err := consumer.FetchNoWait(room)
		if err != nil {
			return err
		}
		n = 0
		for msg := range batch.Messages() {
			c.queue.add(c.group(msg), msg, ackWait)
			n++
		}
		if err := batch.Error(); err != nil {
			return err
		}
	}
	return nil
}

// giveBack ends a subscription and returns a message that arrived in the last
// moment.
func (c *consumption) giveBack(messages jetstream.MessagesContext) {
	messages.Drain()
	for {
		msg, err := messages.Next(jetstream.NextMaxWait(time.Second))
		if err != nil {
			messages.Stop()
			return
		}
		c.giveUp(msg)
	}
}

// giveUp returns a message that was not handled.
func (c *consumption) giveUp(msg jetstream.Msg) {
	if err := msg.Nak(); err != nil {
		c.bus.log.Warn("message not given back", "consumer", c.cfg.Durable, "error", err)
	}
}
