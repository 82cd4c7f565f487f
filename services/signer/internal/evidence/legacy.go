package evidence

import (
	"context"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// AlsoForOldReaders makes the writer write a second time what is signed with a
// key, in the form that clients from before Sigstore bundles read. It must be
// called before the writer is used.
func (w *Writer) AlsoForOldReaders() { w.legacy = true }

// attachLegacy is done before the entry is: a crash in between repeats both.
func (w *Writer) attachLegacy(ctx context.Context, ref imageref.Ref, e store.Entry) error {
	if !w.legacy {
		return nil
	}
	return attest.AttachLegacy(ctx, w.registry, ref, e.Bundle, e.PredicateType, e.Identity)
}
