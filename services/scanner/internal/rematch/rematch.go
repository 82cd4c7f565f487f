// Package rematch keeps reports fresh without pulling an image again: when another
// snapshot of advisories is in use, the stored inventories that it can touch are
// matched with it, and images whose findings changed are published.
//
// What is to be done is a queue in the store, filled in the transaction that puts
// the snapshot in use, so that a crash forgets nothing. The replicas share it by
// leases; doing an image twice has no second effect.
package rematch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

const (
	// batch is how many images a replica takes at a time.
	batch = 20
	// lease is how long it may take for them, before another replica tries.
	lease = 2 * time.Minute
	// scanPrefix begins the ids of the scans that are made here.
	scanPrefix = "rematch-"
)

// Archive keeps reports.
type Archive interface {
	Report(ctx context.Context, digest string) (*scannerv1.Report, error)
	Save(ctx context.Context, r *core.Report) (core.ReportRef, error)
}

// Advisories is the snapshot in use.
type Advisories interface {
	// Refresh takes over what another replica imported.
	Refresh(ctx context.Context) error
	Current() core.Matcher
}

// Publisher publishes that reports exist.
type Publisher interface {
	Publish(ctx context.Context, id string, e *eventv1.ImageScannedEvent) error
}

// Rematcher works on the queue.
type Rematcher struct {
	Store      store.Store
	Archive    Archive
	Advisories Advisories
	Publisher  Publisher
	Log        *slog.Logger
	Now        func() time.Time
	// Done is told of every image: whether its findings changed, or the error.
	Done func(ctx context.Context, changed bool, err error)
}

// Run works until ctx ends, looking at the queue at every interval.
func (m *Rematcher) Run(ctx context.Context, interval time.Duration) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := m.Drain(ctx); err != nil && ctx.Err() == nil {
				m.Log.ErrorContext(ctx, "matching with new advisories failed", "error", err)
			}
		}
	}
}

// Drain works on the queue until it is empty. An image that fails stays in it, for
// after its lease.
func (m *Rematcher) Drain(ctx context.Context) error {
	for {
		now := m.Now()
		work, err := m.Store.LeaseRematches(ctx, now, now.Add(lease), batch)
		if err != nil || len(work) == 0 {
			return err
		}
		// The queue was filled with the snapshot that put it there, so the newest one
		// has to be known before the first image is looked at.
		if err := m.Advisories.Refresh(ctx); err != nil {
			return err
		}
		for _, w := range work {
			changed, err := m.image(ctx, w.ImageDigest)
			m.Done(ctx, changed, err)
			if err != nil {
				m.Log.ErrorContext(ctx, "matching an image with new advisories failed", "image_digest", w.ImageDigest, "error", err)
				continue
			}
			if err := m.Store.EndRematch(ctx, w); err != nil {
				return err
			}
		}
	}
}

func (m *Rematcher) image(ctx context.Context, digest string) (changed bool, err error) {
	matcher := m.Advisories.Current()
	inv, err := m.Store.Inventory(ctx, digest)
	if errors.Is(err, store.ErrNotFound) || matcher == nil {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	stored, err := m.Archive.Report(ctx, inv.ReportDigest)
	if err != nil {
		return false, err
	}
	fresh := wire.Domain(stored)
	fresh.InventoryProblems = inv.Problems
	fresh.Match(matcher)
	places, err := m.Store.Places(ctx, digest)
	if err != nil {
		return false, err
	}
	done := map[imageref.Ref]bool{}
	for _, p := range places {
		p.Tag = ""
		if done[p] {
			continue
		}
		done[p] = true
		c, err := m.place(ctx, p, fresh)
		if err != nil {
			return changed, fmt.Errorf("%s: %w", p, err)
		}
		changed = changed || c
	}
	return changed, nil
}

// place makes a scan of an image out of its newest one, with the fresh report in
// the place of the platform's, if that differs.
func (m *Rematcher) place(ctx context.Context, ref imageref.Ref, fresh *core.Report) (bool, error) {
	newest, err := m.Store.NewestScan(ctx, ref, true)
	if err != nil {
		return false, err
	}
	at := slices.IndexFunc(newest.Reports, func(r core.ReportRef) bool { return r.ImageDigest == fresh.ImageDigest })
	if at < 0 {
		return false, nil
	}
	before, err := m.Archive.Report(ctx, newest.Reports[at].ReportDigest)
	if err != nil {
		return false, err
	}
	same, err := saysTheSame(before, fresh)
	if err != nil {
		return false, err
	}
	if same {
		if strings.HasPrefix(newest.ID, scanPrefix) && before.GetSnapshot().GetDigest() == fresh.Snapshot.Digest {
			// Made by an attempt that may have ended before it published.
			return true, m.publish(ctx, newest)
		}
		return false, nil
	}
	saved, err := m.Archive.Save(ctx, fresh)
	if err != nil {
		return false, err
	}
	reports := slices.Clone(newest.Reports)
	reports[at] = saved
	// Without a tag: what it meant when the image was scanned may not be what it
	// means now.
	newest.Image.Tag = ""
	scan := store.Scan{
		ID: scanPrefix + events.ID("rematch", newest.ID, saved.ReportDigest)[:32], Image: newest.Image,
		State: store.Running, TraceID: obs.TraceID(ctx), CreateTime: m.Now(),
	}
	if scan, err = m.Store.CreateScan(ctx, scan); err != nil {
		return false, err
	}
	if err := m.Store.FinishScan(ctx, scan.ID, reports, m.Now()); err != nil {
		return false, err
	}
	// An attempt that ended before it published may have finished it earlier.
	if scan, err = m.Store.Scan(ctx, scan.ID); err != nil {
		return false, err
	}
	m.Log.InfoContext(ctx, "new advisories changed the findings", "image", scan.Image.String(), "scan_id", scan.ID)
	return true, m.publish(ctx, scan)
}

// saysTheSame compares what rules can read: all but the names of the snapshot and of
// the scanner.
func saysTheSame(before *scannerv1.Report, fresh *core.Report) (bool, error) {
	a, err := events.ContentDigest(before)
	if err != nil {
		return false, err
	}
	b, err := events.ContentDigest(wire.Report(fresh))
	return a == b, err
}

func (m *Rematcher) publish(ctx context.Context, scan store.Scan) error {
	id, e := wire.Scanned(scan.ID, scan.Image, scan.Reports, scan.EndTime, eventv1.ImageScannedEvent_CAUSE_ADVISORIES)
	if err := m.Publisher.Publish(ctx, id, e); err != nil {
		return fmt.Errorf("publish image scanned: %w", err)
	}
	return nil
}
