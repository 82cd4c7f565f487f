package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// revise makes a claim of the one that is in force, which t then names. What the
// registry has of ours and the log does not know is taken over first.
func (w *Writer) revise(ctx context.Context, t *turn, p core.Predicate) (core.Predicate, bool, error) {
	if _, err := w.adopt(ctx, *t, core.Predicate{Type: p.Type}); err != nil {
		return core.Predicate{}, false, err
	}
	t.revised = true
	var before json.RawMessage
	e, err := w.store.Current(ctx, t.line)
	switch {
	case err == nil:
		if e, err = w.store.Get(ctx, e.ID); err != nil {
			return core.Predicate{}, false, err
		}
		st, err := attest.Untrusted(e.Bundle)
		if err != nil {
			return core.Predicate{}, false, fmt.Errorf("attestation in force: %w", err)
		}
		before, t.before = st.Predicate, e.ID
	case !errors.Is(err, store.ErrNotFound):
		return core.Predicate{}, false, err
	}
	made, ok, err := p.Revise(before)
	if err != nil || !ok {
		return core.Predicate{}, false, err
	}
	if made.Type != p.Type {
		return core.Predicate{}, false, fmt.Errorf("revised into another type, %q", made.Type)
	}
	if before != nil && core.SameContent(p.Type, before, made.JSON) {
		// What was taken over from the registry has another name for its content.
		made.ContentKey = e.ContentKey
	}
	return made, true, nil
}
