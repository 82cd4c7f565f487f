package core

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Schedule holds the waits before the attempts of a delivery: the first before the
// first attempt, each further one after the attempt before it failed.
type Schedule []time.Duration

// DefaultSchedule is the example schedule of Standard Webhooks 1.0.0: ten attempts
// over about three days.
func DefaultSchedule() Schedule {
	return Schedule{
		0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
		5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// MaxRetryAfter is the longest wait a subscriber may ask for.
const MaxRetryAfter = 24 * time.Hour

// jitterShare is the largest share of a wait that is added at random, so that
// deliveries that failed together do not come back together.
const jitterShare = 0.1

// Result is what an attempt came to.
type Result struct {
	// Status is the status of the answer; 0 if there was none.
	Status int
	// RetryAfter is what the answer asked for; 0 if it did not.
	RetryAfter time.Duration
	// Err is why there was no answer.
	Err error
}

// Reasons why a delivery is given up. They travel in dead letters.
const (
	ReasonExhausted = "DELIVERY_ATTEMPTS_EXHAUSTED"
	ReasonGone      = "SUBSCRIPTION_GONE"
	ReasonRemoved   = "SUBSCRIPTION_REMOVED"
)

// Outcome is what becomes of a delivery after an attempt.
type Outcome struct {
	// Delivered is true after an answer of 2xx.
	Delivered bool
	// GiveUp is the reason if there is no further attempt.
	GiveUp string
	// Gone is true if the subscriber wants no deliveries at all.
	Gone bool
	// Wait is the time until the next attempt if there is one.
	Wait time.Duration
	// Throttle is how long other deliveries to the subscriber should wait too.
	Throttle time.Duration
	// Error says what went wrong, without anything that the subscriber sent.
	Error string
}

// Decide returns what follows from the result of attempt number step, counted from
// 0 in the schedule. jitter is a random number in [0, 1).
func (s Schedule) Decide(step int, r Result, jitter float64) Outcome {
	if r.Err == nil && r.Status >= 200 && r.Status <= 299 {
		return Outcome{Delivered: true}
	}
	out := Outcome{Error: r.describe()}
	switch {
	case r.Status == http.StatusGone:
		out.GiveUp, out.Gone = ReasonGone, true
	case step+1 >= len(s):
		out.GiveUp = ReasonExhausted
	default:
		out.Wait = s[step+1]
		out.Wait += time.Duration(float64(out.Wait) * jitterShare * jitter)
	}
	if r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable {
		out.Throttle = min(r.RetryAfter, MaxRetryAfter)
		if out.GiveUp == "" {
			out.Wait = max(out.Wait, out.Throttle)
		}
	}
	return out
}

func (r Result) describe() string {
	switch {
	case r.Err != nil:
		return truncate(r.Err.Error(), 500)
	case r.Status >= 300 && r.Status <= 399:
		return "answered " + strconv.Itoa(r.Status) + "; redirects are not followed"
	default:
		return "answered " + strconv.Itoa(r.Status)
	}
}

func truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "")
}

// ParseRetryAfter reads a Retry-After header: seconds or an HTTP date. What cannot
// be read, or lies in the past, is 0.
func ParseRetryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, MaxRetryAfter)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}
