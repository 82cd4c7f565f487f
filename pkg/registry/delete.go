package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// ErrNoDeletes means that the registry deletes no manifests at all. Many are set up so.
var ErrNoDeletes = errors.New("registry does not delete")

// DeleteReferrer deletes the manifest digest that refers to subject, which ref
// names by digest, and takes it off the referrers tag if it is listed there. The
// blobs are left to the registry's garbage collection. A manifest that the registry says
// is not there is no error; that it does not find the path or the repository is one. The
// caller answers for whose manifest it is.
func (c *Client) DeleteReferrer(ctx context.Context, subject imageref.Ref, digest string) error {
	const op = "delete referrer"
	subject.Tag = ""
	t, err := c.target(op, subject)
	if err != nil {
		return err
	}
	for _, d := range []string{subject.Digest, digest} {
		if err := imageref.CheckDigest(d); err != nil {
			return &Error{Op: op, Where: clean(subject.String()), kind: ErrInvalidReference, cause: err}
		}
	}
	if subject.Digest == digest {
		return &Error{Op: op, Where: subject.String(), kind: ErrInvalidReference, cause: errors.New("it is the subject itself")}
	}
	resp, err := c.send(ctx, t, request{
		op: op, method: http.MethodDelete, path: "manifests/" + digest, push: true, remove: true,
		want: []int{http.StatusAccepted, http.StatusOK, http.StatusNoContent},
	})
	failure := new(Error)
	switch {
	case err == nil:
		resp.Body.Close()
	case !errors.As(err, &failure):
		return err
	case failure.StatusCode == http.StatusMethodNotAllowed || failure.Code == "UNSUPPORTED":
		return fmt.Errorf("%w: %w", ErrNoDeletes, err)
	case !failure.unknownManifest(digest):
		return err
	}
	return c.dropFromTag(ctx, t, digest)
}

// unknownManifest tells whether the registry says that it does not have this manifest.
// A bare 404 may be a proxy's, and an unknown repository is what many registries answer
// to those who may not see it.
func (e *Error) unknownManifest(digest string) bool {
	if e.StatusCode != http.StatusNotFound {
		return false
	}
	// Harbor has one code for all that is missing and names it in the message.
	return e.Code == "MANIFEST_UNKNOWN" || e.Code == "NOT_FOUND" && strings.Contains(e.Message, digest)
}

// dropFromTag takes a digest off the referrers tag of t's digest, as often as
// others put it back in between.
func (c *Client) dropFromTag(ctx context.Context, t target, digest string) error {
	const op = "write referrers tag"
	key := t.ref.Name() + "@" + t.ref.Digest
	c.written.forget(key, digest)
	unlock, err := c.lockSubject(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	refused := ""
	for range maxRepairs {
		index, _, err := c.readReferrersTagToWrite(ctx, t.ref)
		if err != nil {
			return err
		}
		if index.etag == refused {
			index.etag = ""
		}
		if !index.has(digest, len(index.entries)) {
			return nil
		}
		index.drop(digest)
		raw, err := index.marshal()
		if err != nil {
			return &Error{Op: op, Where: key, kind: ErrMalformed, cause: err}
		}
		err = c.putIndex(ctx, t, index.etag, raw)
		if isOverwrite(err) {
			refused = index.etag
			continue
		}
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrRejected) {
			err = c.putWithoutDangling(ctx, t, index, err)
		}
		if err != nil {
			return err
		}
	}
	return &Error{Op: op, Where: key, kind: ErrUnavailable, cause: fmt.Errorf("put back by others %d times", maxRepairs)}
}

func (x *referrersIndex) drop(digest string) {
	kept := x.entries[:0:0]
	for _, e := range x.entries {
		if e.Digest != digest {
			kept = append(kept, e)
		}
	}
	x.entries = kept
}
