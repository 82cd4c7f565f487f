package eventbus

import "slices"

// Operator is the name that people with an operator's certificate use instead
// of a service's name.
const Operator = "operator"

// User is a user of the NATS server: the SPIFFE ID of its certificate and the
// subjects it may publish and subscribe to. Everything else is denied.
type User struct {
	ID  string
	Pub []string
	Sub []string
}

// inboxPrefix keeps the answers to one service out of the reach of the others.
func inboxPrefix(service string) string { return "_INBOX_" + service }

// Permissions returns the NATS subjects that a service's user needs, sorted:
// the subjects it publishes, the JetStream API of the streams it owns, of the
// streams it publishes to (only to look whether they exist) and of its own
// consumers, its own locks and objects, and its own inbox. The user Operator may read the streams whose
// consumers have NoDeadLetter, and publish as the Publishers list it.
func (t Topology) Permissions(service string) (pub, sub []string) {
	for subject, services := range t.Publishers {
		if slices.Contains(services, service) {
			pub = append(pub, subject)
		}
	}
	for _, s := range t.Streams {
		if s.Owner == service {
			pub = append(pub, "$JS.API.STREAM.CREATE."+s.Name, "$JS.API.STREAM.UPDATE."+s.Name, "$JS.API.STREAM.INFO."+s.Name)
		}
		if t.publishes(service, s.Subjects...) {
			pub = append(pub, "$JS.API.STREAM.INFO."+s.Name)
		}
		if service == Operator && s.readByOperator() {
			pub = append(pub, "$JS.API.STREAM.INFO."+s.Name, "$JS.API.STREAM.MSG.GET."+s.Name)
		}
		for _, c := range s.Consumers {
			of := s.Name + "." + c.Durable
			if s.Owner == service {
				pub = append(pub, "$JS.API.CONSUMER.CREATE."+of)
			}
			if c.Service == service {
				pub = append(pub, "$JS.API.CONSUMER.INFO."+of, "$JS.API.CONSUMER.MSG.NEXT."+of, "$JS.ACK."+of+".>")
			}
		}
	}
	for _, l := range t.Locks {
		if l.Owner == service {
			pub = append(pub, l.permissions()...)
		}
	}
	for _, o := range t.Objects {
		if o.Owner == service {
			pub = append(pub, o.permissions()...)
		}
	}
	slices.Sort(pub)
	return slices.Compact(pub), []string{inboxPrefix(service) + ".>"}
}

func (s Stream) readByOperator() bool {
	return slices.ContainsFunc(s.Consumers, func(c Consumer) bool { return c.NoDeadLetter })
}
