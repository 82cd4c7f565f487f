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

// Settle implements store.Store.
func (s Store) Settle(ctx context.Context, image imageref.Ref) error {
	err := s.Store.Settle(ctx, image)
	s.Cache.Forget(image.Digest)
	return err
}
