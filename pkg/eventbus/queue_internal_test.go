package eventbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
)

type numbered struct {
	jetstream.Msg
	n, attempt uint64
	size       int
}

func (m numbered) Data() []byte { return make([]byte, m.size) }

func (m numbered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: m.n}, NumDelivered: m.attempt}, nil
}

func sequence(m jetstream.Msg) uint64 {
	if m == nil {
		return 0
	}
	return m.(numbered).n
}

func numbers(msgs []jetstream.Msg) map[uint64]bool {
	out := map[uint64]bool{}
	for _, m := range msgs {
		out[sequence(m)] = true
	}
	return out
}

// newTestQueue has messages of the groups in order, numbered from 1.
func newTestQueue(handlers int, groups ...string) *queue {
	q := newQueue(handlers, time.Second, time.Now)
	for i, name := range groups {
		q.add(name, numbered{n: uint64(i + 1), attempt: 1}, time.Second)
	}
	return q
}

// handle handles n messages one after another and returns their numbers.
func (q *queue) handle(n int) (order []uint64) {
	for range n {
		m, g := q.next()
		if m == nil {
			break
		}
		order = append(order, sequence(m))
		q.done(g)
	}
	return order
}

// TestQueue_Order: groups take turns, new ones first, and every other turn is that of the
// oldest message.
func TestQueue_Order(t *testing.T) {
	for name, c := range map[string]struct {
		groups string
		want   []uint64
	}{
		"one group keeps its order":              {"aaa", []uint64{1, 2, 3}},
		"a new group comes before a full":        {"aaaaaab", []uint64{7, 1, 2, 3, 4, 5, 6}},
		"groups take turns":                      {"aaabbb", []uint64{4, 1, 5, 2, 6, 3}},
		"the newest of many new, and the oldest": {"abcdef", []uint64{6, 1, 5, 2, 4, 3}},
		"one served lately has to wait":          {"abab", []uint64{2, 1, 4, 3}},
	} {
		if diff := cmp.Diff(c.want, newTestQueue(2, strings.Split(c.groups, "")...).handle(10)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestQueue_BehindABurst: behind a thousand messages of one group, of fifty and of a
// thousand the message of another one has the next turn or the one after it.
func TestQueue_BehindABurst(t *testing.T) {
	for _, groups := range []int{1, 50, 1000} {
		for served := range 60 {
			q := newQueue(1, time.Second, time.Now)
			for i := range 1000 {
				q.add(fmt.Sprint(i%groups), numbered{n: uint64(i + 1)}, time.Second)
			}
			q.handle(served)
			q.add("fresh", numbered{n: 1001}, time.Second)
			if next := q.handle(2); next[0] != 1001 && next[1] != 1001 {
				t.Errorf("%d groups, %d served: next are %v", groups, served, next)
			}
		}
	}
}

// TestQueue_OldIsNotStarved: new groups that never end do not hold up an old message.
func TestQueue_OldIsNotStarved(t *testing.T) {
	q := newTestQueue(2, "a", "a", "a")
	for i := range uint64(6) {
		q.add(fmt.Sprint("new", i), numbered{n: 10 + i}, time.Second)
		for _, n := range q.handle(1) {
			if n == 3 {
				return
			}
		}
	}
	t.Error("the third message waits behind groups that came after it")
}

// TestQueue_Half: a group has half of the handlers, the last place left to others; a
// message that comes again waits once.
func TestQueue_Half(t *testing.T) {
	q := newTestQueue(4, "a", "a", "a", "a")
	q.add("a", numbered{n: 4, attempt: 2}, time.Second)
	for _, want := range []uint64{1, 2, 0} {
		if m, _ := q.next(); sequence(m) != want {
			t.Errorf("next is %d, want %d", sequence(m), want)
		}
	}
	if !q.idle() {
		t.Error("no handler is free for others")
	}
	q.add("b", numbered{n: 5}, time.Second)
	if m, _ := q.next(); sequence(m) != 5 {
		t.Errorf("next is %d, want that of the other group", sequence(m))
	}
	if got := numbers(q.drain()); !cmp.Equal(got, map[uint64]bool{3: true, 4: true}) {
		t.Errorf("%v wait", got)
	}
}

// TestQueue_Bounds: what is taken ahead is bounded in number, in bytes and, after the
// start, by what was handled; a group alone in a full queue has all handlers.
func TestQueue_Bounds(t *testing.T) {
	q := newQueue(4, time.Second, time.Now)
	if got := q.room(); got != firstWaiting+4 {
		t.Errorf("room at the start is %d", got)
	}
	q.add("a", numbered{n: 1}, time.Second)
	q.handle(1)
	if got := q.room(); got != firstWaiting+4+waitingPerHandled {
		t.Errorf("room after one message is %d", got)
	}
	q.handled = maxWaiting
	for i := range maxWaiting {
		q.add("a", numbered{n: uint64(i + 1)}, time.Second)
	}
	if got := q.room(); got != 0 {
		t.Errorf("a full queue has room for %d", got)
	}
	for range 3 {
		q.next()
	}
	if q.running != 2 {
		t.Errorf("%d handlers run, want half as soon as there is room", q.running)
	}
	q.drain()
	q.add("b", numbered{n: 1, size: maxWaitingBytes}, time.Second)
	if got := q.room(); got != 0 {
		t.Errorf("a queue with many bytes has room for %d", got)
	}
}

// TestQueue_ForgetsGroups: groups whose messages were handled are not kept.
func TestQueue_ForgetsGroups(t *testing.T) {
	q := newQueue(2, time.Second, time.Now)
	q.add("busy", numbered{n: 1}, time.Second)
	q.add("busy", numbered{n: 2}, time.Second)
	for i := range uint64(3 * maxGroups) {
		q.add(fmt.Sprint(i), numbered{n: 10 + i}, time.Second)
		q.add("busy", numbered{n: 10*maxGroups + i}, time.Second)
		q.handle(2)
	}
	if n := len(q.groups); n > maxGroups+2 {
		t.Errorf("%d groups are remembered", n)
	}
	q.handle(10 * maxGroups)
	q.next()
	if n := len(q.groups); n > 1 {
		t.Errorf("%d groups are remembered without any message", n)
	}
}

// TestQueue_GivesBack: a message that waited long goes back once.
func TestQueue_GivesBack(t *testing.T) {
	now := time.Now()
	q := newQueue(1, time.Second, func() time.Time { return now })
	q.add("a", numbered{n: 1, attempt: 1}, time.Second)
	q.add("a", numbered{n: 2, attempt: 2}, time.Second)
	now = now.Add(giveBackAfter - 1)
	q.add("a", numbered{n: 3, attempt: 1}, time.Second)
	if back, stay := q.waitingLong(); len(back) != 0 || len(stay) != 3 {
		t.Errorf("too early: %d go back", len(back))
	}
	now = now.Add(1)
	back, stay := q.waitingLong()
	if !cmp.Equal(numbers(back), map[uint64]bool{1: true}) || !cmp.Equal(numbers(stay), map[uint64]bool{2: true, 3: true}) {
		t.Errorf("%v go back, %v stay", numbers(back), numbers(stay))
	}
	if diff := cmp.Diff([]uint64{2, 3}, q.handle(3)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestQueue_Lend: a lent place is another's until its handler is back, which comes before
// new messages; how many are lent is bounded.
func TestQueue_Lend(t *testing.T) {
	q := newTestQueue(1, "a", "b", "c")
	_, first := q.next()
	if !q.lend(first) {
		t.Fatal("not lent")
	}
	_, second := q.next()
	back := make(chan struct{})
	go func() { q.reclaim(first); close(back) }()
	eventuallyTrue(t, func() bool { q.mu.Lock(); defer q.mu.Unlock(); return len(q.returning) == 1 })
	q.done(second)
	<-back
	if m, _ := q.next(); m != nil {
		t.Error("a new message came before the handler that was back")
	}
	q.done(first)
	if m, _ := q.next(); m == nil {
		t.Error("the place is not free again")
	}
	if q.running != 1 || q.lent != 0 {
		t.Errorf("%d run, %d lent", q.running, q.lent)
	}
	q.lent = lentPerHandler
	if q.lend(first) {
		t.Error("more were lent than may be")
	}
}

func eventuallyTrue(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never")
		}
	}
}

// TestIdle: outside a handler, and for one that carries much, Idle only waits.
func TestIdle(t *testing.T) {
	lent, reclaimed := 0, 0
	ctx := context.WithValue(t.Context(), placeKey{}, &place{lend: func() bool { lent++; return true }, reclaim: func() { reclaimed++ }})
	for _, c := range []struct {
		ctx   context.Context
		carry int64
		want  int
	}{{t.Context(), 0, 0}, {ctx, MaxIdle, 1}, {ctx, 1, 1}, {ctx, -1, 2}} {
		Carry(c.ctx, c.carry)
		called := false
		if err := Idle(c.ctx, func() error { called = true; return context.Canceled }); !errors.Is(err, context.Canceled) || !called {
			t.Errorf("called: %v, %v", called, err)
		}
		if lent != c.want || reclaimed != c.want {
			t.Errorf("lent %d times and back %d times, want %d", lent, reclaimed, c.want)
		}
	}
}
