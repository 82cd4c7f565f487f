// Package snapshots keeps the advisory snapshot in use: opens its file, seeds it at
// the first start, replaces it by an import or by what feeds have, and follows what
// other replicas do.
package snapshots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

// shareTimeout bounds giving a snapshot to the other replicas, and getting one.
const shareTimeout = 5 * time.Minute

// Keeper holds the snapshot in use. A scan that has begun with a snapshot ends
// with it; the next one gets the new.
type Keeper struct {
	store      store.Store
	files      *Files
	shared     Shared
	log        *slog.Logger
	now        func() time.Time
	maxRecords int
	current    atomic.Pointer[advisory.Snapshot]
	// changing lets one import or refresh at a time decide and swap.
	changing sync.Mutex
	// given is the digest of the snapshot that is known to be shared.
	given string
}

// New returns a keeper without a snapshot. Imports hold at most maxRecords.
func New(s store.Store, files *Files, shared Shared, log *slog.Logger, now func() time.Time, maxRecords int) *Keeper {
	return &Keeper{store: s, files: files, shared: shared, log: log, now: now, maxRecords: maxRecords}
}

// Current implements core.Advisories.
func (k *Keeper) Current() core.Matcher {
	if s := k.current.Load(); s != nil {
		return s
	}
	return nil
}

// Snapshot is the snapshot in use, or nil.
func (k *Keeper) Snapshot() *advisory.Snapshot { return k.current.Load() }

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

// Start loads the snapshot that the store says is in use, if this replica has its
// file, or if an earlier release stored it. It asks no other replica: Follow does.
func (k *Keeper) Start(ctx context.Context) error {
	err := k.refresh(ctx, false)
	switch {
	case errors.Is(err, store.ErrNotFound):
		k.log.InfoContext(ctx, "fetching advisories from another replica")
		return nil
	case errors.Is(err, advisory.ErrOlder):
		// An import needs the service to run.
		k.log.ErrorContext(ctx, "no image is scanned before the advisories are imported again", "error", err)
		return nil
	}
	return err
}

// Refresh loads the snapshot that the store says is in use, if it is another. A
// snapshot that cannot be loaded leaves the old one in use.
func (k *Keeper) Refresh(ctx context.Context) error { return k.refresh(ctx, true) }

func (k *Keeper) refresh(ctx context.Context, ask bool) error {
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
	s, err := k.load(ctx, digest, ask)
	if err != nil {
		return fmt.Errorf("load snapshot %s: %w", digest, err)
	}
	k.use(ctx, s)
	return nil
}

// load opens the file of a snapshot, which may have to be fetched first.
func (k *Keeper) load(ctx context.Context, digest string, ask bool) (*advisory.Snapshot, error) {
	s, err := k.files.Open(digest)
	if err == nil || errors.Is(err, advisory.ErrOlder) { // others have the same file
		return s, err
	}
	if !errors.Is(err, os.ErrNotExist) {
		k.log.WarnContext(ctx, "advisory snapshot file unusable; fetching another", "error", err)
	}
	content, err := k.store.Snapshot(ctx, digest)
	if err == nil {
		return k.convert(ctx, content, digest)
	}
	if !errors.Is(err, store.ErrNotFound) || !ask {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	if content, err = k.shared.Get(ctx, digest); err != nil {
		return nil, err
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
		"rejected", i.RejectedCount, "data_time", i.DataTime, "ecosystems", strings.Join(i.Ecosystems, ", "))
	if !i.ExploitedKnown || !i.ScoresKnown {
		k.log.WarnContext(ctx, "rules about exploited vulnerabilities cannot be evaluated",
			"exploited_known", i.ExploitedKnown, "scores_known", i.ScoresKnown,
			"remedy", "add CISA's KEV catalogue and the scores of EPSS to advisories.feeds, or import them: seaworthyctl advisories import")
	}
	if err := k.files.Tidy(i.Digest, k.now()); err != nil {
		k.log.WarnContext(ctx, "old advisory snapshots not removed", "error", err)
	}
}

// Follow refreshes at once and at every interval until ctx ends, and sees to it that
// the other replicas can get the snapshot in use. Only the second failure in a row to
// share it is a warning: at the first start the streams may still be being made.
func (k *Keeper) Follow(ctx context.Context, interval time.Duration) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	failure := slog.LevelInfo
	for {
		if err := k.Refresh(ctx); err != nil && ctx.Err() == nil {
			k.log.ErrorContext(ctx, "refresh advisories failed", "error", err)
		}
		if err := k.give(ctx); err == nil {
			failure = slog.LevelInfo
		} else if ctx.Err() == nil {
			k.log.Log(ctx, failure, "advisories cannot be shared with other replicas", "error", err)
			failure = slog.LevelWarn
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// give shares the snapshot in use, unless it is there. A seed is shared so, and what
// the other side lost.
func (k *Keeper) give(ctx context.Context) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	s := k.current.Load()
	if s == nil || k.given == s.Info().Digest {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	digest := s.Info().Digest
	has, err := k.shared.Has(ctx, digest)
	if err != nil {
		return err
	}
	if !has {
		if err := k.shared.Put(ctx, digest, s.Encode()); err != nil {
			return err
		}
	}
	k.given = digest
	return nil
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
// nothing but scores. Without force lists of scores that are older than those in use, or
// lack much of what those have, are refused with an OlderScoresError or an
// advisory.FewerScoresError.
func (k *Keeper) Import(ctx context.Context, b *advisory.Builder, force bool) (core.SnapshotInfo, error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return core.SnapshotInfo{}, err
	}
	old := k.current.Load()
	if !force {
		if err := k.keepScores(ctx, b, old); err != nil {
			return core.SnapshotInfo{}, err
		}
	}
	times := b.ScoreTimes()
	if err := b.Inherit(old); err != nil {
		return core.SnapshotInfo{}, err
	}
	s, err := b.Build()
	if err != nil {
		return core.SnapshotInfo{}, err
	}
	return k.install(ctx, s, times, force)
}

// OlderScoresError refuses a list of scores that was made before the one in use.
type OlderScoresError struct {
	List      string
	Have, Got time.Time
}

// Error implements error.
func (e *OlderScoresError) Error() string {
	if e.Got.IsZero() {
		return fmt.Sprintf("the list %s does not say when it was made, the one in use is of %s", e.List, e.Have.Format(time.RFC3339))
	}
	return fmt.Sprintf("the list %s is of %s, the one in use of %s", e.List, e.Got.Format(time.RFC3339), e.Have.Format(time.RFC3339))
}

// keepScores refuses lists of scores that would clear what the snapshot in use says of
// the exploitation of vulnerabilities.
func (k *Keeper) keepScores(ctx context.Context, b *advisory.Builder, old *advisory.Snapshot) error {
	if old == nil {
		return nil
	}
	have, err := k.store.ScoreTimes(ctx)
	if err != nil {
		return err
	}
	for list, got := range b.ScoreTimes() {
		if got.Before(have[list]) {
			return &OlderScoresError{List: list, Have: have[list], Got: got}
		}
	}
	kept, err := b.KeepScores(old)
	if errors.Is(err, advisory.ErrCorrupt) {
		return nil // what is damaged is replaced
	}
	if kept > 0 {
		k.log.WarnContext(ctx, "KEV catalogue lacks vulnerabilities that it had before; they still count as exploited", "vulnerabilities", kept)
	}
	return err
}

// fewerScores compares a whole snapshot with the one in use.
func fewerScores(old, s *advisory.Snapshot) error {
	before, err := old.Scores()
	if err != nil {
		return nil //nolint:nilerr // what is damaged is replaced
	}
	after, err := s.Scores()
	if err != nil {
		return err
	}
	now := make(map[string]advisory.Score, len(after))
	for _, score := range after {
		now[score.ID] = score
	}
	var exploited, scored, kev, epss int
	for _, score := range before {
		if score.KEV {
			exploited++
			if now[score.ID].KEV {
				kev++
			}
		}
		if score.EPSS > 0 {
			scored++
			if now[score.ID].EPSS > 0 {
				epss++
			}
		}
	}
	if kev*20 < exploited*19 {
		return &advisory.FewerScoresError{List: advisory.ListKEV, Have: exploited, Got: kev}
	}
	if epss*5 < scored*4 {
		return &advisory.FewerScoresError{List: advisory.ListEPSS, Have: scored, Got: epss}
	}
	return nil
}

// OlderError refuses a snapshot whose newest advisory is older than that of the one in
// use: an old bundle would hide what was found since.
type OlderError struct{ Have, Got time.Time }

// Error implements error.
func (e *OlderError) Error() string {
	return fmt.Sprintf("its newest advisory is of %s, that of the snapshot in use of %s", e.Got.Format(time.RFC3339), e.Have.Format(time.RFC3339))
}

// ImportFile puts the snapshot in the content of a file in use. Without force one that
// is older than the one in use is refused with an OlderError, a much smaller one with
// a TooSmallError or an advisory.FewerScoresError. Other errors are advisory.ErrCorrupt,
// advisory.ErrOlder and advisory.ErrNewer.
func (k *Keeper) ImportFile(ctx context.Context, content []byte, digest string, force bool) (core.SnapshotInfo, error) {
	s, err := advisory.Decode(content, digest)
	if err != nil {
		return core.SnapshotInfo{}, err
	}
	k.changing.Lock()
	defer k.changing.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return core.SnapshotInfo{}, err
	}
	if old := k.current.Load(); old != nil && !force && s.Info().DataTime.Before(old.Info().DataTime) {
		return core.SnapshotInfo{}, &OlderError{Have: old.Info().DataTime, Got: s.Info().DataTime}
	}
	if old := k.current.Load(); old != nil && !force {
		if err := fewerScores(old, s); err != nil {
			return core.SnapshotInfo{}, err
		}
	}
	return k.install(ctx, s, nil, force)
}

// catchUp takes over what another replica put in use. What nobody has any more, or
// what is damaged or of an earlier release, is replaced by what comes.
func (k *Keeper) catchUp(ctx context.Context) error {
	err := k.Refresh(ctx)
	if errors.Is(err, advisory.ErrCorrupt) || errors.Is(err, advisory.ErrOlder) || errors.Is(err, eventbus.ErrNotFound) {
		return nil
	}
	return err
}

// install puts a snapshot in use, here and everywhere: first the others can get it,
// then the store names it.
func (k *Keeper) install(ctx context.Context, s *advisory.Snapshot, times map[string]time.Time, force bool) (core.SnapshotInfo, error) {
	info := s.Info()
	old := k.current.Load()
	if old != nil && !force && info.AdvisoryCount*5 < old.Info().AdvisoryCount*4 {
		return core.SnapshotInfo{}, &TooSmallError{Have: old.Info().AdvisoryCount, Got: info.AdvisoryCount}
	}
	stored := k.stored(s)
	stored.ScoreTimes = times
	retain := []string{info.Digest}
	if old != nil {
		stored.Base = old.Info().Digest
		retain = append(retain, stored.Base)
		var err error
		// What is damaged cannot be compared: every image is matched again.
		if stored.Changed, err = advisory.Changed(old, s); err != nil {
			stored.Changed, stored.ChangedAll = nil, true
		}
		stored.Differs = advisory.Differs(old, s)
		var all bool
		stored.ChangedEcosystems, all = advisory.CoverageChanged(old, s)
		stored.ChangedAll = stored.ChangedAll || all
	}
	s, err := k.files.Keep(s)
	if err != nil {
		return core.SnapshotInfo{}, err
	}
	sharing, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	if err := k.shared.Put(sharing, info.Digest, s.Encode()); err != nil {
		return core.SnapshotInfo{}, err
	}
	k.given = info.Digest
	if err := k.store.SetSnapshot(ctx, stored); err != nil {
		return core.SnapshotInfo{}, err
	}
	k.use(ctx, s)
	if err := k.shared.Retain(sharing, retain...); err != nil {
		k.log.WarnContext(ctx, "shared old advisory snapshots not removed", "error", err)
	}
	return info, nil
}

func (k *Keeper) stored(s *advisory.Snapshot) store.StoredSnapshot {
	info := s.Info()
	return store.StoredSnapshot{Digest: info.Digest, Count: info.AdvisoryCount, Time: k.now()}
}

// Seed imports records from files and directories if no snapshot is in use yet.
// Paths that do not exist are errors: a fleet without advisories finds nothing.
func (k *Keeper) Seed(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	if _, err := k.store.CurrentSnapshot(ctx); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	b := k.NewBuilder()
	if err := AddFiles(b, paths...); err != nil {
		return fmt.Errorf("seed advisories: %w", err)
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
	stored := k.stored(s)
	stored.ScoreTimes = b.ScoreTimes()
	if _, err := k.store.SeedSnapshot(ctx, stored); err != nil {
		return err
	}
	return k.Start(ctx)
}
