package evidence

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
)

// circuits leave alone the registries that do not answer, each by itself. Deadlines
// and retries of single requests are the registry client's.
type circuits struct {
	limits guard.Limits
	now    func() time.Time

	mu sync.Mutex
	of map[string]*guard.Guard
}

// EnableCircuitBreaker has the writer leave a registry alone for cooldown after so many claims
// in a row that it did not answer. Meanwhile Attach is guard.ErrOpen. It must be
// called before the writer is used.
func (w *Writer) EnableCircuitBreaker(failures int, cooldown time.Duration) {
	w.circuits = &circuits{
		limits: guard.Limits{Attempts: 1, MaxFailures: failures, Cooldown: cooldown},
		now:    w.now, of: map[string]*guard.Guard{},
	}
}

// do calls call unless the host is left alone. Only a registry that does not answer
// counts: its refusals, and failures of anybody else, say nothing against it.
func (c *circuits) do(ctx context.Context, host string, call func(context.Context) error) error {
	if c == nil {
		return call(ctx)
	}
	return c.guard(host).Do(ctx, func(ctx context.Context) error {
		err := call(ctx)
		if errors.Is(err, registry.ErrUnavailable) {
			return err
		}
		return guard.Permanent(err)
	})
}

// guard is that of a host; there are as many as registries that may be written to.
func (c *circuits) guard(host string) *guard.Guard {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, ok := c.of[host]
	if !ok {
		g = guard.New("registry "+host, c.limits, c.now)
		c.of[host] = g
	}
	return g
}
