package fleet

import (
	"context"
	"net"
	"net/url"
	"path/filepath"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
)

// serviceSockets are the two listeners of a service.
type serviceSockets struct {
	listener, admin net.Listener
}

// sockets are all listeners of the all-in-one. They are opened before anything
// starts, so that every address is known to everybody.
type sockets struct {
	services map[string]serviceSockets
	registry net.Listener
	nats     int // the embedded server opens its own
}

// adminPorts are the usual ports for health and metrics.
var adminPorts = map[string]int{"gateway": 9200, "scanner": 9201, "signer": 9202, "verifier": 9203, "notifier": 9204}

func openSockets(ctx context.Context, cfg Config) (s *sockets, err error) {
	last := lastPorts(cfg)
	s = &sockets{services: map[string]serviceSockets{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for name, port := range map[string]struct{ configured, last, usual int }{
		"gateway":  {cfg.Ports.Gateway, last.Gateway, usual.Gateway},
		"scanner":  {cfg.Ports.Scanner, last.Scanner, usual.Scanner},
		"signer":   {cfg.Ports.Signer, last.Signer, usual.Signer},
		"verifier": {cfg.Ports.Verifier, last.Verifier, usual.Verifier},
		"notifier": {cfg.Ports.Notifier, last.Notifier, usual.Notifier},
	} {
		var pair serviceSockets
		if pair.listener, err = listen(ctx, cfg.Host, port.configured, port.last, port.usual); err != nil {
			return s, err
		}
		s.services[name] = pair
		if pair.admin, err = listen(ctx, "127.0.0.1", 0, 0, adminPorts[name]); err != nil {
			return s, err
		}
		s.services[name] = pair
	}
	if !cfg.Registry.Disabled {
		if s.registry, err = listen(ctx, cfg.Host, cfg.Ports.Registry, last.Registry, usual.Registry); err != nil {
			return s, err
		}
	}
	probe, err := listen(ctx, cfg.Host, cfg.Ports.NATS, last.NATS, usual.NATS)
	if err != nil {
		return s, err
	}
	s.nats = portOf(probe.Addr().String())
	return s, probe.Close()
}

// lastPorts are those of the last start in the same data directory, so that
// image references and contexts stay true.
func lastPorts(cfg Config) Ports {
	c, err := fleetcontext.Load(filepath.Join(cfg.DataDir, fleetcontext.FileName))
	if err != nil {
		return Ports{} // no earlier start, or one that cannot be read: the usual ports
	}
	p := Ports{
		Registry: portOf(c.Registry.Host),
		Scanner:  portOf(c.Addresses.Scanner), Signer: portOf(c.Addresses.Signer),
		Verifier: portOf(c.Addresses.Verifier), Notifier: portOf(c.Addresses.Notifier),
	}
	if u, err := url.Parse(c.Addresses.Gateway); err == nil {
		p.Gateway = portOf(u.Host)
	}
	if u, err := url.Parse(c.NATS); err == nil {
		p.NATS = portOf(u.Host)
	}
	return p
}

func (s *sockets) of(service string) serviceSockets { return s.services[service] }

func (s *sockets) address(service string) string {
	return s.services[service].listener.Addr().String()
}

func (s *sockets) close() {
	for _, pair := range s.services {
		for _, l := range []net.Listener{pair.listener, pair.admin} {
			if l != nil {
				_ = l.Close() // nothing was served on it
			}
		}
	}
	if s.registry != nil {
		_ = s.registry.Close() // as above
	}
}
