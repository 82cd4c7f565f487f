package eventbus

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrDrift says that a stream or a consumer is not what the topology says. A service
// neither publishes to such a stream nor consumes from it: whoever could change it
// may have made the server copy, rewrite or redirect events.
var ErrDrift = errors.New("differs from the catalogue")

// What may differ between releases and deployments without harm.
var (
	tunableStream   = []string{"Description", "MaxBytes", "MaxAge", "MaxMsgSize", "Duplicates", "Replicas", "Compression", "Placement"}
	tunableConsumer = []string{"Description", "AckWait", "MaxAckPending", "Replicas"}
)

// streamDrift names the fields in which a stream differs from the wanted one, but
// those to ignore.
func streamDrift(have, want jetstream.StreamConfig, ignore ...string) []string {
	return differences(normalStream(have), normalStream(want), ignore)
}

// consumerDrift is the same for a consumer.
func consumerDrift(have, want jetstream.ConsumerConfig, ignore ...string) []string {
	return differences(normalConsumer(have), normalConsumer(want), ignore)
}

// normalStream fills in what the server does, so that a stream that was made from a
// configuration equals it.
func normalStream(c jetstream.StreamConfig) jetstream.StreamConfig {
	unlimited := func(n *int64) {
		if *n == 0 {
			*n = -1
		}
	}
	unlimited(&c.MaxMsgs)
	unlimited(&c.MaxBytes)
	unlimited(&c.MaxMsgsPerSubject)
	if c.MaxConsumers == 0 {
		c.MaxConsumers = -1
	}
	c.Metadata = nil // the server's version
	c.Subjects = slices.Sorted(slices.Values(c.Subjects))
	return c
}

func normalConsumer(c jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	if c.Name == c.Durable {
		c.Name = ""
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = serverMaxWaiting
	}
	if c.FilterSubject != "" {
		c.FilterSubjects = append(slices.Clone(c.FilterSubjects), c.FilterSubject)
		c.FilterSubject = ""
	}
	c.FilterSubjects = slices.Sorted(slices.Values(c.FilterSubjects))
	c.Metadata = nil
	return c
}

// serverMaxWaiting is the server's default of open pull requests.
const serverMaxWaiting = 512

func differences(have, want any, ignore []string) []string {
	var out []string
	h, w := reflect.ValueOf(have), reflect.ValueOf(want)
	for i := range h.NumField() {
		name := h.Type().Field(i).Name
		if !slices.Contains(ignore, name) && !reflect.DeepEqual(h.Field(i).Interface(), w.Field(i).Interface()) {
			out = append(out, name)
		}
	}
	return out
}

// checkStream compares a stream with the topology as a service does it: what is
// tunable may differ, and a newer release may have added subjects that this one does
// not know.
func (t Topology) checkStream(have, want jetstream.StreamConfig) error {
	fields := streamDrift(have, want, append([]string{"Subjects"}, tunableStream...)...)
	for _, subject := range want.Subjects {
		if !slices.Contains(have.Subjects, subject) {
			fields = append(fields, "Subjects without "+subject)
		}
	}
	for _, subject := range have.Subjects {
		if slices.Contains(want.Subjects, subject) {
			continue
		}
		if _, known := t.streamOf(subject); known || !subjectName.MatchString(subject) {
			fields = append(fields, "Subjects with "+subject)
		}
	}
	return drift(fields)
}

func checkConsumer(have, want jetstream.ConsumerConfig) error {
	return drift(consumerDrift(have, want, tunableConsumer...))
}

func drift(fields []string) error {
	if len(fields) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrDrift, strings.Join(fields, ", "))
}
