package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// maxRepairs is how often one write is repeated because others overwrote it.
const maxRepairs = 10

// settleTime is how long after a write the index is looked at once more. A
// writer in another process that had read the index before our write overwrites
// it within one round trip.
const settleTime = 60 * time.Millisecond

// ReferrersTag is the tag that lists the referrers of a digest in registries
// without the referrers API (OCI distribution specification 1.1, referrers tag schema).
func ReferrersTag(digest string) string { return strings.Replace(digest, ":", "-", 1) }

// readReferrersTag gives the index of the referrers tag, an empty one if there is none.
func (c *Client) readReferrersTag(ctx context.Context, subject imageref.Ref) (referrersIndex, error) {
	const op = "read referrers tag"
	ref := imageref.Ref{Registry: subject.Registry, Repository: subject.Repository, Tag: ReferrersTag(subject.Digest)}
	_, raw, header, err := c.manifest(ctx, ref)
	if errors.Is(err, ErrNotFound) {
		return referrersIndex{}, nil
	}
	if err != nil {
		return referrersIndex{}, err
	}
	index, err := parseReferrersIndex(raw, c.cfg.MaxReferrers)
	if err != nil {
		return referrersIndex{}, &Error{Op: op, Where: ref.String(), kind: kindOfIndexError(err), cause: err}
	}
	index.etag = strongETag(header)
	return index, nil
}

// strongETag is how the registry calls the version that it answered with; empty if
// it does not say, or only weakly.
func strongETag(h http.Header) string {
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return ""
}

// ifMatch is the condition that the version called etag is still there, none if
// that is empty.
func ifMatch(etag string) http.Header {
	if etag == "" {
		return http.Header{}
	}
	return http.Header{"If-Match": {etag}}
}

// Listing is what was written into the referrers tag of a subject, which others may
// overwrite: most registries have no compare-and-swap. Settle ends it.
type Listing struct {
	client  *Client
	target  target
	key     string
	ds      []Descriptor
	settled bool
}

// ListReferrers writes descriptors that PutReferrerManifest returned into the
// referrers tag of subject's digest, all at once. Writers of this process take turns,
// and those of all processes that share a lock; registries with conditional writes
// refuse what would overwrite something newer.
func (c *Client) ListReferrers(ctx context.Context, subject imageref.Ref, ds ...Descriptor) (*Listing, error) {
	const op = "write referrers tag"
	t, err := c.target(op, subject)
	if err != nil {
		return nil, err
	}
	if subject.Digest == "" {
		return nil, &Error{Op: op, Where: subject.String(), kind: ErrInvalidReference, cause: errors.New("no digest")}
	}
	l := &Listing{client: c, target: t, key: t.ref.Name() + "@" + t.ref.Digest, ds: ds}
	for _, d := range ds {
		c.written.add(l.key, d)
	}
	return l, l.merge(ctx)
}

// Settle waits until a writer that read the tag before it was written has written as
// well, looks once more, and puts back what was overwritten, until it stands. It
// waits 60 ms or more, and not at all if nothing had to be written.
func (l *Listing) Settle(ctx context.Context) error {
	const op = "write referrers tag"
	for try := 1; !l.settled; try++ {
		if try > maxRepairs {
			return &Error{Op: op, Where: l.key, kind: ErrUnavailable, cause: fmt.Errorf("overwritten by others %d times", maxRepairs)}
		}
		// The spread keeps two processes from overwriting each other in step.
		wait := settleTime + rand.N(settleTime*time.Duration(try)) //nolint:gosec // jitter needs no secrecy
		if err := l.client.sleep(ctx, wait); err != nil {
			return &Error{Op: op, Where: l.key, kind: ErrUnavailable, cause: err}
		}
		index, err := l.client.readReferrersTag(ctx, l.target.ref)
		if err != nil {
			return err
		}
		if index.hasAll(l.client.written.of(l.key)) {
			return nil
		}
		if err := l.merge(ctx); err != nil {
			return err
		}
	}
	return nil
}

// merge adds to the tag's index what this process put there and is not listed. If
// there is nothing to add, it is settled.
func (l *Listing) merge(ctx context.Context) error {
	const op = "write referrers tag"
	c, t := l.client, l.target
	unlock, err := c.lockSubject(ctx, l.key)
	if err != nil {
		return err
	}
	defer unlock()
	refused := ""
	for range maxRepairs {
		index, err := c.readReferrersTag(ctx, t.ref)
		if err != nil {
			return err
		}
		if index.etag == refused {
			// Nobody wrote in between: this registry means something else by it.
			index.etag = ""
		}
		missing, err := index.add(c.written.of(l.key))
		if err != nil {
			return &Error{Op: op, Where: l.key, kind: ErrMalformed, cause: err}
		}
		if missing == 0 {
			l.settled = true
			return nil
		}
		if len(index.entries) > c.cfg.MaxReferrers {
			return &Error{Op: op, Where: l.key, kind: ErrTooLarge, cause: fmt.Errorf("more than %d referrers", c.cfg.MaxReferrers)}
		}
		raw, err := index.marshal()
		if err != nil {
			return &Error{Op: op, Where: l.key, kind: ErrMalformed, cause: err}
		}
		err = c.putIndex(ctx, t, index.etag, raw)
		if isOverwrite(err) {
			refused = index.etag
			continue
		}
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrRejected) {
			c.written.only(l.key, l.ds...)
			err = c.putWithoutDangling(ctx, t, index, err)
		}
		return err
	}
	return &Error{Op: op, Where: l.key, kind: ErrUnavailable, cause: fmt.Errorf("overwritten by others %d times", maxRepairs)}
}

// putIndex writes the referrers tag on condition that the version called etag is
// still there, if that is not empty. Registries that know no conditions ignore it.
func (c *Client) putIndex(ctx context.Context, t target, etag string, raw []byte) error {
	_, err := c.putManifestIf(ctx, t, ReferrersTag(t.ref.Digest), MediaTypeOCIIndex, raw, ifMatch(etag))
	return err
}

// isOverwrite reports whether a write was refused because others wrote before.
func isOverwrite(err error) bool {
	failure := new(Error)
	return errors.As(err, &failure) && failure.StatusCode == http.StatusPreconditionFailed
}

// putWithoutDangling writes index without the entries whose manifests are gone:
// most registries refuse an index that names what they do not have. If nothing
// is gone, that was not the reason, and refused is returned.
func (c *Client) putWithoutDangling(ctx context.Context, t target, index referrersIndex, refused error) error {
	kept := referrersIndex{annotations: index.annotations}
	for _, e := range index.entries {
		ref := t.ref
		ref.Digest = e.Digest
		if _, err := c.Resolve(ctx, ref); errors.Is(err, ErrNotFound) || errors.Is(err, ErrInvalidReference) {
			continue
		} else if err != nil {
			return err
		}
		kept.entries = append(kept.entries, e)
	}
	if len(kept.entries) == len(index.entries) {
		return refused
	}
	raw, err := kept.marshal()
	if err != nil {
		return &Error{Op: "write referrers tag", Where: t.ref.Name(), kind: ErrMalformed, cause: err}
	}
	_, err = c.putManifest(ctx, t, ReferrersTag(t.ref.Digest), MediaTypeOCIIndex, raw)
	return err
}

func (x *referrersIndex) hasAll(ds []Descriptor) bool {
	return !slices.ContainsFunc(ds, func(d Descriptor) bool { return !x.has(d.Digest) })
}

// add appends the descriptors that are not listed and says how many those were.
func (x *referrersIndex) add(ds []Descriptor) (int, error) {
	added := 0
	for _, d := range ds {
		if x.has(d.Digest) {
			continue
		}
		raw, err := json.Marshal(d)
		if err != nil {
			return 0, err
		}
		x.entries = append(x.entries, referrersEntry{Descriptor: d, raw: raw})
		added++
	}
	return added, nil
}

// putManifest stores a manifest under a tag or digest. The answer's headers say
// whether the registry understood the subject.
func (c *Client) putManifest(ctx context.Context, t target, name, mediaType string, raw []byte) (http.Header, error) {
	return c.putManifestIf(ctx, t, name, mediaType, raw, http.Header{})
}

// putManifestIf is putManifest with conditions in header.
func (c *Client) putManifestIf(ctx context.Context, t target, name, mediaType string, raw []byte, header http.Header) (http.Header, error) {
	const op = "put manifest"
	header.Set("Content-Type", mediaType)
	resp, err := c.send(ctx, t, request{
		op: op, method: http.MethodPut, path: "manifests/" + name, body: raw, push: true,
		header: header,
		want:   []int{http.StatusCreated, http.StatusOK, http.StatusAccepted},
	})
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != Digest(raw) {
		return nil, &Error{
			Op: op, Where: t.ref.Name() + " " + name, kind: ErrDigestMismatch,
			cause: fmt.Errorf("stored as %s, sent %s", clean(got), Digest(raw)),
		}
	}
	return resp.Header, nil
}
