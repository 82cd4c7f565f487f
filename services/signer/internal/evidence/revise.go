package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// revise makes the claim of the one that is in force, and says false if there is
// nothing to claim. What the registry has of ours and the log does not know is taken
// over first.
func (w *Writer) revise(ctx context.Context, im *image, c *claim) (bool, error) {
	if _, err := w.adopt(ctx, im, c); err != nil {
		return false, err
	}
	c.revised = true
	e, err := w.store.Current(ctx, c.line)
	var before json.RawMessage
	switch {
	case err == nil:
		if before, err = w.predicateOf(ctx, im, e.ID); err != nil {
			return false, err
		}
		c.before = e.ID
	case !errors.Is(err, store.ErrNotFound):
		return false, err
	}
	made, ok, err := c.p.Revise(before)
	if err != nil || !ok {
		return false, err
	}
	if made.Type != c.p.Type {
		return false, fmt.Errorf("revised into another type, %q", made.Type)
	}
	if before != nil && core.SameContent(c.p.Type, before, made.JSON) {
		// What was taken over from the registry has another name for its content.
		made.ContentKey = e.ContentKey
	}
	c.p = made
	return true, nil
}

// predicateOf is what an entry claims; nil if the registry has it no longer, for then
// no reader has it either.
func (w *Writer) predicateOf(ctx context.Context, im *image, id string) (json.RawMessage, error) {
	e, err := w.store.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	bundle, err := w.bundleOf(ctx, im.ref, e)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("attestation in force: %w", err)
	}
	st, err := attest.Untrusted(bundle)
	if err != nil {
		return nil, fmt.Errorf("attestation in force: %w", err)
	}
	return st.Predicate, nil
}
