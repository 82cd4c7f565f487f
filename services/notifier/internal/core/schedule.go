package core

import "time"

// Schedule holds the wait before each attempt, the first included.
type Schedule []time.Duration

// DefaultSchedule is the example schedule of Standard Webhooks 1.0.0: ten attempts over
// about three days.
func DefaultSchedule() Schedule {
	return Schedule{
		0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
		5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// MaxRetryAfter bounds how long a subscriber can ask to wait.
const MaxRetryAfter = 24 * time.Hour

// jitterShare is the largest share of a wait that is added at random, so that
// deliveries that failed together are not retried together.
const jitterShare = 0.1

// Reasons for giving up a delivery, also in dead letters.
const (
	ReasonExhausted = "DELIVERY_ATTEMPTS_EXHAUSTED"
	ReasonPermanent = "UNDELIVERABLE"
	ReasonGone      = "SUBSCRIPTION_GONE"
	ReasonRemoved   = "SUBSCRIPTION_REMOVED"
)

// Decision is what follows from an attempt that was not canceled.
type Decision struct {
	// Delivered is true if nothing is left to do.
	Delivered bool
	// GiveUp is the reason if there is no further attempt.
	GiveUp string
	// Wait is the time until the next attempt if there is one.
	Wait time.Duration
	// Throttle is how long other deliveries to the subscriber should wait too.
	Throttle time.Duration
}

// Decide says what follows from attempt number step, counted from 0. jitter is a random
// number in [0, 1).
func (s Schedule) Decide(step int, r Result, jitter float64) Decision {
	if r.Outcome == Delivered {
		return Decision{Delivered: true}
	}
	d := Decision{Throttle: min(r.RetryAfter, MaxRetryAfter)}
	switch {
	case r.Outcome == Gone:
		d.GiveUp = ReasonGone
	case r.Outcome == Permanent:
		d.GiveUp = ReasonPermanent
	case step+1 >= len(s):
		d.GiveUp = ReasonExhausted
	default:
		wait := s[step+1]
		wait += time.Duration(float64(wait) * jitterShare * jitter)
		d.Wait = max(wait, d.Throttle)
	}
	return d
}
