package eventbus

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// share keeps one group of messages, such as those about one repository, from holding
// every handler of a consumption. A group has at most half of them. What is over waits
// here, not at the server: a message given back would count as delivered once more, and
// would come again before all that is behind it.
type share struct {
	mu      sync.Mutex
	limit   int
	room    int // how many more messages may wait
	running map[string]int
	waiting map[string][]waiting
	ackWait time.Duration
}

// waiting is a message that was taken from the server and has no handler yet.
type waiting struct {
	msg      jetstream.Msg
	sequence uint64
}

// newShare shares handlers. room bounds the messages that wait: beyond it a group takes
// every handler that it can get, because nothing behind it could be reached anyway.
func newShare(handlers, room int, ackWait time.Duration) *share {
	return &share{
		limit: max(1, handlers/2), room: room, ackWait: ackWait,
		running: map[string]int{}, waiting: map[string][]waiting{},
	}
}

// enter tells whether a message of a group may be handled now. If not, it waits for a
// message of the group to leave.
func (s *share) enter(group string, msg jetstream.Msg, ackWait time.Duration) bool {
	if group == "" {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackWait = ackWait
	if s.running[group] < s.limit || s.room <= 0 {
		s.running[group]++
		return true
	}
	w := waiting{msg: msg}
	if meta, err := msg.Metadata(); err == nil {
		w.sequence = meta.Sequence.Stream
	}
	for i, other := range s.waiting[group] {
		if other.sequence == w.sequence {
			// It came again because a heartbeat was lost.
			s.waiting[group][i] = w
			return false
		}
	}
	s.waiting[group] = append(s.waiting[group], w)
	s.room--
	return false
}

// leave ends the handling of one message of a group, and returns the next one that may
// be handled in its place; nil if there is none or ctx has ended.
func (s *share) leave(ctx context.Context, group string) jetstream.Msg {
	if group == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.waiting[group]
	if len(queue) == 0 || ctx.Err() != nil || s.running[group] > s.limit {
		if s.running[group]--; s.running[group] == 0 {
			delete(s.running, group)
		}
		return nil
	}
	next := queue[0].msg
	if queue = queue[1:]; len(queue) == 0 {
		delete(s.waiting, group)
	} else {
		s.waiting[group] = queue
	}
	s.room++
	return next
}

// all returns the messages that wait, and the time within which the server wants to
// hear of them.
func (s *share) all() ([]jetstream.Msg, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []jetstream.Msg
	for _, queue := range s.waiting {
		for _, w := range queue {
			out = append(out, w.msg)
		}
	}
	return out, s.ackWait
}

// keepAlive tells the server of the messages that wait, until ctx ends.
func (s *share) keepAlive(ctx context.Context, log *slog.Logger) {
	_, ackWait := s.all()
	for sleep(ctx, max(ackWait/3, time.Millisecond)) {
		var msgs []jetstream.Msg
		msgs, ackWait = s.all()
		for _, m := range msgs {
			if err := m.InProgress(); err != nil {
				log.DebugContext(ctx, "heartbeat of a waiting message not sent", "error", err)
			}
		}
	}
}
