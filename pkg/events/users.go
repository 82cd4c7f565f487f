package events

import (
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// Users returns the users that a NATS server of the fleet must know: the five
// services, the provisioner of the streams and the named operators, each with the
// least it needs.
func Users(trustDomain string, operators ...string) []eventbus.User {
	var users []eventbus.User
	for _, service := range append(Topology.Services(), eventbus.Provisioner) {
		users = append(users, Topology.User(service, tlsx.ServiceID(trustDomain, service)))
	}
	for _, name := range operators {
		users = append(users, Topology.User(eventbus.Operator, tlsx.OperatorID(trustDomain, name)))
	}
	return users
}

// Observer returns a user that sees every event pass and can do nothing else.
func Observer(id string) eventbus.User {
	return eventbus.User{ID: id, Account: eventbus.Account, Sub: []string{subjectPrefix + ">"}}
}
