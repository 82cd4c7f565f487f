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

// acceptAny has the registry give what lies below a tag, whatever it is: what is not
// understood has to be recognised, not taken for absent.
var acceptAny = acceptManifests + ", */*;q=0.1"

// readReferrersTag reads the index of the referrers tag. It is ErrNotFound without a tag
// and ErrReferrersTag, with the digest of it in a brokenTagError, for something else.
func (c *Client) readReferrersTag(ctx context.Context, subject imageref.Ref) (referrersIndex, error) {
	const op = "read referrers tag"
	ref := imageref.Ref{Registry: subject.Registry, Repository: subject.Repository, Tag: ReferrersTag(subject.Digest)}
	doc, err := c.readTag(ctx, op, ref)
	if err != nil {
		return referrersIndex{}, err
	}
	index, err := parseReferrersIndex(doc.raw, c.maxListed())
	if err != nil {
		return referrersIndex{}, brokenAs(op, ref, doc.digest, ErrMalformed, err)
	}
	index.digest, index.etag = doc.digest, doc.etag
	return index, nil
}

// readReferrersTagToWrite is readReferrersTag for those who write it: a tag that is not
// there is empty, and so is a broken one, of which the second result tells.
func (c *Client) readReferrersTagToWrite(ctx context.Context, subject imageref.Ref) (referrersIndex, *brokenTagError, error) {
	index, err := c.readReferrersTag(ctx, subject)
	broken := new(brokenTagError)
	switch {
	case err == nil:
		return index, nil, nil
	case errors.As(err, &broken):
		return referrersIndex{}, broken, nil
	case errors.Is(err, ErrNotFound):
		return referrersIndex{}, nil, nil
	default:
		return referrersIndex{}, nil, err
	}
}

// brokenTagError is something below a tag that is not what belongs there.
type brokenTagError struct {
	// digest is empty if the registry did not say it of what was too large to read.
	digest string
	why    error
}

func (b *brokenTagError) Error() string {
	if b.digest == "" {
		return fmt.Sprintf("%v: %v", ErrReferrersTag, b.why)
	}
	return fmt.Sprintf("%v: %s: %v", ErrReferrersTag, b.digest, b.why)
}

func (b *brokenTagError) Unwrap() []error { return []error{ErrReferrersTag, b.why} }

func brokenAs(op string, ref imageref.Ref, digest string, kind, why error) error {
	return &Error{Op: op, Where: ref.String(), kind: kind, cause: &brokenTagError{digest: digest, why: why}}
}

// tagged is what lies below a tag.
type tagged struct {
	raw          []byte
	mediaType    string
	digest, etag string
}

// readTag reads what lies below a tag, whatever it is. Of what is too large only the
// error tells: it is a brokenTagError. An answer that does not come from the registry's store
// is temporary: a proxy's page must not count as the content of the tag.
func (c *Client) readTag(ctx context.Context, op string, ref imageref.Ref) (tagged, error) {
	t, err := c.target(op, ref)
	if err != nil {
		return tagged{}, err
	}
	resp, err := c.send(ctx, t, request{
		op: op, method: http.MethodGet, path: "manifests/" + ref.Tag,
		header: http.Header{"Accept": {acceptAny}}, want: []int{http.StatusOK},
	})
	if err != nil {
		return tagged{}, err
	}
	defer resp.Body.Close()
	said := resp.Header.Get("Docker-Content-Digest")
	if imageref.CheckDigest(said) != nil {
		said = ""
	}
	raw, err := readLimited(op, ref.String(), resp.Body, int64(c.cfg.MaxManifest))
	if errors.Is(err, ErrTooLarge) {
		return tagged{}, brokenAs(op, ref, said, ErrTooLarge, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, c.cfg.MaxManifest))
	}
	if err != nil {
		return tagged{}, err
	}
	doc := tagged{raw: raw, mediaType: mediaType(resp.Header), digest: Digest(raw), etag: strongETag(resp.Header)}
	switch {
	case said == "" && isWebPage(resp.Header, raw):
		return tagged{}, &Error{Op: op, Where: ref.String(), StatusCode: resp.StatusCode, kind: ErrUnavailable, cause: errNotAPI}
	case said != "" && said != doc.digest:
		return tagged{}, &Error{Op: op, Where: ref.String(), kind: ErrDigestMismatch, cause: fmt.Errorf("wanted %s, the content is %s", said, doc.digest)}
	}
	return doc, nil
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
		index, _, err := l.client.readReferrersTagToWrite(ctx, l.target.ref)
		if err != nil {
			return err
		}
		if len(index.missing(l.client.written.of(l.key), l.client.cfg.MaxReferrers)) == 0 {
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
		index, broken, err := c.readReferrersTagToWrite(ctx, t.ref)
		if err != nil {
			return err
		}
		if index.etag == refused {
			// Nobody wrote in between: this registry means something else by it.
			index.etag = ""
		}
		missing := index.missing(c.written.of(l.key), c.cfg.MaxReferrers)
		if len(missing) == 0 {
			l.settled = true
			return nil
		}
		next, lost, err := index.with(missing, c.cfg.MaxReferrers, c.maxListed(), int(c.cfg.MaxManifest))
		if err != nil {
			return &Error{Op: op, Where: l.key, kind: ErrMalformed, cause: err}
		}
		raw, err := next.marshal()
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
			err = c.putWithoutDangling(ctx, t, next, err)
		}
		if err == nil {
			c.repairs.note(ctx, t, ReferrersTag(t.ref.Digest), index, broken, lost)
		}
		return err
	}
	return &Error{Op: op, Where: l.key, kind: ErrUnavailable, cause: fmt.Errorf("overwritten by others %d times", maxRepairs)}
}

// missing are those of ds that a reader of at most limit entries does not find.
func (x *referrersIndex) missing(ds []Descriptor, limit int) []Descriptor {
	return slices.DeleteFunc(slices.Clone(ds), func(d Descriptor) bool { return x.has(d.Digest, limit) })
}

// with is the index with ds, which come first if not all readers read that far, and
// says how many entries it has no room for. What is garbage is left out.
func (x *referrersIndex) with(ds []Descriptor, visible, maxEntries, maxBytes int) (referrersIndex, int, error) {
	ours := make([]referrersEntry, 0, len(ds))
	for _, d := range ds {
		raw, err := json.Marshal(d)
		if err != nil {
			return referrersIndex{}, 0, err
		}
		ours = append(ours, referrersEntry{Descriptor: d, raw: raw})
	}
	others := slices.DeleteFunc(slices.Clone(x.entries), func(e referrersEntry) bool {
		return slices.ContainsFunc(ds, func(d Descriptor) bool { return d.Digest == e.Digest })
	})
	next := referrersIndex{annotations: x.annotations}
	if len(next.annotations) > maxBytes/4 {
		next.annotations = nil
	}
	const envelope = 256 // what the document has around its entries
	room := maxBytes - envelope - len(next.annotations)
	for _, e := range ours {
		room -= len(e.raw) + 1
	}
	kept := 0
	for _, e := range others {
		room -= len(e.raw) + 1
		if room < 0 || len(ours)+kept == maxEntries {
			break
		}
		kept++
	}
	lost := len(others) - kept
	if others = others[:kept]; len(ours)+len(others) > visible || lost > 0 || x.cut {
		next.entries = slices.Concat(ours, others)
	} else {
		next.entries = slices.Concat(others, ours)
	}
	return next, lost, nil
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
	// The bound is for a stranger who lists thousands: the first entries are ours then.
	for _, e := range index.entries[:min(len(index.entries), c.cfg.MaxReferrers)] {
		ref := t.ref
		ref.Digest = e.Digest
		if _, err := c.Resolve(ctx, ref); Temporary(err) || errors.Is(err, ErrUnauthorized) {
			return err
		} else if err != nil {
			continue // gone, or nothing that the registry would ever take
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
