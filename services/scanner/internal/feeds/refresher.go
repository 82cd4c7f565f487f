package feeds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

// ErrNoFeeds says that no feeds are configured.
var ErrNoFeeds = errors.New("no feeds are configured (advisories.feeds)")

// Error says that a feed cannot be read and was never read before.
type Error struct {
	Feed  string
	Cause error
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("feed %s: %v", e.Feed, e.Cause) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// maxError bounds what is remembered of an error, in bytes.
const maxError = 500

// Store keeps what is known of the feeds.
type Store interface {
	Feeds(ctx context.Context) ([]store.Feed, error)
	SetFeeds(ctx context.Context, feeds []store.Feed) error
}

// Advisories is the snapshot in use.
type Advisories interface {
	NewBuilder() *advisory.Builder
	Import(ctx context.Context, b *advisory.Builder, force bool) (core.SnapshotInfo, error)
	Current() core.Matcher
}

// Options are how feeds are asked.
type Options struct {
	Feeds []Feed
	// Interval is how often they are asked; Timeout bounds one download.
	Interval, Timeout time.Duration
	// Directory keeps downloads.
	Directory string
}

// Refresher asks the feeds and puts what they have in use. Of all replicas one does so
// at a time.
type Refresher struct {
	Options
	Client     *http.Client
	Store      Store
	Advisories Advisories
	// Lock lets replicas take turns.
	Lock func(ctx context.Context) (unlock func(), err error)
	// Updated is told that another snapshot is in use.
	Updated func(ctx context.Context, info core.SnapshotInfo) error
	// Done is told of every attempt.
	Done func(ctx context.Context, changed bool, err error)
	Log  *slog.Logger
	Now  func() time.Time

	// The holder of Lock may use these: when to try again what was fetched and could not
	// be put in use, and how often that failed.
	again    time.Time
	failures int
}

// firstRetry is when a snapshot that could not be put in use is tried again; the wait
// doubles up to the interval.
const firstRetry = 2 * time.Minute

// Result is what a refresh came to.
type Result struct {
	Snapshot core.SnapshotInfo
	// Changed: another snapshot is in use than before.
	Changed bool
	Feeds   []store.Feed
}

// Run refreshes when it is time, until ctx ends.
func (r *Refresher) Run(ctx context.Context) error {
	if len(r.Feeds) == 0 {
		return nil
	}
	// Replicas do not agree on when it is time, so each looks more often than that.
	t := time.NewTicker(max(min(r.Interval/10, firstRetry/2), time.Second))
	defer t.Stop()
	for {
		if _, err := r.refresh(ctx, false, false); err != nil && ctx.Err() == nil {
			r.Log.ErrorContext(ctx, "advisory refresh failed; keeping the current snapshot", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Refresh asks the feeds now. With force a snapshot that is much smaller than the one
// in use is accepted. The snapshot in use stays if the error is not nil. Errors are
// ErrNoFeeds, those of a feed that cannot be read and was never read before, and those
// of Advisories.Import.
func (r *Refresher) Refresh(ctx context.Context, force bool) (Result, error) {
	if len(r.Feeds) == 0 {
		return Result{}, ErrNoFeeds
	}
	return r.refresh(ctx, true, force)
}

func (r *Refresher) refresh(ctx context.Context, now, force bool) (res Result, err error) {
	unlock, err := r.Lock(ctx)
	if err != nil {
		return res, err
	}
	defer unlock()
	known, err := r.Store.Feeds(ctx)
	if err != nil || !now && !r.due(known) {
		return res, err
	}
	defer func() { r.Done(ctx, res.Changed, err) }()
	dir := filepath.Join(r.Directory, "feeds")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return res, fmt.Errorf("directory of downloads (advisories.directory): %w", err)
	}
	res.Feeds, err = r.ask(ctx, &fetcher{client: r.Client, dir: dir, timeout: r.Timeout}, known, force, &res)
	// What went wrong is worth remembering even if the caller is gone.
	return res, errors.Join(err, r.Store.SetFeeds(context.WithoutCancel(ctx), res.Feeds))
}

// due tells whether a feed was not tried for so long that it is time, or a snapshot could
// not be put in use.
func (r *Refresher) due(known []store.Feed) bool {
	if !r.again.IsZero() && !r.Now().Before(r.again) {
		return true
	}
	return slices.ContainsFunc(r.Feeds, func(f Feed) bool {
		i := slices.IndexFunc(known, func(k store.Feed) bool { return k.Name == f.Name })
		return i < 0 || r.Now().Sub(known[i].TryTime) >= r.Interval
	})
}

// ask asks every feed and builds a snapshot if one has something else than before.
func (r *Refresher) ask(ctx context.Context, f *fetcher, known []store.Feed, force bool, res *Result) (states []store.Feed, err error) {
	now := r.Now()
	var paths []string
	changed := len(known) != len(r.Feeds) || r.Advisories.Current() == nil
	digests := make([]string, len(r.Feeds))
	var failed error
	for i, feed := range r.Feeds {
		s := store.Feed{Name: feed.Name}
		if k := slices.IndexFunc(known, func(k store.Feed) bool { return k.Name == feed.Name }); k >= 0 {
			s = known[k]
		}
		s.TryTime, s.Error = now, ""
		c, err := f.fetch(ctx, feed)
		switch {
		case err != nil:
			failed = errors.Join(failed, &Error{Feed: feed.Name, Cause: err})
			s.Error = short(err)
		case c.err != nil:
			r.Log.WarnContext(ctx, "advisory feed failed; keeping its previous advisories", "feed", feed.Name, "error", c.err)
			s.Error = short(c.err)
		default:
			s.CheckTime = now
		}
		changed = changed || c.digest != s.Digest
		digests[i] = c.digest
		paths = append(paths, c.path)
		states = append(states, s)
	}
	if failed != nil {
		return states, failed
	}
	if m := r.Advisories.Current(); m != nil {
		res.Snapshot = m.Info()
	}
	if !changed && !force {
		return states, nil
	}
	if err := r.build(ctx, paths, force, res); err != nil {
		r.again = now.Add(min(firstRetry<<min(r.failures, 10), r.Interval))
		r.failures++
		return states, err
	}
	r.again, r.failures = time.Time{}, 0
	for i := range states {
		if states[i].Digest != digests[i] {
			states[i].Digest, states[i].ChangeTime = digests[i], now
		}
	}
	return states, nil
}

func (r *Refresher) build(ctx context.Context, paths []string, force bool, res *Result) error {
	b := r.Advisories.NewBuilder()
	if err := snapshots.AddFiles(b, paths...); err != nil {
		return err
	}
	for _, rejected := range b.Rejected() {
		r.Log.WarnContext(ctx, "advisory refused", "name", rejected.Name, "problem", rejected.Message)
	}
	before := res.Snapshot.Digest
	info, err := r.Advisories.Import(ctx, b, force)
	if err != nil {
		return err
	}
	res.Snapshot, res.Changed = info, info.Digest != before
	if !res.Changed {
		return nil
	}
	return r.Updated(ctx, info)
}

func short(err error) string {
	s := err.Error()
	return s[:min(len(s), maxError)]
}
