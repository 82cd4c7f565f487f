package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// Blob streams the blob d of ref's repository. The reader returns ErrDigestMismatch
// instead of io.EOF if the content is not what d says, and ErrUnavailable if the
// stream breaks or stalls; so the content counts only once io.EOF was seen. It
// never delivers more than d.Size bytes. A stream holds one of the registry's
// connection slots until it is closed: do not open a second one while holding one.
func (c *Client) Blob(ctx context.Context, ref imageref.Ref, d Descriptor) (io.ReadCloser, error) {
	const op = "get blob"
	t, err := c.target(op, ref)
	if err != nil {
		return nil, err
	}
	where := t.ref.Name() + "@" + d.Digest
	if err := imageref.CheckDigest(d.Digest); err != nil {
		return nil, &Error{Op: op, Where: clean(where), kind: ErrInvalidReference, cause: err}
	}
	if d.Size < 0 {
		return nil, &Error{Op: op, Where: where, kind: ErrInvalidReference, cause: fmt.Errorf("size %d", d.Size)}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	resp, err := c.send(ctx, t, request{ //nolint:bodyclose // blobReader closes it
		op: op, method: http.MethodGet, path: "blobs/" + d.Digest, want: []int{http.StatusOK}, stream: true,
	})
	if err != nil {
		cancel(nil)
		return nil, err
	}
	b := &blobReader{
		stall: newStallGuard(cancel, c.cfg.StallTimeout), ctx: ctx, cancel: cancel, body: resp.Body, op: op, where: where,
		want: d.Digest, left: d.Size, hash: sha256.New(),
	}
	if resp.ContentLength >= 0 && resp.ContentLength != d.Size {
		b.Close()
		return nil, b.mismatch(fmt.Errorf("the registry has %d bytes, the descriptor says %d", resp.ContentLength, d.Size))
	}
	return b, nil
}

// ReadBlob reads a whole blob of at most limit bytes and verifies it.
func (c *Client) ReadBlob(ctx context.Context, ref imageref.Ref, d Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, &Error{
			Op: "get blob", Where: clean(ref.Name() + "@" + d.Digest), kind: ErrTooLarge,
			cause: fmt.Errorf("%d bytes exceeds the limit of %d", d.Size, limit),
		}
	}
	r, err := c.Blob(ctx, ref, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// blobReader hashes what passes and speaks up at the end.
type blobReader struct {
	ctx    context.Context //nolint:containedctx // the cause of its end explains a read error
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	stall  *stallGuard

	op, where, want string
	left            int64
	hash            hash.Hash
	err             error
}

func (b *blobReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > b.left {
		// One byte more than there may be, to notice content that is too long.
		p = p[:b.left+1]
	}
	b.stall.start()
	n, err := b.body.Read(p)
	b.stall.stop()
	if int64(n) > b.left {
		b.err = b.mismatch(errors.New("more bytes than the descriptor says"))
		return int(b.left), b.err
	}
	b.left -= int64(n)
	b.hash.Write(p[:n])
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.err = b.atEnd()
	default:
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
		b.err = &Error{Op: b.op, Where: b.where, kind: ErrUnavailable, cause: err}
	}
	return n, b.err
}

func (b *blobReader) atEnd() error {
	if b.left > 0 {
		return b.mismatch(fmt.Errorf("%d bytes are missing", b.left))
	}
	if got := "sha256:" + hex.EncodeToString(b.hash.Sum(nil)); got != b.want {
		return b.mismatch(fmt.Errorf("the content is %s", got))
	}
	return io.EOF
}

func (b *blobReader) mismatch(cause error) error {
	return &Error{Op: b.op, Where: b.where, kind: ErrDigestMismatch, cause: cause}
}

// Close ends the stream. Reading after it fails.
func (b *blobReader) Close() error {
	b.cancel(nil)
	return b.body.Close()
}
