package eventbus

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

type numbered struct {
	jetstream.Msg
	n uint64
}

func (m numbered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: m.n}}, nil
}

// TestShare_Room: what cannot wait is handled, what comes again waits once, and a group
// that is over its half gives handlers back.
func TestShare_Room(t *testing.T) {
	s := newShare(4, 2, time.Second)
	var got []bool
	for _, n := range []uint64{1, 2, 3, 3, 4, 5} {
		got = append(got, s.enter("a", numbered{n: n}, time.Second))
	}
	for i, want := range []bool{true, true, false, false, false, true} {
		if got[i] != want {
			t.Errorf("message %d may be handled: %v", i, got[i])
		}
	}
	if waiting, _ := s.all(); len(waiting) != 2 {
		t.Errorf("%d wait", len(waiting))
	}
	if m := s.leave(t.Context(), "a"); m != nil {
		t.Error("a group beyond its half goes on")
	}
	for _, want := range []uint64{3, 4} {
		if m, ok := s.leave(t.Context(), "a").(numbered); !ok || m.n != want {
			t.Errorf("next is %v, want %d", m.n, want)
		}
	}
	for range 2 {
		if m := s.leave(t.Context(), "a"); m != nil {
			t.Errorf("next is %v", m)
		}
	}
	if len(s.running) != 0 || len(s.waiting) != 0 || s.room != 2 {
		t.Errorf("left: %v, %v, %d", s.running, s.waiting, s.room)
	}
}
