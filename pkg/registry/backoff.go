package registry

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 10 * time.Second
	// maxRetryAfter bounds what a registry may make us wait within one operation.
	maxRetryAfter = time.Minute
)

// backoff is the wait after the given attempt, counted from 1: it doubles each
// time and is spread over its upper half, so that many clients do not come back
// at the same moment. asked, the registry's Retry-After, is never undercut.
func backoff(attempt int, asked time.Duration) time.Duration {
	d := maxBackoff
	if shift := attempt - 1; shift < 6 {
		d = min(maxBackoff, firstBackoff<<shift)
	}
	d = d/2 + rand.N(d/2) //nolint:gosec // jitter needs no secrecy
	if asked > 0 {
		d = asked + d/4
	}
	return d
}

// parseRetryAfter reads the header's two forms, seconds and an HTTP date. It is
// 0 if the header is absent, in the past or unreadable.
func parseRetryAfter(h string, now time.Time) time.Duration {
	h = strings.TrimSpace(h)
	if h == "" {
		return 0
	}
	if s, err := strconv.Atoi(h); err == nil {
		// A day is beyond anything that is waited for; it also keeps the product in range.
		return time.Duration(min(max(s, 0), 86400)) * time.Second
	}
	at, err := http.ParseTime(h)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), 24*time.Hour)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// retryAfterNote carries a Retry-After header past the library that signs in,
// whose errors do not have it.
type retryAfterNote struct{ header atomic.Value }

type retryAfterKey struct{}

func withRetryAfterNote(ctx context.Context) (context.Context, *retryAfterNote) {
	note := new(retryAfterNote)
	return context.WithValue(ctx, retryAfterKey{}, note), note
}

func noteRetryAfter(ctx context.Context, header string) {
	if note, ok := ctx.Value(retryAfterKey{}).(*retryAfterNote); ok && header != "" {
		note.header.Store(header)
	}
}

func (n *retryAfterNote) duration(now time.Time) time.Duration {
	header, _ := n.header.Load().(string)
	return parseRetryAfter(header, now)
}
