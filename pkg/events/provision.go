package events

import (
	"context"
	"errors"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// provisionClose bounds the end of Provision.
const provisionClose = 5 * time.Second

// Provision makes the fleet's streams and consumers, and makes them again when they
// are lost or changed, until ctx ends. tls is the certificate of
// `…/service/topology`. It waits for a server that is down.
func Provision(ctx context.Context, cfg eventbus.Config, tls *tlsx.Source, t *obs.Telemetry) error {
	bus, err := Connect(ctx, cfg, eventbus.Provisioner, tls, t)
	if err != nil {
		return err
	}
	if err = bus.Ensure(ctx); err == nil {
		<-ctx.Done()
	} else if ctx.Err() != nil {
		err = nil // it was told to stop
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), provisionClose)
	defer cancel()
	return errors.Join(err, bus.Close(closing))
}
