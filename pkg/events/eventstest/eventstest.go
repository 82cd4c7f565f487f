// Package eventstest runs the fleet's event bus for tests of services: a real
// NATS JetStream server with the catalogue's users and streams.
package eventstest

import (
	"context"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// OperatorName is the name of the operator that the server knows.
const OperatorName = "admin"

// Fleet is the bus of one test.
type Fleet struct {
	*eventbustest.Server
	tb testing.TB
	// Config is what Bus connects with; a test may change it. Attempts follow
	// each other quickly: three, with AckWait of a second.
	Config eventbus.Config
}

// Start starts the server, and a provisioner that makes all streams with their
// consumers, and makes them again when a test loses them.
func Start(tb testing.TB) *Fleet {
	tb.Helper()
	f := StartEmpty(tb)
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	if err := f.Bus(eventbus.Provisioner).Ensure(ctx); err != nil {
		tb.Fatalf("make streams: %v", err)
	}
	return f
}

// StartEmpty starts the server without streams.
func StartEmpty(tb testing.TB) *Fleet {
	tb.Helper()
	f := &Fleet{Server: eventbustest.Start(tb, events.Users(eventbustest.TrustDomain, OperatorName)), tb: tb}
	f.Config = eventbus.Config{
		URL: f.URL(), PublishTimeout: 2 * time.Second, DrainTimeout: 2 * time.Second,
		AckWait: time.Second, MaxDeliver: 3, Backoff: []time.Duration{20 * time.Millisecond},
	}
	return f
}

// Bus connects as a service, or as the operator for eventbus.Operator; it closes
// with the test.
func (f *Fleet) Bus(service string) *eventbus.Bus { return f.BusWith(service, obs.Discard(service)) }

// BusWith is Bus with the caller's telemetry.
func (f *Fleet) BusWith(service string, t *obs.Telemetry) *eventbus.Bus {
	f.tb.Helper()
	id := tlsx.ServiceID(eventbustest.TrustDomain, service)
	if service == eventbus.Operator {
		id = tlsx.OperatorID(eventbustest.TrustDomain, OperatorName)
	}
	bus, err := events.Connect(f.tb.Context(), f.Config, service, f.TLS(id), t)
	if err != nil {
		f.tb.Fatalf("connect %s: %v", service, err)
	}
	f.tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := bus.Close(ctx); err != nil {
			f.tb.Errorf("close bus of %s: %v", service, err)
		}
	})
	return bus
}
