package eventbus

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Retention says when a stream forgets a message.
type Retention int

const (
	// Interest keeps a message until every consumer whose subjects cover it has
	// acknowledged it.
	Interest Retention = iota + 1
	// Limits keeps a message until it is older than MaxAge.
	Limits
)

// Stream is one JetStream stream. Streams are always on disk, refuse new
// messages when full instead of dropping old ones, and drop a message whose id
// they have seen within the last two minutes.
type Stream struct {
	Name       string        // UPPER_SNAKE_CASE
	Subjects   []string      // without wildcards; a subject belongs to one stream
	Retention  Retention     //
	MaxBytes   int64         // size at which it is full
	MaxAge     time.Duration // 0: messages never expire; only for Interest
	MaxMsgSize int32         // largest message in bytes, headers included
	Consumers  []Consumer    // made together with the stream
}

// Consumer is one durable pull consumer.
type Consumer struct {
	Durable  string   // `<service>-<purpose>`
	Service  string   // the one service that may consume it
	Subjects []string // subjects of the stream that it wants
	// AckWait is the time after which the server gives a message to somebody
	// else when the one who has it shows no sign of life. Handlers may take
	// longer: they are kept alive by heartbeats, three within this time.
	AckWait time.Duration
	// MaxDuration bounds one run of a handler; 0 means 15 minutes.
	MaxDuration time.Duration
	// MaxDeliver is the number of attempts before the dead letter.
	MaxDeliver int
	// Backoff is the wait after each failed attempt; the last one repeats.
	Backoff []time.Duration
	// NoDeadLetter is for consumers of dead letters themselves: every failure is
	// tried again without end, since nobody else keeps the message.
	NoDeadLetter bool
}

// Topology is all streams with their consumers, and who may publish what. The
// Provisioner makes it; services only compare.
type Topology struct {
	Streams    []Stream
	Publishers map[string][]string // subject to services
	Locks      []Locks
	Objects    []Objects
	// Retired are streams of earlier releases, which the Provisioner deletes.
	Retired []string
}

// dedupeWindow is how long a stream remembers the ids of messages. Longer is not
// safer: a fact that rightly repeats, such as a verdict that changes there and
// back, would be lost.
const dedupeWindow = 2 * time.Minute

// defaultMaxDuration bounds a handler whose consumer sets no bound.
const defaultMaxDuration = 15 * time.Minute

var (
	streamName  = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
	durableName = regexp.MustCompile(`^[a-z][a-z0-9]*-[a-z0-9-]{1,63}$`)
	subjectName = regexp.MustCompile(`^[a-z0-9]+(\.[a-z0-9_-]+)+$`)
)

// Validate returns all contradictions of the topology, joined.
func (t Topology) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	owner := map[string]string{} // subject to stream
	durables := map[string]bool{}
	names := map[string]bool{}
	for _, s := range t.Streams {
		if !streamName.MatchString(s.Name) {
			bad("stream %q: name is not UPPER_SNAKE_CASE", s.Name)
		}
		if names[s.Name] {
			bad("stream %s: defined twice", s.Name)
		}
		names[s.Name] = true
		for _, err := range s.problems() {
			bad("stream %s: %w", s.Name, err)
		}
		for _, subject := range s.Subjects {
			if other, ok := owner[subject]; ok {
				bad("subject %s: in stream %s and in %s", subject, other, s.Name)
			}
			owner[subject] = s.Name
			if len(t.Publishers[subject]) == 0 {
				bad("subject %s: nobody publishes it", subject)
			}
		}
		for _, c := range s.Consumers {
			if durables[c.Durable] {
				bad("consumer %s: defined twice", c.Durable)
			}
			durables[c.Durable] = true
			for _, err := range c.problems(s) {
				bad("consumer %s: %w", c.Durable, err)
			}
		}
	}
	for subject := range t.Publishers {
		if owner[subject] == "" {
			bad("subject %s: no stream stores it", subject)
		}
	}
	for _, l := range t.Locks {
		if names[l.Name] {
			bad("locks %s: defined twice", l.Name)
		}
		names[l.Name] = true
		for _, err := range l.problems() {
			bad("locks %s: %w", l.Name, err)
		}
	}
	for _, o := range t.Objects {
		if names[o.Name] {
			bad("objects %s: defined twice", o.Name)
		}
		names[o.Name] = true
		for _, err := range o.problems() {
			bad("objects %s: %w", o.Name, err)
		}
	}
	for _, name := range t.Retired {
		if names[name] {
			bad("stream %s: in use and retired", name)
		}
	}
	return errors.Join(errs...)
}

func (s Stream) problems() []error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if len(s.Subjects) == 0 {
		bad("no subjects")
	}
	for _, subject := range s.Subjects {
		if !subjectName.MatchString(subject) {
			bad("subject %q is not lower-case words joined by dots", subject)
		}
	}
	if s.MaxBytes <= 0 || s.MaxMsgSize <= 0 {
		bad("needs limits: MaxBytes and MaxMsgSize")
	}
	switch s.Retention {
	case Interest:
		for _, subject := range s.Subjects {
			if !slices.ContainsFunc(s.Consumers, func(c Consumer) bool { return slices.Contains(c.Subjects, subject) }) {
				bad("nobody consumes %s, so retention by interest would drop it", subject)
			}
		}
	case Limits:
		if s.MaxAge < dedupeWindow {
			bad("MaxAge is shorter than %v", dedupeWindow)
		}
	default:
		bad("no retention")
	}
	return errs
}

func (c Consumer) problems(s Stream) []error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if !durableName.MatchString(c.Durable) || c.Service == "" || !strings.HasPrefix(c.Durable, c.Service+"-") {
		bad("name is not <service>-<purpose> of service %q", c.Service)
	}
	if len(c.Subjects) == 0 {
		bad("no subjects")
	}
	for _, subject := range c.Subjects {
		if !slices.Contains(s.Subjects, subject) {
			bad("subject %s is not of stream %s", subject, s.Name)
		}
	}
	if c.AckWait <= 0 || c.MaxDeliver <= 0 || len(c.Backoff) == 0 || c.MaxDuration < 0 {
		bad("needs AckWait, MaxDeliver and Backoff")
	}
	return errs
}

// uses says whether a service publishes to the stream or consumes from it.
func (t Topology) uses(service string, s Stream) bool {
	return t.publishes(service, s.Subjects...) ||
		slices.ContainsFunc(s.Consumers, func(c Consumer) bool { return c.Service == service })
}

// Services returns the names of all services that use the topology, sorted.
func (t Topology) Services() []string {
	var names []string
	for _, s := range t.Streams {
		for _, c := range s.Consumers {
			names = append(names, c.Service)
		}
	}
	for _, services := range t.Publishers {
		names = append(names, services...)
	}
	for _, l := range t.Locks {
		names = append(names, l.Owner)
	}
	for _, o := range t.Objects {
		names = append(names, o.Owner)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == Operator })
}

// streamOf returns the stream that stores a subject.
func (t Topology) streamOf(subject string) (Stream, bool) {
	for _, s := range t.Streams {
		if slices.Contains(s.Subjects, subject) {
			return s, true
		}
	}
	return Stream{}, false
}

// consumer returns a durable and its stream.
func (t Topology) consumer(durable string) (Stream, Consumer, bool) {
	for _, s := range t.Streams {
		for _, c := range s.Consumers {
			if c.Durable == durable {
				return s, c, true
			}
		}
	}
	return Stream{}, Consumer{}, false
}

// publishes says whether a service may publish to at least one of the subjects.
func (t Topology) publishes(service string, subjects ...string) bool {
	return slices.ContainsFunc(subjects, func(s string) bool { return slices.Contains(t.Publishers[s], service) })
}
