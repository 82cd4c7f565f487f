package evidence

import (
	"context"
	"errors"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// EnableLegacyTags makes the writer write a second time what is signed with a
// key, in the form that clients from before Sigstore bundles read. It must be
// called before the writer is used.
func (w *Writer) EnableLegacyTags() { w.legacy = true }

// attachLegacy is done before the entry is: a crash in between repeats both. That form
// is made in memory; what is too large for that is left out.
func (w *Writer) attachLegacy(ctx context.Context, ref imageref.Ref, c *claim) error {
	if !w.legacy {
		return nil
	}
	bundle, err := w.inMemory(ctx, ref, c)
	if errors.Is(err, attest.ErrTooLarge) || errors.Is(err, registry.ErrTooLarge) {
		w.log.WarnContext(ctx, "attestation too large for the legacy tag", imageAttr(ref), typeAttr(c.entry.PredicateType))
		return nil
	}
	if err != nil {
		return err
	}
	return attest.AttachLegacy(ctx, w.registry, ref, bundle, c.entry.PredicateType, c.entry.Identity)
}

func (w *Writer) inMemory(ctx context.Context, ref imageref.Ref, c *claim) ([]byte, error) {
	if c.bundle != nil {
		return c.bundle.Bytes()
	}
	return w.bundleOf(ctx, ref, c.entry)
}
