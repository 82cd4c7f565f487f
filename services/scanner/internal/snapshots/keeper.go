// Package snapshots keeps the advisory snapshot in use: loads it from the store,
// seeds it at the first start, replaces it by an import, and follows what other
// replicas import.
package snapshots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

// Keeper holds the snapshot in use. A scan that has begun with a snapshot ends
// with it; the next one gets the new.
type Keeper struct {
	store      store.Store
	log        *slog.Logger
	now        func() time.Time
	maxRecords int
	files      *Files
	current    atomic.Pointer[advisory.Snapshot]
	// importing lets one import at a time decide and swap.
	importing sync.Mutex
}

// New returns a keeper without a snapshot. Imports hold at most maxRecords.
func New(s store.Store, files *Files, log *slog.Logger, now func() time.Time, maxRecords int) *Keeper {
	return &Keeper{store: s, files: files, log: log, now: now, maxRecords: maxRecords}
}

// Current implements core.Advisories.
func (k *Keeper) Current() core.Matcher {
	if s := k.current.Load(); s != nil {
		return s
	}
	return nil
}

// About returns the packages that the advisories about a vulnerability affect, by
// the snapshot in use; ok is false before the first import.
func (k *Keeper) About(id string) (keys []core.PackageKey, ok bool, err error) {
	s := k.current.Load()
	if s == nil {
		return nil, false, nil
	}
	keys, err = s.About(id)
	return keys, true, err
}

// NewBuilder returns an empty builder for Import.
func (k *Keeper) NewBuilder() *advisory.Builder { return advisory.NewBuilder(k.maxRecords) }

// Refresh loads the snapshot that the store says is in use, if it is another. A
// snapshot that cannot be loaded leaves the old one in use.
func (k *Keeper) Refresh(ctx context.Context) error {
	digest, err := k.store.CurrentSnapshot(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if s := k.current.Load(); s != nil && s.Info().Digest == digest {
		return nil
	}
	s, err := k.load(ctx, digest)
	if err != nil {
		return fmt.Errorf("load snapshot %s: %w", digest, err)
	}
	k.use(ctx, s)
	return nil
}

// load opens the file of a snapshot, which may have to be fetched first.
func (k *Keeper) load(ctx context.Context, digest string) (*advisory.Snapshot, error) {
	s, err := k.files.Open(digest)
	if err == nil {
		return s, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		k.log.WarnContext(ctx, "advisory snapshot file cannot be used, another is fetched", "error", err)
	}
	content, err := k.store.Snapshot(ctx, digest)
	if err != nil {
		return nil, err
	}
	if advisory.IsLegacy(content) {
		return k.convert(ctx, content, digest)
	}
	if s, err = advisory.Decode(content, digest); err != nil {
		return nil, err
	}
	return k.files.Keep(s)
}

// convert makes a file of what an earlier release stored. It has the same records,
// so no image has to be matched again.
func (k *Keeper) convert(ctx context.Context, content []byte, digest string) (*advisory.Snapshot, error) {
	s, err := advisory.FromLegacy(content, digest)
	if err != nil {
		return nil, err
	}
	if s, err = k.files.Keep(s); err != nil {
		return nil, err
	}
	stored := k.stored(s)
	stored.Base = digest
	k.log.InfoContext(ctx, "advisories of an earlier release converted", "from", digest, "snapshot", stored.Digest)
	return s, k.store.SetSnapshot(ctx, stored)
}

func (k *Keeper) use(ctx context.Context, s *advisory.Snapshot) {
	k.current.Store(s)
	i := s.Info()
	k.log.InfoContext(ctx, "advisories in use", "snapshot", i.Digest, "advisories", i.AdvisoryCount,
		"rejected", i.RejectedCount, "data_time", i.DataTime)
	if err := k.files.Tidy(i.Digest, k.now()); err != nil {
		k.log.WarnContext(ctx, "old advisory snapshots are not removed", "error", err)
	}
}

// Follow refreshes at every interval until ctx ends.
func (k *Keeper) Follow(ctx context.Context, interval time.Duration) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := k.Refresh(ctx); err != nil && ctx.Err() == nil {
				k.log.ErrorContext(ctx, "refresh advisories failed", "error", err)
			}
		}
	}
}

// TooSmallError refuses an import that would lose much of what is in use.
type TooSmallError struct{ Have, Got int64 }

// Error implements error.
func (e *TooSmallError) Error() string {
	return fmt.Sprintf("the import has %d advisories, the snapshot in use has %d", e.Got, e.Have)
}

// Import builds a snapshot and puts it in use. Without force one that is more
// than 20 % smaller than the one in use is refused with a TooSmallError. Scores
// that the builder was not given stay, and so do the records if it was given
// nothing but scores.
func (k *Keeper) Import(ctx context.Context, b *advisory.Builder, force bool) (core.SnapshotInfo, error) {
	k.importing.Lock()
	defer k.importing.Unlock()
	if err := k.Refresh(ctx); err != nil && !errors.Is(err, advisory.ErrCorrupt) {
		return core.SnapshotInfo{}, err
	}
	if err := b.Inherit(k.current.Load()); err != nil {
		return core.SnapshotInfo{}, err
	}
	s, err := b.Build()
	if err != nil {
		return core.SnapshotInfo{}, err
	}
	info := s.Info()
	if old := k.current.Load(); old != nil && !force && info.AdvisoryCount*5 < old.Info().AdvisoryCount*4 {
		return core.SnapshotInfo{}, &TooSmallError{Have: old.Info().AdvisoryCount, Got: info.AdvisoryCount}
	}
	stored := k.stored(s)
	if old := k.current.Load(); old != nil {
		stored.Base = old.Info().Digest
		// What is damaged cannot be compared: every image is matched again.
		if stored.Changed, err = advisory.Changed(old, s); err != nil {
			stored.Changed, stored.ChangedAll = nil, true
		}
	}
	if s, err = k.files.Keep(s); err != nil {
		return core.SnapshotInfo{}, err
	}
	if err := k.store.SetSnapshot(ctx, stored); err != nil {
		return core.SnapshotInfo{}, err
	}
	k.use(ctx, s)
	return info, nil
}

func (k *Keeper) stored(s *advisory.Snapshot) store.StoredSnapshot {
	info := s.Info()
	return store.StoredSnapshot{Digest: info.Digest, Count: info.AdvisoryCount, Content: s.Encode(), Time: k.now()}
}

// Seed imports records from files and directories if no snapshot is in use yet.
// Paths that do not exist are errors: a fleet without advisories finds nothing.
func (k *Keeper) Seed(ctx context.Context, paths []string) error {
	if len(paths) == 0 || k.current.Load() != nil {
		return nil
	}
	b := k.NewBuilder()
	for _, p := range paths {
		if err := addPath(b, p); err != nil {
			return fmt.Errorf("seed advisories: %w", err)
		}
	}
	for _, r := range b.Rejected() {
		k.log.WarnContext(ctx, "advisory refused", "name", r.Name, "problem", r.Message)
	}
	s, err := b.Build()
	if err != nil {
		return fmt.Errorf("seed advisories: %w", err)
	}
	if s, err = k.files.Keep(s); err != nil {
		return err
	}
	if _, err := k.store.SeedSnapshot(ctx, k.stored(s)); err != nil {
		return err
	}
	return k.Refresh(ctx)
}

// addPath reads one file, or every .json and .csv file below a directory, in order.
func addPath(b *advisory.Builder, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return addFile(b, path)
	}
	var files []string
	err = filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.HasSuffix(p, ".json") || strings.HasSuffix(p, ".csv")) {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(files)
	for _, f := range files {
		if err := addFile(b, f); err != nil {
			return err
		}
	}
	return nil
}

func addFile(b *advisory.Builder, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	switch {
	case strings.HasSuffix(path, ".csv"):
		err = b.SetEPSS(content)
	case advisory.IsKEV(content):
		err = b.SetKEV(content)
	default:
		err = b.Add(path, content)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
