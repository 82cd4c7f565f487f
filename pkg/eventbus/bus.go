package eventbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// Server is the name of the NATS server's identity: its certificate carries the
// SPIFFE ID `spiffe://<trust domain>/service/nats`.
const Server = "nats"

// Waits between attempts to reach NATS.
const (
	minReconnectWait = 50 * time.Millisecond
	maxReconnectWait = 2 * time.Second
	connectTimeout   = 5 * time.Second
	// recheckInterval is how often the streams are looked after although
	// nothing seems wrong.
	recheckInterval = 30 * time.Second
	// provisionInterval is the same for the Provisioner. A lost stream is back
	// before most publishers give up.
	provisionInterval = time.Second
)

// Options are what Connect needs besides the configuration.
type Options struct {
	Service   string // own name in the topology, Operator or Provisioner
	TLS       *tlsx.Source
	Telemetry *obs.Telemetry
	Topology  Topology
	// DeadLetter makes the message that is published when a consumer gives up
	// on d. Needed by services with consumers.
	DeadLetter func(d *Delivery, info DeadLetterInfo) (Message, error)
	// Group names what a message shares handlers for, such as a repository: groups take
	// turns, and one has at most half of the handlers of a consumer. Messages without
	// group have all; nil groups nothing.
	Group func(m *Message) string
	// Now is the clock for the times in messages; nil means time.Now.
	Now func() time.Time
}

// Bus is a connection to NATS JetStream on behalf of one service. It is safe for
// use by several goroutines.
type Bus struct {
	cfg  Config
	opts Options
	log  *slog.Logger
	tel  *instruments
	nc   *nats.Conn
	js   jetstream.JetStream

	cancel   context.CancelFunc
	done     chan struct{} // closed when Close begins
	closed   chan struct{} // closed when the connection is
	kicks    chan struct{}
	watch    sync.WaitGroup
	ensuring sync.Mutex

	mu        sync.Mutex
	closing   bool
	consumers sync.WaitGroup
	up        chan struct{} // closed while connected
	isUp      bool
	lastErr   error // why the connection was lost
	wanted    bool  // Ensure was called
	ensureErr error
	compared  map[string]bool // streams that were as they should be, on this connection

	told sync.Map // what the Provisioner has reported already
}

// Connect starts to connect and returns at once, also while NATS is down; the
// connection is tried again forever. ctx ends only this call. The error is of
// configuration: a contradictory topology, no certificate, a bad URL.
func Connect(ctx context.Context, cfg Config, o Options) (*Bus, error) {
	if o.TLS == nil || o.Telemetry == nil || o.Service == "" {
		return nil, errors.New("event bus: needs a service name, a TLS source and telemetry")
	}
	if err := o.Topology.Validate(); err != nil {
		return nil, fmt.Errorf("event bus: topology: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	tel, err := newInstruments(o.Telemetry)
	if err != nil {
		return nil, fmt.Errorf("event bus: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b := &Bus{
		cfg: withDefaults(cfg), opts: o, tel: tel,
		log:    o.Telemetry.Logger.With("component", "eventbus"),
		cancel: cancel, done: make(chan struct{}), closed: make(chan struct{}),
		kicks: make(chan struct{}, 1), up: make(chan struct{}),
	}
	if b.nc, err = nats.Connect(b.cfg.URL, b.connectOptions()...); err != nil {
		cancel()
		return nil, fmt.Errorf("event bus: connect: %w", err)
	}
	b.setUp(b.nc.IsConnected(), nil)
	prefix := apiPrefix
	if o.Service == Provisioner {
		prefix = serverPrefix
	}
	if b.js, err = jetstream.NewWithAPIPrefix(b.nc, prefix); err != nil {
		cancel()
		b.nc.Close()
		return nil, fmt.Errorf("event bus: %w", err)
	}
	b.watch.Go(func() { b.watchStreams(run) })
	return b, nil
}

func (b *Bus) connectOptions() []nats.Option {
	tls := b.opts.TLS
	return []nats.Option{
		nats.Name(b.opts.Service),
		nats.Secure(tls.Client(tlsx.ServiceID(tls.TrustDomain(), Server))),
		nats.CustomInboxPrefix(inboxPrefix(b.opts.Service)),
		nats.Timeout(connectTimeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		// An operator who repairs permissions or certificates must not have to
		// restart the services too.
		nats.IgnoreAuthErrorAbort(),
		// What is published while the connection is down fails at once instead
		// of waiting in a buffer that a crash would empty.
		nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			return jitter(min(minReconnectWait<<min(attempts, 10), maxReconnectWait), rand.Float64()) //nolint:gosec // spreads load, guards nothing
		}),
		nats.PingInterval(10 * time.Second),
		nats.ConnectHandler(func(*nats.Conn) { b.setUp(true, nil) }),
		nats.ReconnectHandler(func(*nats.Conn) {
			b.log.Info("nats reconnected")
			b.setUp(true, nil)
			b.kick()
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.setUp(false, err)
			b.mu.Lock()
			defer b.mu.Unlock()
			if !b.closing {
				b.log.Warn("nats disconnected", "error", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { b.setUp(false, err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Warn("nats reported an error", "error", err)
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }),
	}
}

// setUp records whether the connection is up.
func (b *Bus) setUp(up bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || up {
		b.lastErr = err
	}
	if up == b.isUp {
		return
	}
	b.isUp = up
	if up {
		close(b.up)
	} else {
		b.up = make(chan struct{})
		b.compared = nil // the next server may have others
	}
}

// waitUp waits until the connection is up.
func (b *Bus) waitUp(ctx context.Context) error {
	b.mu.Lock()
	up := b.up
	b.mu.Unlock()
	select {
	case <-up:
		return nil
	case <-b.done:
		return errors.New("the bus is closed")
	case <-ctx.Done():
		b.mu.Lock()
		defer b.mu.Unlock()
		return fmt.Errorf("not connected to %s: %w", b.cfg.URL, errors.Join(b.lastErr, ctx.Err()))
	}
}

// Service returns the name that the bus was connected with.
func (b *Bus) Service() string { return b.opts.Service }

// Source returns the SPIFFE ID of the service, the ce-source of its messages.
func (b *Bus) Source() string { return b.opts.TLS.ID() }

// Now returns the time on the bus's clock.
func (b *Bus) Now() time.Time { return b.opts.Now() }

// Ready says why the bus cannot be used now, or nil: it is connected and, once
// Ensure was called, all streams and consumers that the service uses are there and
// as the topology says.
func (b *Bus) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closing:
		return errors.New("the bus is closed")
	case !b.isUp && b.lastErr != nil:
		return fmt.Errorf("not connected to NATS: %w", b.lastErr)
	case !b.isUp:
		return errors.New("not connected to NATS")
	}
	return b.ensureErr
}

// Close stops all consumers, waits for their handlers, sends what is on its way
// and closes the connection. When ctx ends first it closes at once and returns
// ctx's error.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		<-b.closed
		return nil
	}
	b.closing = true
	close(b.done)
	b.mu.Unlock()

	err := wait(ctx, b.consumers.Wait)
	b.cancel()
	b.watch.Wait()
	if err == nil && b.nc.Drain() == nil {
		select {
		case <-b.closed:
			return nil
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	b.nc.Close()
	<-b.closed
	if err != nil {
		return fmt.Errorf("event bus: close: %w", err)
	}
	return nil
}

// wait runs f and returns when it has or when ctx ends.
func wait(ctx context.Context, f func()) error {
	finished := make(chan struct{})
	go func() { f(); close(finished) }()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sleep waits for d or until ctx ends and says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jitter spreads d by a fifth in both directions; r is random in [0,1).
func jitter(d time.Duration, r float64) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*r))
}
