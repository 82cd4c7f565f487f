package events

import (
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// Users returns the users that a NATS server of the fleet must know: the five
// services and the named operators, each with the least it needs.
func Users(trustDomain string, operators ...string) []eventbus.User {
	var users []eventbus.User
	for _, service := range Topology.Services() {
		pub, sub := Topology.Permissions(service)
		users = append(users, eventbus.User{ID: tlsx.ServiceID(trustDomain, service), Pub: pub, Sub: sub})
	}
	for _, name := range operators {
		pub, sub := Topology.Permissions(eventbus.Operator)
		users = append(users, eventbus.User{ID: tlsx.OperatorID(trustDomain, name), Pub: pub, Sub: sub})
	}
	return users
}
