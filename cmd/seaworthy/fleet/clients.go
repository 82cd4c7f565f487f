package fleet

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// Clients are connections to a fleet: gRPC as its operator, NATS as somebody who
// may only look.
type Clients struct {
	Scanner, Signer, Verifier, Notifier *grpc.ClientConn
	NATS                                *nats.Conn
}

// Connect opens connections to the fleet.
func (f *Fleet) Connect() (*Clients, error) {
	operator, err := tlsx.NewSource(f.ids.operator)
	if err != nil {
		return nil, err
	}
	observer, err := tlsx.NewSource(f.ids.observer)
	if err != nil {
		return nil, err
	}
	c := &Clients{}
	deps := grpcx.ClientDeps{TLS: operator, Telemetry: obs.Discard("seaworthy")}
	domain := f.context.TrustDomain
	for _, to := range []struct {
		conn          **grpc.ClientConn
		name, address string
	}{
		{&c.Scanner, "scanner", f.context.Addresses.Scanner},
		{&c.Signer, "signer", f.context.Addresses.Signer},
		{&c.Verifier, "verifier", f.context.Addresses.Verifier},
		{&c.Notifier, "notifier", f.context.Addresses.Notifier},
	} {
		if *to.conn, err = grpcx.Dial(to.address, tlsx.ServiceID(domain, to.name), deps); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if c.NATS, err = nats.Connect(f.context.NATS, nats.Secure(observer.Client(tlsx.ServiceID(domain, eventbus.Server)))); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to NATS: %w", err), c.Close())
	}
	return c, nil
}

// Close closes what is open.
func (c *Clients) Close() error {
	var errs []error
	for _, conn := range []*grpc.ClientConn{c.Scanner, c.Signer, c.Verifier, c.Notifier} {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	if c.NATS != nil {
		c.NATS.Close()
	}
	return errors.Join(errs...)
}
