package warm

import (
	"context"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// Store is a store that tells a cache at once what this process changes.
type Store struct {
	store.Store
	Cache *Cache
}

// Save implements store.Store.
func (s Store) Save(ctx context.Context, v store.NewVerdict) (store.Saved, error) {
	saved, err := s.Store.Save(ctx, v)
	// Also with an error: the commit may have been done.
	s.Cache.Forget(v.Image.Digest)
	return saved, err
}

// RecordPush implements store.Store.
func (s Store) RecordPush(ctx context.Context, image imageref.Ref, pushed time.Time) error {
	err := s.Store.RecordPush(ctx, image, pushed)
	s.Cache.Forget(image.Digest)
	return err
}

// RecordScan implements store.Store.
func (s Store) RecordScan(ctx context.Context, scan store.Scan, learned time.Time, patience time.Duration) error {
	err := s.Store.RecordScan(ctx, scan, learned, patience)
	s.Cache.Forget(scan.Image.Digest)
	return err
}

// GiveUp implements store.Store.
func (s Store) GiveUp(ctx context.Context, image imageref.Ref, scan time.Time, problem string, now time.Time) (bool, error) {
	waits, err := s.Store.GiveUp(ctx, image, scan, problem, now)
	s.Cache.Forget(image.Digest)
	return waits, err
}

// Overtake implements store.Store.
func (s Store) Overtake(ctx context.Context, after time.Duration) ([]imageref.Ref, error) {
	images, err := s.Store.Overtake(ctx, after)
	for _, i := range images {
		s.Cache.Forget(i.Digest)
	}
	return images, err
}

// Settle implements store.Store.
func (s Store) Settle(ctx context.Context, image imageref.Ref) error {
	err := s.Store.Settle(ctx, image)
	s.Cache.Forget(image.Digest)
	return err
}
