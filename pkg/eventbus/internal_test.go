package eventbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestBackoff(t *testing.T) {
	c := &consumption{cfg: Consumer{Backoff: []time.Duration{time.Second, 10 * time.Second}}}
	for _, k := range []struct {
		attempt int
		r       float64
		want    time.Duration
	}{
		{1, 0.5, time.Second},
		{1, 0, 800 * time.Millisecond},
		{2, 0.5, 10 * time.Second},
		{3, 0.5, 10 * time.Second},
		{1000, 0.5, 10 * time.Second},
		{0, 0.5, time.Second},
	} {
		if got := c.backoff(k.attempt, k.r); got != k.want {
			t.Errorf("attempt %d, r %v: %v, want %v", k.attempt, k.r, got, k.want)
		}
	}
}

func TestReason(t *testing.T) {
	for _, k := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("x"), ReasonInternal},
		{Permanent("NOT_AN_IMAGE", errors.New("x")), "NOT_AN_IMAGE"},
		{fmt.Errorf("outer: %w", Permanent("NOT_AN_IMAGE", errors.New("x"))), "NOT_AN_IMAGE"},
		{Permanent("", errors.New("x")), ReasonInternal},
		{Permanent("OUTER", &panicError{}), "OUTER"},
		{fmt.Errorf("outer: %w", &panicError{}), ReasonPanic},
		{fmt.Errorf("outer: %w", context.DeadlineExceeded), ReasonTimeout},
	} {
		if got := Reason(k.err); got != k.want {
			t.Errorf("%v: %q, want %q", k.err, got, k.want)
		}
	}
	if Permanent("X", nil) != nil {
		t.Error("Permanent of nil is an error")
	}
	if !IsPermanent(fmt.Errorf("o: %w", Permanent("X", errors.New("x")))) || IsPermanent(errors.New("x")) {
		t.Error("IsPermanent")
	}
}

func TestPublishError(t *testing.T) {
	api := func(code jetstream.ErrorCode, text string) error {
		return fmt.Errorf("nats: %w", &jetstream.APIError{ErrorCode: code, Description: text})
	}
	for _, k := range []struct {
		err  error
		want error
	}{
		{api(codeStoreFailed, "maximum bytes exceeded"), ErrFull},
		{api(codeStoreFailed, "maximum messages exceeded"), ErrFull},
		{api(codeStoreFailed, "write: input/output error"), ErrUnavailable},
		{api(codeStorageResources, "insufficient storage resources available"), ErrFull},
		{api(codeMessageTooLarge, "message size exceeds maximum allowed"), ErrTooLarge},
		{nats.ErrMaxPayload, ErrTooLarge},
		{context.DeadlineExceeded, ErrUnavailable},
		{api(10008, "JetStream system temporarily unavailable"), ErrUnavailable},
	} {
		got := publishError(k.err)
		for _, e := range []error{ErrFull, ErrUnavailable, ErrTooLarge} {
			if errors.Is(got, e) != errors.Is(e, k.want) {
				t.Errorf("%v: %v, want %v", k.err, got, k.want)
			}
		}
	}
}

func TestRemember_Bounded(t *testing.T) {
	c := &consumption{failures: map[uint64]DeadLetterInfo{}}
	for i := range uint64(maxRemembered + 10) {
		c.remember(&Delivery{Sequence: i}, DeadLetterInfo{Reason: "X"})
	}
	if len(c.failures) != maxRemembered {
		t.Errorf("%d failures remembered, want %d", len(c.failures), maxRemembered)
	}
	c.forget(&Delivery{Sequence: 1})
	if _, ok := c.failure(&Delivery{Sequence: 1}); ok {
		t.Error("not forgotten")
	}
}

// lastMoment is a subscription that holds one message when it is drained.
type lastMoment struct {
	msgs []jetstream.Msg
	log  []string
}

func (m *lastMoment) Next(...jetstream.NextOpt) (jetstream.Msg, error) {
	if len(m.msgs) == 0 {
		return nil, jetstream.ErrMsgIteratorClosed
	}
	msg := m.msgs[0]
	m.msgs = m.msgs[1:]
	return msg, nil
}

func (m *lastMoment) Drain() { m.log = append(m.log, "drain") }

func (m *lastMoment) Stop() { m.log = append(m.log, "stop") }

type nakked struct {
	jetstream.Msg
	subscription *lastMoment
}

func (n nakked) Nak() error {
	n.subscription.log = append(n.subscription.log, "nak")
	return nil
}

func TestGiveBack_MessageOfTheLastMoment(t *testing.T) {
	m := &lastMoment{}
	m.msgs = []jetstream.Msg{nakked{subscription: m}}
	(&consumption{}).giveBack(m)
	if diff := cmp.Diff([]string{"drain", "nak", "stop"}, m.log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The size that Publish counts is what goes over the wire, so that the limit it
// checks is the server's.
func TestHeaderSize(t *testing.T) {
	h := Message{ID: "id", Type: "t", Source: "s", AboutSubject: "ü", Time: time.Now()}.header()
	wire := len("NATS/1.0\r\n")
	for k, v := range h {
		wire += len(k + ": " + v[0] + "\r\n")
	}
	wire += len("\r\n")
	if got := headerSize(h); got != wire {
		t.Errorf("headerSize is %d, want %d", got, wire)
	}
}

func FuzzAttribute(f *testing.F) {
	for _, s := range []string{"", "plain", "a b", "100%", "%41", "\r\nNats-Rollup: all", "ü\x00\xff", "%", "%4", "\"q\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := encodeAttribute(s)
		for i := range len(e) {
			if e[i] <= ' ' || e[i] >= 0x7f {
				t.Fatalf("%q encoded has byte %#x", s, e[i])
			}
		}
		if got := decodeAttribute(e); got != s {
			t.Fatalf("%q became %q", s, got)
		}
		// Whatever somebody sends is decoded to something not longer.
		if got := decodeAttribute(s); len(got) > len(s) {
			t.Fatalf("%q decoded is longer", s)
		}
	})
}

func FuzzParseMessage(f *testing.F) {
	f.Add("id", "type", "2026-01-02T03:04:05Z", []byte("data"))
	f.Add("", "%zz", "yesterday", []byte(nil))
	f.Add("a%0D%0Ab", "\xff", "0000-00-00T00:00:00Z", []byte{0})
	f.Fuzz(func(t *testing.T, id, typ, at string, data []byte) {
		m := ParseMessage("s", map[string]string{headerCEID: id, headerType: typ, headerTime: at}, data)
		if m.check() != nil || m.Source == "" {
			m.Source, m.ID, m.Type = "s", "i"+strings.Repeat("x", len(m.ID)%100), "t"
		}
		again := parseMessage(m.Subject, m.header(), m.Data)
		if diff := cmp.Diff(m, again, cmpopts.EquateApproxTime(0)); diff != "" {
			t.Fatalf("message changed on its second way:\n%s", diff)
		}
	})
}
