package server

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Scan requests of one caller: this many a second, and this many at once.
const (
	scansPerSecond = 10
	scanBurst      = 100
)

// callerLimits bounds the scan requests of each caller. Callers are certificates of the
// fleet's own CA, so there are few.
type callerLimits struct {
	mu      sync.Mutex
	callers map[string]*rate.Limiter
}

// reserve takes a request of a caller, or returns how long it has to wait.
func (l *callerLimits) reserve(caller string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.callers == nil {
		l.callers = map[string]*rate.Limiter{}
	}
	limiter := l.callers[caller]
	if limiter == nil {
		limiter = rate.NewLimiter(scansPerSecond, scanBurst)
		l.callers[caller] = limiter
	}
	r := limiter.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}
