package eventbus

import (
	"context"
	"sync/atomic"
)

// MaxIdle is how many bytes a handler may carry while another works in its place.
const MaxIdle = 4 << 20

type placeKey struct{}

// place is that of a handler.
type place struct {
	lend    func() bool
	reclaim func()
	carried atomic.Int64
}

// withPlace gives Carry and Idle the place of a handler.
func (c *consumption) withPlace(ctx, consuming context.Context, g *group) context.Context {
	return context.WithValue(ctx, placeKey{}, &place{
		lend: func() bool {
			if !c.queue.lend(g) {
				return false
			}
			c.dispatch(consuming)
			return true
		},
		reclaim: func() { c.queue.reclaim(g) },
	})
}

// Carry says that the handler with this context has so many bytes more in memory or in
// temporary files; or fewer, if negative. Outside a handler it does nothing.
func Carry(ctx context.Context, bytes int64) {
	if p, ok := ctx.Value(placeKey{}).(*place); ok {
		p.carried.Add(bytes)
	}
}

// Idle calls wait, which does nothing but wait, and lets another message be handled in
// the place of the handler with this context meanwhile, unless the handler carries more
// than MaxIdle. The handler must do nothing else at the same time. Outside a handler Idle
// only calls wait.
func Idle(ctx context.Context, wait func() error) error {
	p, ok := ctx.Value(placeKey{}).(*place)
	if !ok || p.carried.Load() > MaxIdle || !p.lend() {
		return wait()
	}
	defer p.reclaim()
	return wait()
}
