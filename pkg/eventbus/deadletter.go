package eventbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// DeadLetterInfo is why a consumer gave up on a delivery.
type DeadLetterInfo struct {
	Service  string
	Consumer string
	Reason   string    // UPPER_SNAKE_CASE
	Message  string    // for people
	Attempts int       // deliveries made when it gave up
	Time     time.Time // when it gave up
}

func newDeadLetterInfo(service string, d *Delivery, err error, now time.Time) DeadLetterInfo {
	message := err.Error()
	var p *permanentError
	if errors.As(err, &p) {
		message = p.err.Error() // the reason has its own field
	}
	return DeadLetterInfo{
		Service: service, Consumer: d.Consumer, Reason: Reason(err), Message: obs.Redact(message), Attempts: d.Attempt, Time: now,
	}
}

func (c *consumption) publishDeadLetter(ctx context.Context, d *Delivery, info DeadLetterInfo) error {
	m, err := c.bus.opts.DeadLetter(d, info)
	if err != nil {
		return fmt.Errorf("make dead letter: %w", err)
	}
	return c.bus.Publish(ctx, m)
}

// remember keeps why a message failed until its dead letter can be stored, so
// that the handler need not fail once more to say it again.
func (c *consumption) remember(d *Delivery, info DeadLetterInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failures) < maxRemembered {
		c.failures[d.Sequence] = info
	}
}

func (c *consumption) failure(d *Delivery) (DeadLetterInfo, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, ok := c.failures[d.Sequence]
	return info, ok
}

func (c *consumption) forget(d *Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.failures, d.Sequence)
}
