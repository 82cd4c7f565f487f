package fleet

import (
	"time"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

const (
	// operatorName is the person at this machine; observerName sees events pass
	// and nothing else.
	operatorName = "local"
	observerName = "observer"
	// certificateValidity is how long a certificate lasts; a start renews one that
	// has less than a third of it left.
	certificateValidity = 365 * 24 * time.Hour
)

// identities are the certificates of everybody in the all-in-one.
type identities struct {
	services                           map[string]tlsx.Config
	nats, topology, operator, observer tlsx.Config
}

func issueIdentities(dir string) (*identities, error) {
	ca, err := tlsx.LoadOrCreateCA(dir)
	if err != nil {
		return nil, err
	}
	const domain = fleetcontext.DefaultTrustDomain
	ids := &identities{services: map[string]tlsx.Config{}}
	for _, name := range []string{"gateway", "scanner", "signer", "verifier", "notifier"} {
		if ids.services[name], err = ca.Issue(dir, name, tlsx.ServiceID(domain, name), certificateValidity); err != nil {
			return nil, err
		}
	}
	if ids.nats, err = ca.Issue(dir, "nats", tlsx.ServiceID(domain, "nats"), certificateValidity); err != nil {
		return nil, err
	}
	if ids.topology, err = ca.Issue(dir, eventbus.Provisioner, tlsx.ServiceID(domain, eventbus.Provisioner), certificateValidity); err != nil {
		return nil, err
	}
	if ids.operator, err = ca.Issue(dir, "operator", tlsx.OperatorID(domain, operatorName), certificateValidity); err != nil {
		return nil, err
	}
	if ids.observer, err = ca.Issue(dir, "observer", tlsx.ClientID(domain, observerName), certificateValidity); err != nil {
		return nil, err
	}
	return ids, nil
}
