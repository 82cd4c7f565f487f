// Package store keeps deliveries. An engine is accepted by passing the suite in
// storetest.
package store

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"time"
)

// Schema is the name of the notifier's schema.
const Schema = "notifier"

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns the notifier's migrations, in the root of the file system.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	return sub
}

// State is where a delivery is.
type State int64

// States of a delivery. The numbers are stored.
const (
	StatePending   State = 1
	StateDelivered State = 2
	StateFailed    State = 3
)

// Delivery is one notification to one subscriber.
type Delivery struct {
	// ID is the identity of the delivery at every attempt.
	ID string
	// EventID and Subscription together are unique.
	EventID, Subscription string
	// ImageDigest is what it is about.
	ImageDigest string
	// TraceID and Traceparent are the trace of the push and the context of the
	// consumer that made the delivery.
	TraceID, Traceparent string
	// Event is what is told, as the event that the verifier confirmed, with its place in
	// the stream.
	Event         []byte
	EventStream   string
	EventSequence uint64

	State State
	// Attempts is the number of attempts that ended; Step the position in the schedule.
	Attempts, Step int
	// NextAttempt is when the next attempt is due; zero if there is none.
	NextAttempt time.Time
	LastError   string
	LastStatus  int
	// GiveUpReason is set in StateFailed.
	GiveUpReason string
	CreateTime   time.Time
	// LeaseToken proves the right to end the attempt.
	LeaseToken string
}

// Attempt is how an attempt ended.
type Attempt struct {
	// State is the state after it.
	State State
	// NextAttempt is when the next is due; only in StatePending.
	NextAttempt time.Time
	Error       string
	Status      int
	// GiveUpReason is set in StateFailed.
	GiveUpReason string
}

// Query chooses a page of deliveries, newest first.
type Query struct {
	// Subscription, State and ImageDigest restrict the list if they are set.
	Subscription string
	State        State
	ImageDigest  string
	// Limit is the largest number of deliveries.
	Limit int
	// After continues behind the last delivery of the page before; zero starts.
	After Position
}

// Position is the place of a delivery in the order newest first.
type Position struct {
	CreateTime time.Time
	ID         string
}

// Errors of stores.
var (
	// ErrLeaseLost: another worker has taken the delivery over.
	ErrLeaseLost = errors.New("delivery lease lost")
	// ErrNotFound: there is no such delivery.
	ErrNotFound = errors.New("no such delivery")
)

// Store keeps deliveries. All methods may be called by several processes at once.
type Store interface {
	// Add stores new deliveries and returns how many were new: those whose event and
	// subscription are known already are left as they are.
	Add(ctx context.Context, deliveries []Delivery) (int, error)
	// Claim leases up to limit due deliveries of a subscription, longest due first,
	// for the time given. A delivery whose lease has run out is due again.
	Claim(ctx context.Context, subscription string, now time.Time, lease time.Duration, token string, limit int) ([]Delivery, error)
	// Finish records how an attempt ended. It returns ErrLeaseLost, and records
	// nothing, if the lease is not d.LeaseToken's any more.
	Finish(ctx context.Context, d Delivery, now time.Time, a Attempt) error
	// Release gives a leased delivery back without an attempt.
	Release(ctx context.Context, d Delivery) error
	// DueSubscriptions returns the subscriptions that have a delivery to claim.
	DueSubscriptions(ctx context.Context, now time.Time) ([]string, error)

	// List returns a page.
	List(ctx context.Context, q Query) ([]Delivery, error)
	// Redeliver makes deliveries due at now, from the start of the schedule, and
	// takes back that their subscriptions are gone. Of pending deliveries that are
	// due already nothing changes. It returns ErrNotFound, and changes none, if one
	// does not exist.
	Redeliver(ctx context.Context, ids []string, now time.Time) (int, error)
	// Replay makes the failed deliveries of an event due at now.
	Replay(ctx context.Context, eventID string, now time.Time) (int, error)

	// MarkGone records that the address behind a subscription wants nothing more.
	MarkGone(ctx context.Context, subscription, urlHash string, now time.Time) error
	// Gone returns the subscriptions that are gone, with the hash of the address.
	Gone(ctx context.Context) (map[string]string, error)
	// GiveUp gives up the pending deliveries of a subscription that no worker holds
	// and, unless dueBefore is zero, only those due before it.
	GiveUp(ctx context.Context, subscription, reason string, dueBefore, now time.Time) (int, error)

	// PendingDeadLetters returns up to limit failed deliveries whose dead letter is not
	// sent, oldest first.
	PendingDeadLetters(ctx context.Context, limit int) ([]Delivery, error)
	// DeadLettered records that the dead letter of a failed delivery is sent.
	DeadLettered(ctx context.Context, id string) error
	// Purge deletes deliveries that ended before a time and owe no dead letter.
	Purge(ctx context.Context, before time.Time) (int, error)
}
