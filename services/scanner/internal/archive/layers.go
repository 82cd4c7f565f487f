package archive

import (
	"context"
	"errors"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

// Layer implements extract.Cache.
func (a *Archive) Layer(ctx context.Context, digest, extractors string) ([]byte, bool, error) {
	content, err := a.store.Layer(ctx, digest, extractors)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	return content, err == nil, err
}

// PutLayer implements extract.Cache.
func (a *Archive) PutLayer(ctx context.Context, digest, extractors string, content []byte) error {
	return a.store.PutLayer(ctx, digest, extractors, content, a.now())
}

// Base implements core.Lineage.
func (a *Archive) Base(ctx context.Context, imageDigest string, layers []string, claim core.BaseImage) (core.BaseImage, error) {
	return a.store.Base(ctx, imageDigest, layers, claim, a.now())
}
