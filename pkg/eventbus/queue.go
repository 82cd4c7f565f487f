package eventbus

import (
	"math"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Bounds of what a consumption takes from the server before a handler is free.
const (
	maxWaiting      = 2000
	maxWaitingBytes = 32 << 20
	// firstWaiting and waitingPerHandled bound it after the start: a process that
	// crashes over and over costs only few messages an attempt each.
	firstWaiting      = 16
	waitingPerHandled = 10
	// giveBackAfter is how long a message waits here before it goes back to the server
	// once, so that a replica that came later gets its share. It costs one attempt.
	giveBackAfter = time.Minute
	// lentPerHandler bounds the handlers that are in Idle.
	lentPerHandler = 15
	// maxGroups bounds the groups that are remembered.
	maxGroups = 2 * maxWaiting
	// maxDomains bounds the registries that are told apart; those beyond it have no limit.
	maxDomains = 1000
)

// queue decides which message the next handler gets, and holds those that were taken
// from the server and have none yet. JetStream delivers in the order of the stream, where
// one message of a small group stands behind all of a large one. Here the groups, such
// as repositories, take turns: the one that was served least recently is next, and one
// that is new before all others. Every other turn is that of the message that waits
// longest, so that no number of new groups can hold it up. A group has at most half of
// the handlers. Within a group the order is the stream's.
//
// Groups whose names have the same part before the first slash, such as a registry, have
// at most three quarters of the handlers together as soon as there are others: a registry
// that answers slowly must not hold up the rest, however many repositories it has.
type queue struct {
	handlers int
	now      func() time.Time
	// changed has an element when a handler became free.
	changed chan struct{}

	mu      sync.Mutex
	groups  map[string]*group
	domains map[string]int // handlers that work, by the first part of the group's name
	waiting int
	bytes   int
	running int // handlers that work
	lent    int // handlers that are in Idle
	handled int
	turn    int
	ackWait time.Duration
	// returning are the handlers that end their Idle and want to work again.
	returning []chan struct{}
}

// group is what messages share handlers for. The one without name has no limit.
type group struct {
	name    string
	domain  string
	served  int // the turn in which it was served last; 0 is never
	running int
	waiting []waiting
}

// waiting is a message that has no handler yet.
type waiting struct {
	msg      jetstream.Msg
	sequence uint64
	attempt  uint64
	since    time.Time
	size     int
}

func newQueue(handlers int, ackWait time.Duration, now func() time.Time) *queue {
	return &queue{handlers: handlers, now: now, ackWait: ackWait, changed: make(chan struct{}, 1), groups: map[string]*group{}, domains: map[string]int{}}
}

// add takes in a message.
func (q *queue) add(name string, msg jetstream.Msg, ackWait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ackWait = ackWait
	g := q.groups[name]
	if g == nil {
		g = &group{name: name}
		g.domain, _, _ = strings.Cut(name, "/")
		q.groups[name] = g
		if _, known := q.domains[g.domain]; !known && name != "" && len(q.domains) < maxDomains {
			q.domains[g.domain] = 0
		}
	}
	w := waiting{msg: msg, since: q.now(), size: len(msg.Data())}
	if meta, err := msg.Metadata(); err == nil {
		w.sequence, w.attempt = meta.Sequence.Stream, meta.NumDelivered
	}
	for i, other := range g.waiting {
		if other.sequence == w.sequence {
			// It came again because a heartbeat was lost.
			w.since = other.since
			g.waiting[i] = w
			return
		}
	}
	g.waiting = append(g.waiting, w)
	q.waiting++
	q.bytes += w.size
}

// next gives a message to a handler, or returns nil if none may begin.
func (q *queue) next() (jetstream.Msg, *group) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running >= q.handlers {
		return nil, nil
	}
	half := max(1, q.handlers/2)
	if q.full() {
		// Nothing behind these groups can be reached anyway.
		half = q.handlers
	}
	g := q.choose(half)
	if g == nil {
		return nil, nil
	}
	w := g.waiting[0]
	g.waiting = g.waiting[1:]
	q.waiting--
	q.bytes -= w.size
	q.turn++
	g.served = q.turn
	q.run(g, 1)
	q.running++
	return w.msg, g
}

// choose returns the group whose turn it is among those with less than half of the
// handlers. It forgets groups that need no memory.
func (q *queue) choose(half int) *group {
	var chosen *group
	oldest := q.turn%2 == 1
	for name, g := range q.groups {
		if len(g.waiting) == 0 {
			if g.running == 0 && (q.waiting == 0 || len(q.groups) > maxGroups) {
				delete(q.groups, name)
			}
			continue
		}
		if name != "" && (g.running >= half || q.crowded(g)) {
			continue
		}
		first := g.waiting[0].sequence
		switch {
		case chosen == nil,
			oldest && first < chosen.waiting[0].sequence,
			!oldest && g.served < chosen.served,
			!oldest && g.served == chosen.served && first > chosen.waiting[0].sequence:
			chosen = g
		}
	}
	return chosen
}

// crowded tells whether the group's registry has its part of the handlers. Like half, it
// does not count when nothing behind these groups can be reached anyway.
func (q *queue) crowded(g *group) bool {
	return len(q.domains) > 1 && q.domains[g.domain] >= q.handlers-q.handlers/4 && !q.full()
}

// run counts a handler of a group that works, or no longer does.
func (q *queue) run(g *group, n int) {
	g.running += n
	if _, known := q.domains[g.domain]; known {
		q.domains[g.domain] += n
	}
}

func (q *queue) full() bool { return q.waiting >= maxWaiting || q.bytes >= maxWaitingBytes }

// idle tells whether a handler is free.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running < q.handlers
}

// room is how many more messages may be taken from the server.
func (q *queue) room() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.full() {
		return 0
	}
	return max(0, min(maxWaiting, firstWaiting+q.handlers+waitingPerHandled*q.handled)-q.waiting)
}

// heartbeat is the time within which the server wants to hear of a message.
func (q *queue) heartbeat() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ackWait
}

// done ends the handling of a message.
func (q *queue) done(g *group) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.handled = min(q.handled+1, math.MaxInt32)
	q.release(g)
}

// release gives up a handler's place. q.mu is held.
func (q *queue) release(g *group) {
	q.running--
	q.run(g, -1)
	if len(q.returning) > 0 {
		close(q.returning[0])
		q.returning = q.returning[1:]
		q.running++
	}
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// lend gives up a handler's place for a while, unless too many did.
func (q *queue) lend(g *group) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lent >= lentPerHandler*q.handlers {
		return false
	}
	q.lent++
	q.release(g)
	return true
}

// reclaim waits for a place again. It comes before new messages.
func (q *queue) reclaim(g *group) {
	q.mu.Lock()
	q.lent--
	q.run(g, 1)
	if q.running < q.handlers {
		q.running++
		q.mu.Unlock()
		return
	}
	place := make(chan struct{})
	q.returning = append(q.returning, place)
	q.mu.Unlock()
	<-place
}

// waitingLong removes and returns the messages that have to go back to the server, and
// returns those that stay.
func (q *queue) waitingLong() (back, stay []jetstream.Msg) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	for _, g := range q.groups {
		var left []waiting
		for _, w := range g.waiting {
			if w.attempt == 1 && now.Sub(w.since) >= giveBackAfter {
				back = append(back, w.msg)
				q.waiting--
				q.bytes -= w.size
				continue
			}
			left = append(left, w)
			stay = append(stay, w.msg)
		}
		g.waiting = left
	}
	return back, stay
}

// drain removes and returns all messages that wait.
func (q *queue) drain() []jetstream.Msg {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []jetstream.Msg
	for _, g := range q.groups {
		for _, w := range g.waiting {
			out = append(out, w.msg)
		}
	}
	clear(q.groups)
	q.waiting, q.bytes = 0, 0
	return out
}
