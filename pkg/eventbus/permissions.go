package eventbus

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	// Operator is the name that people with an operator's certificate use instead
	// of a service's name.
	Operator = "operator"
	// Provisioner is the service that makes streams and consumers, the only one
	// that may. It neither publishes events nor reads them.
	Provisioner = "topology"
	// Account is the NATS account that holds the streams.
	Account = "FLEET"
)

// apiPrefix is where a service's account finds its part of the JetStream API.
// Under the usual prefix `$JS.API` the server would answer for that account
// itself, which has no streams.
const apiPrefix = "seaworthy.js"

// serverPrefix is the JetStream API inside Account.
const serverPrefix = "$JS.API"

// User is a user of the NATS server: the SPIFFE ID of its certificate, its account,
// and the subjects that it may publish and subscribe to. Everything else is denied,
// also if a list is empty.
//
// Every service has an account of its own, because permissions are not enough: a
// client may name any subject as the reply to a request, and the server publishes
// the answer there without asking whether the client may. With MSG.NEXT and
// DIRECT.GET the answer is a message of the client's choice. From another account
// an answer never gets into Account.
type User struct {
	ID string
	// Account is Account itself, or one that reaches nothing but Pub in it.
	Account string
	Pub     []string
	Sub     []string
}

// User returns the user for an identity that acts as a service, as Operator or as
// Provisioner.
func (t Topology) User(service, id string) User {
	pub, sub := t.Permissions(service)
	u := User{ID: id, Account: strings.ToUpper(service), Pub: pub, Sub: sub}
	if service == Provisioner {
		u.Account = Account
	}
	return u
}

// inboxPrefix keeps the answers to one service out of the reach of the others.
func inboxPrefix(service string) string { return "_INBOX_" + service }

// Permissions returns the NATS subjects that a service's user needs, sorted: the
// subjects it publishes, information about the streams and consumers that it uses,
// the messages of its own consumers, its own locks and objects, and its own inbox.
// No service may create, change, purge or delete a stream or a consumer; only
// Provisioner may do the first two. Operator may read the streams whose consumers
// have NoDeadLetter, and publish as the Publishers list it.
func (t Topology) Permissions(service string) (pub, sub []string) {
	api := func(call string) { pub = append(pub, apiPrefix+"."+call) }
	if service == Provisioner {
		return t.provisioning(), []string{inboxPrefix(service) + ".>"}
	}
	for subject, services := range t.Publishers {
		if slices.Contains(services, service) {
			pub = append(pub, subject)
		}
	}
	for _, s := range t.Streams {
		if t.uses(service, s) {
			api("STREAM.INFO." + s.Name)
		}
		if service == Operator && s.readByOperator() {
			api("STREAM.INFO." + s.Name)
			api("STREAM.MSG.GET." + s.Name)
		}
		for _, c := range s.Consumers {
			if c.Service == service {
				of := s.Name + "." + c.Durable
				api("CONSUMER.INFO." + of)
				api(nextCall + of)
				pub = append(pub, "$JS.ACK."+of+".>")
			}
		}
	}
	for _, l := range t.Locks {
		if l.Owner == service {
			pub = append(pub, l.Prefix+".*")
			api("STREAM.INFO." + l.Name)
			api("STREAM.MSG.DELETE." + l.Name)
		}
	}
	for _, o := range t.Objects {
		if o.Owner == service {
			pub = append(pub, o.Prefix+".>")
			api("STREAM.INFO." + o.Name)
			api("DIRECT.GET." + o.Name)
			api("STREAM.MSG.DELETE." + o.Name)
		}
	}
	slices.Sort(pub)
	return slices.Compact(pub), []string{inboxPrefix(service) + ".>"}
}

// nextCall is the one call that is answered by several messages.
const nextCall = "CONSUMER.MSG.NEXT."

// provisioning is what it takes to make the topology and to see what else is there.
func (t Topology) provisioning() []string {
	pub := []string{serverPrefix + ".STREAM.NAMES"}
	api := func(call, of string) { pub = append(pub, serverPrefix+"."+call+"."+of) }
	for _, c := range t.streamConfigs(1) {
		for _, call := range []string{"STREAM.CREATE", "STREAM.UPDATE", "STREAM.INFO", "CONSUMER.NAMES"} {
			api(call, c.Name)
		}
	}
	for _, s := range t.Streams {
		for _, c := range s.Consumers {
			api("CONSUMER.CREATE", s.Name+"."+c.Durable)
			api("CONSUMER.INFO", s.Name+"."+c.Durable)
		}
	}
	for _, name := range t.Retired {
		api("STREAM.DELETE", name)
	}
	slices.Sort(pub)
	return pub
}

func (s Stream) readByOperator() bool {
	return slices.ContainsFunc(s.Consumers, func(c Consumer) bool { return c.NoDeadLetter })
}

// Accounts returns the part of a NATS server's configuration that says who may do
// what: one account with the streams, and one for every service, connected by
// exactly the subjects that the service may publish to. Users of other accounts
// than Account must not share one with different permissions.
func Accounts(users []User) string {
	type account struct {
		users   []User
		imports []string
	}
	accounts := map[string]*account{Account: {}}
	exports := map[string][]string{} // subject in Account → accounts that may use it
	for _, u := range users {
		a := accounts[u.Account]
		if a == nil {
			a = &account{imports: u.Pub}
			accounts[u.Account] = a
			for _, subject := range u.Pub {
				exports[inAccount(subject)] = append(exports[inAccount(subject)], u.Account)
			}
		}
		a.users = append(a.users, u)
	}
	var b strings.Builder
	b.WriteString("accounts {\n")
	for _, name := range slices.Sorted(maps.Keys(accounts)) {
		a := accounts[name]
		fmt.Fprintf(&b, "  %s {\n", name)
		if name == Account {
			b.WriteString("    jetstream: enabled\n    exports: [\n")
			for _, subject := range slices.Sorted(maps.Keys(exports)) {
				response := ""
				if strings.HasPrefix(subject, serverPrefix+"."+nextCall) {
					response = ", response: stream"
				}
				slices.Sort(exports[subject])
				fmt.Fprintf(&b, "      {service: %q, accounts: [%s]%s}\n", subject, strings.Join(exports[subject], ", "), response)
			}
			b.WriteString("    ]\n")
		} else {
			b.WriteString("    imports: [\n")
			for _, subject := range a.imports {
				to := ""
				if inside := inAccount(subject); inside != subject {
					to = fmt.Sprintf(", to: %q", subject)
				}
				fmt.Fprintf(&b, "      {service: {account: %s, subject: %q}%s}\n", Account, inAccount(subject), to)
			}
			b.WriteString("    ]\n")
		}
		b.WriteString("    users: [\n")
		for _, u := range a.users {
			fmt.Fprintf(&b, "      {\n        user: %q\n        permissions: {\n", u.ID)
			writePermission(&b, "publish", u.Pub)
			writePermission(&b, "subscribe", u.Sub)
			b.WriteString("        }\n      }\n")
		}
		b.WriteString("    ]\n  }\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// inAccount is the subject in Account that a service reaches by one of its own.
func inAccount(subject string) string {
	if call, ok := strings.CutPrefix(subject, apiPrefix+"."); ok {
		return serverPrefix + "." + call
	}
	return subject
}

// writePermission writes what is allowed. The server takes an empty list for leave
// to do everything, so nothing allowed is written as everything denied.
func writePermission(b *strings.Builder, what string, subjects []string) {
	if len(subjects) == 0 {
		fmt.Fprintf(b, "          %s: {deny: \">\"}\n", what)
		return
	}
	fmt.Fprintf(b, "          %s: {\n            allow: [\n", what)
	for _, s := range subjects {
		fmt.Fprintf(b, "              %q\n", s)
	}
	b.WriteString("            ]\n          }\n")
}
