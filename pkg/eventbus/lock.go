package eventbus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Locks lets the replicas of one service take turns: a stream with at most one
// message for each key, which is there while somebody holds the lock.
type Locks struct {
	Name  string // of the stream, UPPER_SNAKE_CASE
	Owner string // the one service that uses them
	// Prefix of the subjects; what follows is the hash of a key.
	Prefix string
	// Lease is how long a lock outlives a holder that died. Holders that live
	// renew it three times within this time.
	Lease time.Duration
}

const (
	locksMaxBytes   = 8 << 20
	locksMaxMsgSize = 1 << 10
	lockFirstWait   = 10 * time.Millisecond
	lockLastWait    = 250 * time.Millisecond
)

func (l Locks) problems() []error {
	var errs []error
	if !streamName.MatchString(l.Name) || !subjectName.MatchString(l.Prefix) || l.Owner == "" {
		errs = append(errs, errors.New("needs a name, a prefix and an owner"))
	}
	if l.Lease < time.Second {
		errs = append(errs, errors.New("lease is shorter than a second"))
	}
	return errs
}

// streamConfig is the stream of the locks.
func (l Locks) streamConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: l.Name, Description: "locks of " + l.Owner, Subjects: []string{l.Prefix + ".*"},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage,
		MaxMsgsPerSubject: 1, MaxBytes: locksMaxBytes, MaxMsgSize: locksMaxMsgSize,
		MaxAge: l.Lease, Duplicates: l.Lease, Replicas: replicas,
	}
}

// Lock waits until no other replica holds the key in the named locks, and takes
// it; ctx ends the waiting. unlock gives it back and may be called once. A holder
// that is cut off from NATS for longer than the lease loses the lock without a
// word: what it guards must stay right then, if slower. Errors are ErrNotAllowed
// and ErrUnavailable.
func (b *Bus) Lock(ctx context.Context, locks, key string) (unlock func(), err error) {
	l, ok := b.opts.Topology.locks(locks)
	if !ok || l.Owner != b.opts.Service {
		return nil, fmt.Errorf("lock in %s: %w", locks, ErrNotAllowed)
	}
	if err := b.sound(ctx, l.Name); err != nil {
		return nil, fmt.Errorf("lock in %s: %w: %w", locks, ErrUnavailable, err)
	}
	sum := sha256.Sum256([]byte(key))
	subject := l.Prefix + "." + hex.EncodeToString(sum[:])
	for wait := lockFirstWait; ; wait = min(2*wait, lockLastWait) {
		seq, err := b.claim(ctx, subject, 0)
		if err == nil {
			return b.hold(ctx, l, subject, seq), nil
		}
		taken := new(jetstream.APIError)
		if !errors.As(err, &taken) || taken.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
			return nil, fmt.Errorf("lock in %s: %w: %w", locks, ErrUnavailable, err)
		}
		if !sleep(ctx, jitter(wait, rand.Float64())) { //nolint:gosec // spreads load, guards nothing
			return nil, fmt.Errorf("lock in %s: somebody else holds it: %w: %w", locks, ErrUnavailable, ctx.Err())
		}
	}
}

// claim writes the message of a lock if the last one is that with the sequence.
func (b *Bus) claim(ctx context.Context, subject string, last uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	ack, err := b.js.Publish(ctx, subject, nil, jetstream.WithExpectLastSequencePerSubject(last))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// hold renews a lock until it is given back.
func (b *Bus) hold(ctx context.Context, l Locks, subject string, seq uint64) func() {
	ctx = context.WithoutCancel(ctx)
	renewing, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for sleep(renewing, l.Lease/3) {
			next, err := b.claim(ctx, subject, seq)
			if err != nil {
				b.log.WarnContext(ctx, "lock not renewed", "stream", l.Name, "error", err)
				continue
			}
			seq = next
		}
	})
	return func() {
		stop()
		done.Wait()
		ctx, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		if err := b.release(ctx, l, seq); err != nil {
			b.log.WarnContext(ctx, "lock not released; it ends with its lease", "stream", l.Name, "error", err)
		}
	}
}

func (b *Bus) release(ctx context.Context, l Locks, seq uint64) error {
	s, err := b.js.Stream(ctx, l.Name)
	if err != nil {
		return err
	}
	err = s.DeleteMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil // the lease ended before
	}
	return err
}

func (t Topology) locks(name string) (Locks, bool) {
	for _, l := range t.Locks {
		if l.Name == name {
			return l, true
		}
	}
	return Locks{}, false
}
