// Package verdict asks the verifier whether images may run, for services that
// have to know before they start one: deployers, admission controllers, gates.
//
// It fails closed: whatever is not a verdict of the verifier is UNKNOWN, with an
// error that says why. Verdicts by digest are kept in memory while a watch tells
// of every change, for a minute at most and never past their end; when the watch breaks,
// nothing that is kept is used any more.
package verdict

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

const (
	// MaxBatch is the number of images in one call to the verifier; Batch splits
	// longer lists.
	MaxBatch = 500
	// DefaultMaxEntries of the cache.
	DefaultMaxEntries = 100_000
	// silence is how long a watch may say nothing before what is kept counts as
	// stale: the verifier promises a heartbeat every 30 seconds.
	silence = 45 * time.Second
	// keptFor is how long any answer is kept. That a newer scan report waits, and when the
	// evidence becomes overdue because of it, is no change that the watch tells.
	keptFor = time.Minute
	// rewatch is the pause before a broken watch is begun again.
	rewatch = time.Second
)

// State is the answer to whether an image may run.
type State int

// States. The zero value is Unknown: treat it as a refusal.
const (
	Unknown State = iota
	Pass
	Fail
)

// String gives PASS, FAIL or UNKNOWN.
func (s State) String() string {
	switch s {
	case Pass:
		return "PASS"
	case Fail:
		return "FAIL"
	default:
		return "UNKNOWN"
	}
}

// Verdict is what the verifier says of an image.
type Verdict struct {
	State State
	// Digest of the verdict; empty if it is no recorded one.
	Digest string
	// Reasons as `CODE: message`, most important first.
	Reasons []string
	// Pending is set while the evaluation is pending.
	Pending bool
	// ExpireTime is when it ends or its evidence becomes overdue, as far as is known; zero
	// if neither is.
	ExpireTime time.Time
}

// Config says where the verifier is and how much is kept.
type Config struct {
	// Address is the verifier's gRPC address.
	Address string
	// TLS is the identity of the caller; the verifier has to be of its trust domain.
	TLS       *tlsx.Source
	Telemetry *obs.Telemetry
	// Environment that asks: policies of other environments do not count. Empty counts
	// them all. With one, images need registry and repository.
	Environment string
	// MaxEntries bounds the cache; 0 means DefaultMaxEntries.
	MaxEntries int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Client asks the verifier. It is safe for concurrent use.
type Client struct {
	conn  *grpc.ClientConn
	api   verifierv1.VerdictServiceClient
	codec grpcx.Codec
	now   func() time.Time
	max   int
	env   string

	mu sync.RWMutex
	// heard is when the watch last said something; zero while there is none.
	heard time.Time
	// changes counts what the watch said of verdicts, and its breaks.
	changes uint64
	// cursor is that of the last change that the watch told.
	cursor int64
	kept   map[imageref.Ref]kept
	// refs are the keys of kept by digest.
	refs map[string][]imageref.Ref
}

// kept is a verdict that is used until a time.
type kept struct {
	Verdict
	until time.Time
}

// New returns a client. It does not connect yet; Run keeps its cache fresh.
func New(cfg Config) (*Client, error) {
	if cfg.TLS == nil || cfg.Telemetry == nil {
		return nil, errors.New("verdict: TLS and telemetry are needed")
	}
	conn, err := grpcx.Dial(cfg.Address, tlsx.ServiceID(cfg.TLS.TrustDomain(), "verifier"), grpcx.ClientDeps{TLS: cfg.TLS, Telemetry: cfg.Telemetry})
	if err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	c := &Client{conn: conn, api: verifierv1.NewVerdictServiceClient(conn), codec: grpcx.NewCodec(), now: cfg.Now, max: cfg.MaxEntries, env: cfg.Environment}
	if c.now == nil {
		c.now = time.Now
	}
	if c.max <= 0 {
		c.max = DefaultMaxEntries
	}
	c.forget()
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Get returns the verdict of an image, by digest or by tag. With an error the
// verdict is Unknown.
func (c *Client) Get(ctx context.Context, image imageref.Ref) (Verdict, error) {
	if v, ok := c.lookup(image); ok {
		return v, nil
	}
	all, err := c.fetch(ctx, []imageref.Ref{image})
	if err != nil {
		return Verdict{}, err
	}
	return all[0], nil
}

// Batch returns the verdicts of images, in their order. With an error there are
// none, and all of them count as Unknown.
func (c *Client) Batch(ctx context.Context, images []imageref.Ref) ([]Verdict, error) {
	out := make([]Verdict, len(images))
	var (
		missing []imageref.Ref
		where   []int
	)
	for i, image := range images {
		v, ok := c.lookup(image)
		if ok {
			out[i] = v
			continue
		}
		if missing == nil {
			missing, where = make([]imageref.Ref, 0, len(images)-i), make([]int, 0, len(images)-i)
		}
		missing, where = append(missing, image), append(where, i)
	}
	for len(missing) > 0 {
		n := min(len(missing), MaxBatch)
		got, err := c.fetch(ctx, missing[:n])
		if err != nil {
			return nil, err
		}
		for i, v := range got {
			out[where[i]] = v
		}
		missing, where = missing[n:], where[n:]
	}
	return out, nil
}

// lookup is the way that costs no call.
func (c *Client) lookup(image imageref.Ref) (Verdict, bool) {
	if image.Digest == "" {
		return Verdict{}, false
	}
	c.mu.RLock()
	v, ok := c.kept[image]
	heard := c.heard
	c.mu.RUnlock()
	if !ok {
		return Verdict{}, false
	}
	now := c.now()
	if heard.IsZero() || now.Sub(heard) > silence || !now.Before(v.until) {
		return Verdict{}, false
	}
	return v.Verdict, true
}

func (c *Client) fetch(ctx context.Context, images []imageref.Ref) ([]Verdict, error) {
	req := &question{images: images, environment: c.env}
	c.mu.RLock()
	changes, watching := c.changes, !c.heard.IsZero()
	// Another replica may not have seen yet what the watch told.
	req.minSequence = c.cursor
	c.mu.RUnlock()
	asked := c.now()
	resp := &answers{verdicts: make([]Verdict, 0, len(images))}
	err := c.conn.Invoke(ctx, verifierv1.VerdictService_BatchGetVerdicts_FullMethodName, req, resp, grpc.ForceCodecV2(c.codec))
	if err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	out := resp.verdicts
	if len(out) != len(images) {
		return nil, fmt.Errorf("verdict: %d answers to %d requests", len(out), len(images))
	}
	if !watching {
		return out, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes != changes {
		// One of them may be what has changed since it was asked for.
		return out, nil
	}
	for i, image := range images {
		// Only a recorded verdict is followed by a change when it is no longer true.
		if v := out[i]; v.Digest != "" && !v.Pending && image.Digest != "" {
			until := asked.Add(keptFor)
			if !v.ExpireTime.IsZero() && v.ExpireTime.Before(until) {
				until = v.ExpireTime
			}
			c.keep(image, kept{v, until})
		}
	}
	return out, nil
}

// keep needs c.mu. A full cache loses any entry for the new one.
func (c *Client) keep(image imageref.Ref, v kept) {
	if _, ok := c.kept[image]; !ok {
		if len(c.kept) >= c.max {
			for old := range c.kept {
				c.drop(old.Digest)
				break
			}
		}
		c.refs[image.Digest] = append(c.refs[image.Digest], image)
	}
	c.kept[image] = v
}

// drop needs c.mu.
func (c *Client) drop(digest string) {
	for _, r := range c.refs[digest] {
		delete(c.kept, r)
	}
	delete(c.refs, digest)
}

// forget drops everything.
func (c *Client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept, c.refs = map[imageref.Ref]kept{}, map[string][]imageref.Ref{}
	c.heard, c.cursor = time.Time{}, 0
	c.changes++
}

// Run keeps the cache fresh until ctx ends. Without it every question is a call.
func (c *Client) Run(ctx context.Context) error {
	for {
		_ = c.watch(ctx) // the next try says it again; meanwhile every question is a call
		c.forget()
		timer := time.NewTimer(rewatch)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// watch follows changes until the stream breaks. A cache that was emptied needs
// only what changes from now on.
func (c *Client) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.api.WatchVerdicts(ctx, &verifierv1.WatchVerdictsRequest{Cursor: -1})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.heard, c.cursor = c.now(), m.GetCursor()
		if v := m.GetVerdict(); v != nil {
			c.changes++
			c.drop(v.GetImage().GetDigest())
		}
		c.mu.Unlock()
	}
}
