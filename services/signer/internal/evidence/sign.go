package evidence

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// signAll signs the claims that the log has nothing for and writes them down, all in
// one transaction. What was signed is written down although signing another failed:
// the next attempt need not sign it again.
func (w *Writer) signAll(ctx context.Context, im *image, work []*claim) error {
	var todo []*claim
	for _, c := range work {
		if c.entry.ID == "" {
			todo = append(todo, c)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	failure := each(ctx, todo, func(ctx context.Context, c *claim) error { return w.sign(ctx, im, c) })
	if err := w.begin(ctx, todo); err != nil {
		return err
	}
	return failure
}

// begin writes down the claims that were signed, or finds out that others stand for
// them by now.
func (w *Writer) begin(ctx context.Context, claims []*claim) error {
	var signed []*claim
	var entries []store.Entry
	for _, c := range claims {
		if c.bundle != nil {
			signed, entries = append(signed, c), append(entries, c.entry)
		}
	}
	if len(signed) == 0 {
		return nil
	}
	stored, err := w.store.Begin(ctx, entries, func(i int, current store.Entry) bool { return signed[i].serves(w, current) })
	if err != nil {
		return err
	}
	for i, c := range signed {
		e := stored[i]
		switch {
		case e.ID == c.entry.ID && e.Manifest != nil:
			c.outcome, c.attach = outcomeSigned, true
		case c.changed:
			return fmt.Errorf("%s: %w", c.p.Type, ErrRevised)
		default: // another process was faster
			c.entry, c.bundle, c.outcome, c.attach = e, nil, outcomeResumed, !e.Done()
		}
	}
	return nil
}

// sign signs a claim and puts the bundle into the repository. Nobody sees it there
// before a manifest names it; without one the registry's garbage collection takes it.
func (w *Writer) sign(ctx context.Context, im *image, c *claim) error {
	payload, err := w.payload(c)
	if err != nil {
		return fmt.Errorf("build statement: %w", err)
	}
	content, err := payload.Digest()
	if err != nil {
		return err
	}
	signed, err := c.by.Sign(ctx, payload)
	if err != nil {
		return fmt.Errorf("sign statement: %w", err)
	}
	digest, err := signed.Bundle.Digest()
	if err != nil {
		return err
	}
	// The manifest's annotation has whole seconds.
	now := w.now().UTC().Truncate(time.Second)
	manifest, err := attest.Manifest(im.subject, digest, signed.Bundle.Size(), c.p.Type, now)
	if err != nil {
		return fmt.Errorf("make manifest: %w", err)
	}
	upload := registry.Upload{Digest: digest, Size: signed.Bundle.Size(), Reader: signed.Bundle.Reader}
	if err := w.registry.PutBlob(ctx, im.ref, upload); err != nil {
		return fmt.Errorf("upload attestation: %w", err)
	}
	key := store.Key{Line: c.line, ContentKey: c.p.ContentKey}
	c.entry = store.Entry{
		ID: store.ID(key, c.p.Time, signed.KeyID), Key: key, ClaimTime: c.p.Time, ContentDigest: content,
		KeyID: signed.KeyID, Manifest: manifest, LogIndex: signed.LogIndex, ProvenTime: signed.ProvenTime,
		SignTime: now, TraceID: obs.TraceID(ctx),
	}
	c.bundle = signed.Bundle
	return nil
}

func (w *Writer) payload(c *claim) (attest.Payload, error) {
	st := attest.Statement{
		Subject:       []attest.Subject{{Name: c.line.Registry + "/" + c.line.Repository, SHA256: strings.TrimPrefix(c.line.SubjectDigest, "sha256:")}},
		PredicateType: c.p.Type,
		Predicate:     c.p.JSON,
	}
	if c.p.Document != nil {
		return attest.NewDocumentPayload(st, c.p.Document)
	}
	return attest.NewPayload(st)
}

// recall makes a claim of the log ready to be attached: its bundle has to be in the
// repository. If that was collected as garbage meanwhile the claim is signed anew.
func (w *Writer) recall(ctx context.Context, im *image, c *claim) error {
	e, err := w.store.Get(ctx, c.entry.ID)
	if err != nil {
		return err
	}
	c.entry = e
	if e.Manifest == nil {
		return w.recallOld(ctx, im, c)
	}
	layer, err := layerOf(e.Manifest)
	if err != nil {
		return err
	}
	there, err := w.registry.HasBlob(ctx, im.ref, layer.Digest)
	if err != nil || there {
		return err
	}
	return w.renew(ctx, im, c)
}

// renew signs a claim in place of an entry whose bundle is lost.
func (w *Writer) renew(ctx context.Context, im *image, c *claim) error {
	w.log.WarnContext(ctx, "bundle of an attestation missing in the registry; signing it again", imageAttr(im.ref), typeAttr(c.p.Type))
	if err := w.store.Lose(ctx, c.entry, w.now()); err != nil {
		return err
	}
	if c.before == c.entry.ID {
		c.revised = false // what it was made of is no longer there to be compared with
	}
	if err := w.sign(ctx, im, c); err != nil {
		return err
	}
	if err := w.begin(ctx, []*claim{c}); err != nil {
		return err
	}
	if c.bundle == nil {
		return fmt.Errorf("%w: another process signs it", ErrRevised)
	}
	return nil
}

// recallOld puts the bundle of an entry of an older release, which kept it in the log,
// into the repository.
func (w *Writer) recallOld(ctx context.Context, im *image, c *claim) error {
	c.bundle = attest.BundleOf(c.entry.Bundle)
	digest, err := c.bundle.Digest()
	if err != nil {
		return err
	}
	if c.entry.Manifest, err = attest.Manifest(im.subject, digest, c.bundle.Size(), c.entry.PredicateType, c.entry.SignTime); err != nil {
		return fmt.Errorf("make manifest: %w", err)
	}
	return w.registry.PutBlob(ctx, im.ref, registry.Upload{Digest: digest, Size: c.bundle.Size(), Reader: c.bundle.Reader})
}

// bundleOf reads the bundle of an entry that Get returned, of at most
// attest.MaxBundle bytes.
func (w *Writer) bundleOf(ctx context.Context, ref imageref.Ref, e store.Entry) ([]byte, error) {
	if e.Manifest == nil {
		return e.Bundle, nil
	}
	layer, err := layerOf(e.Manifest)
	if err != nil {
		return nil, err
	}
	return w.registry.ReadBlob(ctx, imageref.Ref{Registry: ref.Registry, Repository: ref.Repository}, layer, attest.MaxBundle)
}
