// Package reconcile compares registries with what was scanned. A push whose webhook
// never came, was refused or was lost is found by its tag and submitted; an image that
// the registry does not have any more is told to be deleted. Images that were pushed by
// digest alone cannot be found: no registry lists them.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/seaworthy-dev/seaworthy/pkg/artifact"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

// Registry lists what registries have; it is a registry.Client.
type Registry interface {
	Repositories(ctx context.Context, registry string) iter.Seq2[[]string, error]
	Tags(ctx context.Context, repository imageref.Ref) iter.Seq2[[]string, error]
	Resolve(ctx context.Context, ref imageref.Ref) (registry.Descriptor, error)
}

// Store says what was scanned; see store.Store.
type Store interface {
	TagScans(ctx context.Context, repository imageref.Ref, tags []string) (map[string]store.TagScan, error)
	ScannedDigests(ctx context.Context, repository imageref.Ref, after string, n int) ([]string, error)
	ScannedRepositories(ctx context.Context, registry string, n int) ([]string, error)
	Absences(ctx context.Context, repository imageref.Ref, digests []string) (map[string]store.Absence, error)
	SetAbsence(ctx context.Context, image imageref.Ref, a store.Absence) error
	ClearAbsence(ctx context.Context, image imageref.Ref) error
	Reconciled(ctx context.Context, registry string) (time.Time, error)
	SetReconciled(ctx context.Context, registry string, end time.Time) error
}

// Publisher tells what was found. An id names a fact: told twice it is one.
type Publisher interface {
	// Submit publishes the push of an image that nobody reported.
	Submit(ctx context.Context, id string, image imageref.Ref, mediaType string) error
	// Deleted publishes that an image is not in its registry any more.
	Deleted(ctx context.Context, id string, image imageref.Ref) error
}

// Source is a registry to compare.
type Source struct {
	// Host is its name in image references.
	Host string `yaml:"host"`
	// Repositories are those to compare.
	Repositories []string `yaml:"repositories"`
	// Catalogue asks the registry for its repositories instead.
	Catalogue bool `yaml:"catalogue"`
}

// Options bound the work.
type Options struct {
	// Interval is how often each registry is compared.
	Interval time.Duration
	// Timeout bounds one run over one registry.
	Timeout time.Duration
	// RequestsPerSecond bounds the requests to each registry.
	RequestsPerSecond float64
	// MaxRepositories, MaxTags (of a repository) and MaxChecks (images looked for by
	// digest, of a registry) bound one run.
	MaxRepositories, MaxTags, MaxChecks int
	// Grace is how long the pushes that are on their way have to become scans before
	// what is missing is submitted.
	Grace time.Duration
	// StartDelay is when the first run begins.
	StartDelay time.Duration
}

// Counts is what a run came to.
type Counts struct {
	Repositories, Tags int
	Submitted, Deleted int
	Held               int
	Failed             int // repositories that could not be listed
	Incomplete         bool
}

// Reconciler compares registries, each in its own time: one that fails or is slow
// holds up no other. Of all replicas one compares a registry at a time.
type Reconciler struct {
	Options
	Sources   []Source
	Registry  Registry
	Store     Store
	Publisher Publisher
	// Lock takes the lock of a name; it waits until ctx ends.
	Lock func(ctx context.Context, name string) (unlock func(), err error)
	// Done is told of every run.
	Done func(ctx context.Context, registry string, c Counts, err error)
	Log  *slog.Logger
	Now  func() time.Time
}

const (
	lockPatience   = 5 * time.Second
	minBackoff     = 30 * time.Second
	maxConfirm     = 10 * time.Minute
	digestBatch    = 200
	maxFailuresRow = 3
	maxMissing     = 5000
)

// Run compares all registries at start and whenever it is time, until ctx ends.
func (r *Reconciler) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range r.Sources {
		wg.Go(func() { r.follow(ctx, &follower{source: s, started: r.Now(), cursors: map[string]string{}}) })
	}
	wg.Wait()
	return nil
}

// follower remembers what one registry needs from run to run. Losing it costs time.
type follower struct {
	source  Source
	started time.Time
	// cursors are where the next run goes on to look for images of a repository.
	cursors map[string]string
	// next is the repository that the next run begins with.
	next string
}

func (r *Reconciler) follow(ctx context.Context, f *follower) {
	wait := jitter(r.StartDelay)
	for failures := 0; ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		err := r.turn(ctx, f)
		if ctx.Err() != nil {
			return
		}
		// Replicas do not agree on when it is time, so each looks more often than that.
		wait = jitter(max(r.Interval/10, time.Second))
		if failures++; err == nil {
			failures = 0
			continue
		}
		wait = jitter(min(minBackoff<<min(failures-1, 10), r.Interval))
		r.Log.WarnContext(ctx, "registry not compared with the scans", "registry", f.source.Host, "error", err, "next", wait)
	}
}

// jitter spreads d by a fifth in both directions.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // spreads load, guards nothing
}

// turn compares a registry if it is time and no other replica does.
func (r *Reconciler) turn(ctx context.Context, f *follower) error {
	waiting, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	unlock, err := r.Lock(waiting, "reconcile/"+f.source.Host)
	if err != nil {
		if waiting.Err() != nil && ctx.Err() == nil {
			return nil // another replica is at it
		}
		return err
	}
	defer unlock()
	last, err := r.Store.Reconciled(ctx, f.source.Host)
	if err != nil {
		return err
	}
	if last.After(f.started) && r.Now().Sub(last) < r.Interval {
		return nil
	}
	limited, stop := context.WithTimeout(ctx, r.Timeout)
	defer stop()
	counts, err := r.compare(limited, f)
	if limited.Err() != nil && ctx.Err() == nil {
		// The next run goes on where this one ended.
		counts.Incomplete, err = true, nil
	}
	r.Done(ctx, f.source.Host, counts, err)
	level := slog.LevelDebug
	if counts.Submitted+counts.Deleted > 0 {
		level = slog.LevelInfo
	}
	if counts.Incomplete || counts.Held > 0 || counts.Failed > 0 {
		level = slog.LevelWarn
	}
	r.Log.Log(ctx, level, "registry compared with the scans", "registry", f.source.Host, "repositories", counts.Repositories, "tags", counts.Tags,
		"submitted", counts.Submitted, "deleted", counts.Deleted, "held", counts.Held, "failed", counts.Failed, "incomplete", counts.Incomplete)
	if err != nil {
		return err
	}
	return r.Store.SetReconciled(ctx, f.source.Host, r.Now())
}

// comparison is one run over one registry.
type comparison struct {
	*Reconciler
	f       *follower
	limiter *rate.Limiter
	counts  Counts
	// seen is what the registry showed.
	seen run
	// troubled: something failed that says nothing about images.
	troubled bool
	inRow    int
	began    time.Time
	// found are images that seem to be missing.
	found []found
	// present are the digests of a repository that a tag named.
	present map[string]map[string]bool
}

// found is an image that a tag names and that seems to be missing.
type found struct {
	image     imageref.Ref
	mediaType string
	// gone: everybody was told that it is deleted.
	gone bool
}

func (r *Reconciler) compare(ctx context.Context, f *follower) (Counts, error) {
	c := &comparison{
		Reconciler: r, f: f, limiter: rate.NewLimiter(rate.Limit(r.RequestsPerSecond), 1),
		present: map[string]map[string]bool{}, began: time.Now(),
	}
	repositories, err := c.repositories(ctx)
	if err != nil {
		return c.counts, err
	}
	for i, name := range repositories {
		// Not the one where this run ends: it would hold up the others each time.
		f.next = repositories[(i+1)%len(repositories)]
		if err := c.repository(ctx, imageref.Ref{Registry: f.source.Host, Repository: name}); err != nil {
			return c.counts, errors.Join(err, c.submit(ctx))
		}
		c.counts.Repositories++
	}
	if err := c.submit(ctx); err != nil {
		return c.counts, err
	}
	return c.counts, c.lookForAbsent(ctx, repositories)
}

// repositories are those to compare, beginning where the last run ended.
func (c *comparison) repositories(ctx context.Context) ([]string, error) {
	names := slices.Clone(c.f.source.Repositories)
	if c.f.source.Catalogue {
		if err := c.limiter.Wait(ctx); err != nil {
			return nil, err
		}
		for page, err := range c.Registry.Repositories(ctx, c.f.source.Host) {
			if err != nil {
				if len(names) == 0 || registry.Temporary(err) {
					return nil, err
				}
				c.incomplete(ctx, "", err)
				break
			}
			c.seen.alive = true
			if names = append(names, page...); len(names) >= c.MaxRepositories {
				c.incomplete(ctx, "", fmt.Errorf("more than %d repositories", c.MaxRepositories))
				break
			}
			if err := c.limiter.Wait(ctx); err != nil {
				return nil, err
			}
		}
		// A repository that is gone is in no list, but its images have to be looked for.
		scanned, err := c.Store.ScannedRepositories(ctx, c.f.source.Host, c.MaxRepositories)
		if err != nil {
			return nil, err
		}
		names = append(names, scanned...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if i, ok := slices.BinarySearch(names, c.f.next); ok {
		names = slices.Concat(names[i:], names[:i])
	}
	return names[:min(len(names), c.MaxRepositories)], nil
}

func (c *comparison) incomplete(ctx context.Context, repository string, err error) {
	c.counts.Incomplete = true
	c.Log.WarnContext(ctx, "registry list read in part", "registry", c.f.source.Host, "repository", repository, "error", err)
}

// failed decides what an error of the registry means for the run: nil goes on.
func (c *comparison) failed(ctx context.Context, repository string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	c.counts.Failed++
	if registry.Temporary(err) {
		c.troubled = true
		if c.inRow++; c.inRow >= maxFailuresRow {
			return err
		}
	}
	c.Log.WarnContext(ctx, "repository not compared with the scans", "registry", c.f.source.Host, "repository", repository, "error", err)
	return nil
}

// repository submits what is missing. What was scanned is read before the registry is
// asked what a tag means: a push in between is submitted once more, and never undone.
func (c *comparison) repository(ctx context.Context, repository imageref.Ref) error {
	tags, err := c.tags(ctx, repository)
	if err != nil {
		if errors.Is(err, registry.ErrNotFound) {
			return nil // its images will be looked for
		}
		return c.failed(ctx, repository.Repository, err)
	}
	// In another order each time: what a run does not come to another one does.
	rand.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] }) //nolint:gosec // fairness, not secrecy
	for batch := range slices.Chunk(tags, digestBatch) {
		scans, err := c.Store.TagScans(ctx, repository, batch)
		if err != nil {
			return err
		}
		for _, tag := range batch {
			image := repository
			image.Tag = tag
			var scan *store.TagScan
			if s, ok := scans[tag]; ok {
				scan = &s
			}
			if err := c.tag(ctx, image, scan); err != nil {
				return err
			}
		}
	}
	return nil
}

// tags lists the tags that can be images.
func (c *comparison) tags(ctx context.Context, repository imageref.Ref) ([]string, error) {
	var tags []string
	if err := c.limiter.Wait(ctx); err != nil {
		return nil, err
	}
	for page, err := range c.Registry.Tags(ctx, repository) {
		if err != nil {
			if len(tags) == 0 || registry.Temporary(err) {
				return nil, err
			}
			c.incomplete(ctx, repository.Repository, err)
			break
		}
		for _, t := range page {
			if !artifact.IsEvidence("", "", t) {
				tags = append(tags, t)
			}
		}
		if len(tags) > c.MaxTags {
			tags = tags[:c.MaxTags]
			c.incomplete(ctx, repository.Repository, fmt.Errorf("more than %d tags", c.MaxTags))
			break
		}
		if err := c.limiter.Wait(ctx); err != nil {
			return nil, err
		}
	}
	c.seen.alive, c.inRow = true, 0
	return tags, nil
}

// tag submits the image that a tag names, if it is missing.
func (c *comparison) tag(ctx context.Context, image imageref.Ref, scan *store.TagScan) error {
	c.counts.Tags++
	if err := c.limiter.Wait(ctx); err != nil {
		return err
	}
	d, err := c.Registry.Resolve(ctx, image)
	if errors.Is(err, registry.ErrNotFound) {
		return nil // removed meanwhile, or what it names is: it will be looked for
	}
	if err != nil {
		return c.failed(ctx, image.Repository, err)
	}
	c.seen.alive, c.inRow = true, 0
	c.seen.checked++
	if c.present[image.Repository] == nil {
		c.present[image.Repository] = map[string]bool{}
	}
	c.present[image.Repository][d.Digest] = true
	absences, err := c.Store.Absences(ctx, image, []string{d.Digest})
	if err != nil {
		return err
	}
	absence, absent := absences[d.Digest]
	gone := !absence.Told.IsZero()
	image = image.WithDigest(d.Digest)
	if missing(d.Digest, scan, gone, c.Now()) {
		if c.found = append(c.found, found{image, d.MediaType, gone}); len(c.found) >= maxMissing {
			return c.submit(ctx)
		}
		return nil
	}
	if absent {
		return c.Store.ClearAbsence(ctx, image)
	}
	return nil
}

// submit submits what is missing, unless its push became a scan meanwhile. Submitting it
// nevertheless would do no harm, but make a backlog twice as long.
func (c *comparison) submit(ctx context.Context) error {
	list := c.found
	c.found = nil
	if len(list) == 0 {
		return nil
	}
	timer := time.NewTimer(c.Grace - time.Since(c.began))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	for _, f := range list {
		scans, err := c.Store.TagScans(ctx, f.image, []string{f.image.Tag})
		if err != nil {
			return err
		}
		var scan *store.TagScan
		previous := ""
		if s, ok := scans[f.image.Tag]; ok {
			scan, previous = &s, s.ID
		}
		if !missing(f.image.Digest, scan, f.gone, c.Now()) {
			continue
		}
		id := events.ID("reconciled", f.image.Registry, f.image.Repository, f.image.Tag, f.image.Digest, previous)
		if err := c.Publisher.Submit(ctx, id, f.image, f.mediaType); err != nil {
			return err
		}
		c.counts.Submitted++
		if err := c.Store.ClearAbsence(ctx, f.image); err != nil {
			return err
		}
	}
	return nil
}

// lookForAbsent asks for images that were scanned and that no tag names, and tells
// which are deleted. It decides after all answers are in: only then is it known whether
// the registry is well.
func (c *comparison) lookForAbsent(ctx context.Context, repositories []string) error {
	var absent []imageref.Ref
	budget := c.MaxChecks
	// In another order each time, so that a large repository leaves something to others.
	rand.Shuffle(len(repositories), func(i, j int) { repositories[i], repositories[j] = repositories[j], repositories[i] }) //nolint:gosec // fairness, not secrecy
	for _, name := range repositories {
		repository := imageref.Ref{Registry: c.f.source.Host, Repository: name}
		for budget > 0 {
			after := c.f.cursors[name]
			digests, err := c.Store.ScannedDigests(ctx, repository, after, min(digestBatch, budget))
			if err != nil {
				return err
			}
			if len(digests) == 0 {
				delete(c.f.cursors, name)
				break
			}
			known, err := c.Store.Absences(ctx, repository, digests)
			if err != nil {
				return err
			}
			for _, digest := range digests {
				budget--
				c.f.cursors[name] = digest
				if c.present[name][digest] {
					continue
				}
				image := repository.WithDigest(digest)
				gone, there, err := c.look(ctx, image)
				if err != nil {
					return err
				}
				if gone {
					absent = append(absent, image)
				}
				if _, was := known[digest]; was && there {
					if err := c.Store.ClearAbsence(ctx, image); err != nil {
						return err
					}
				}
			}
		}
	}
	c.seen.absent = len(absent)
	if c.troubled {
		c.seen.alive = false
	}
	for _, image := range absent {
		if err := c.decide(ctx, image); err != nil {
			return err
		}
	}
	return nil
}

// look asks for an image by digest: it is gone, there, or nobody knows.
func (c *comparison) look(ctx context.Context, image imageref.Ref) (gone, there bool, err error) {
	if err := c.limiter.Wait(ctx); err != nil {
		return false, false, err
	}
	_, err = c.Registry.Resolve(ctx, image)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		c.seen.checked++
		return true, false, nil
	case err != nil:
		return false, false, c.failed(ctx, image.Repository, err)
	}
	c.seen.alive, c.inRow = true, 0
	c.seen.checked++
	return false, true, nil
}

func (c *comparison) decide(ctx context.Context, image imageref.Ref) error {
	known, err := c.Store.Absences(ctx, image, []string{image.Digest})
	if err != nil {
		return err
	}
	var before *store.Absence
	if a, ok := known[image.Digest]; ok {
		before = &a
	}
	now := c.Now()
	switch judgeAbsence(before, c.seen, min(maxConfirm, c.Interval/2), now) {
	case remember:
		return c.Store.SetAbsence(ctx, image, store.Absence{First: now})
	case hold:
		c.counts.Held++
	case tell:
		id := events.ID("absent", image.Registry, image.Repository, image.Digest, before.First.String())
		if err := c.Publisher.Deleted(ctx, id, image); err != nil {
			return err
		}
		c.counts.Deleted++
		return c.Store.SetAbsence(ctx, image, store.Absence{First: before.First, Told: now})
	case ignore:
	}
	return nil
}
