package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// maxReferrerPages bounds how far a registry can lead us on.
const maxReferrerPages = 64

// Referrers lists what refers to the digest of subject: through the referrers
// API or, where the registry has none, the referrers tag. More than
// Config.MaxReferrers are ErrTooLarge: a part of the list would look like all of
// it. An image nobody refers to has an empty list, even if it does not exist.
//
// The descriptors are the registry's word (one known registry reports a wrong
// artifact type); Manifest verifies them. Entries that cannot be manifests of
// this repository are left out.
func (c *Client) Referrers(ctx context.Context, subject imageref.Ref) ([]Descriptor, error) {
	const op = "list referrers"
	t, err := c.target(op, subject)
	if err != nil {
		return nil, err
	}
	if subject.Digest == "" {
		return nil, &Error{Op: op, Where: subject.String(), kind: ErrInvalidReference, cause: errors.New("no digest")}
	}
	list, err := c.referrersAPI(ctx, t)
	if !noReferrersAPI(err) {
		return list, err
	}
	index, err := c.readReferrersTag(ctx, t.ref)
	if err != nil {
		return nil, err
	}
	return index.descriptors(), nil
}

// noReferrersAPI recognises how registries without the API answer.
func noReferrersAPI(err error) bool {
	failure := new(Error)
	if !errors.As(err, &failure) {
		return false
	}
	switch failure.StatusCode {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable:
		return true
	default:
		return false
	}
}

func (c *Client) referrersAPI(ctx context.Context, t target) ([]Descriptor, error) {
	const op = "list referrers"
	where := t.ref.Name() + "@" + t.ref.Digest
	var all []Descriptor
	seen := map[string]bool{}
	r := request{
		op: op, method: http.MethodGet, path: "referrers/" + t.ref.Digest,
		header: http.Header{"Accept": {MediaTypeOCIIndex}}, want: []int{http.StatusOK},
	}
	for range maxReferrerPages {
		index, next, err := c.referrersPage(ctx, t, r)
		if err != nil {
			return nil, err
		}
		for _, d := range index.descriptors() {
			if !seen[d.Digest] {
				seen[d.Digest] = true
				all = append(all, d)
			}
		}
		if len(all) > c.cfg.MaxReferrers {
			return nil, &Error{Op: op, Where: where, kind: ErrTooLarge, cause: fmt.Errorf("more than %d referrers", c.cfg.MaxReferrers)}
		}
		if next == nil {
			return all, nil
		}
		r.url = next
	}
	return nil, &Error{Op: op, Where: where, kind: ErrTooLarge, cause: fmt.Errorf("more than %d pages", maxReferrerPages)}
}

func (c *Client) referrersPage(ctx context.Context, t target, r request) (referrersIndex, *url.URL, error) {
	where := t.ref.Name() + "@" + t.ref.Digest
	resp, err := c.send(ctx, t, r)
	if err != nil {
		return referrersIndex{}, nil, err
	}
	defer resp.Body.Close()
	raw, err := readLimited(r.op, where, resp.Body, int64(c.cfg.MaxManifest))
	if err != nil {
		return referrersIndex{}, nil, err
	}
	index, err := parseReferrersIndex(raw, c.cfg.MaxReferrers)
	if err != nil {
		return referrersIndex{}, nil, &Error{Op: r.op, Where: where, kind: kindOfIndexError(err), cause: err}
	}
	next, err := nextPage(resp)
	if err != nil {
		return referrersIndex{}, nil, &Error{Op: r.op, Where: where, kind: ErrMalformed, cause: err}
	}
	return index, next, nil
}

// A link of a Link header (RFC 8288) with its parameters, and the parameter that
// makes it the next page.
var (
	linkPattern    = regexp.MustCompile(`<([^>]*)>([^<]*)`)
	relNextPattern = regexp.MustCompile(`(?i);\s*rel\s*=\s*"?\s*next\s*"?\s*(;|,|$)`)
)

// nextPage reads the Link header. A page may only follow on the same host below
// the same path: a registry cannot send us elsewhere.
func nextPage(resp *http.Response) (*url.URL, error) {
	for _, header := range resp.Header.Values("Link") {
		for _, link := range linkPattern.FindAllStringSubmatch(header, -1) {
			if !relNextPattern.MatchString(link[2]) {
				continue
			}
			next, err := resp.Request.URL.Parse(link[1])
			if err != nil {
				return nil, fmt.Errorf("next page: %w", err)
			}
			here := resp.Request.URL
			if next.Scheme != here.Scheme || next.Host != here.Host || next.Path != here.Path || next.User != nil {
				return nil, fmt.Errorf("next page is elsewhere: %q", clean(next.Redacted()))
			}
			return next, nil
		}
	}
	return nil, nil //nolint:nilnil // no next page is the usual case
}

// referrersIndex is an OCI index whose entries are kept as they are, so that
// writing it back loses nothing that we do not know.
type referrersIndex struct {
	entries []referrersEntry
	// annotations of the index itself.
	annotations json.RawMessage
	// etag is what the registry called the version that was read; empty if it does
	// not say, or only weakly.
	etag string
}

type referrersEntry struct {
	Descriptor
	raw json.RawMessage
}

var errTooManyReferrers = errors.New("too many referrers")

func kindOfIndexError(err error) error {
	if errors.Is(err, errTooManyReferrers) {
		return ErrTooLarge
	}
	return ErrMalformed
}

// parseReferrersIndex reads an index of at most limit entries.
func parseReferrersIndex(raw []byte, limit int) (referrersIndex, error) {
	var doc struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []json.RawMessage `json:"manifests"`
		Layers        json.RawMessage   `json:"layers"`
		Config        json.RawMessage   `json:"config"`
		Annotations   json.RawMessage   `json:"annotations"`
	}
	if err := strictjson.Unmarshal(raw, &doc); err != nil {
		return referrersIndex{}, fmt.Errorf("list of referrers: %w", err)
	}
	if doc.MediaType != "" && doc.MediaType != MediaTypeOCIIndex || doc.Layers != nil || doc.Config != nil {
		return referrersIndex{}, fmt.Errorf("referrers are not an index but %q", clean(doc.MediaType))
	}
	if len(doc.Manifests) > limit {
		return referrersIndex{}, fmt.Errorf("%w: %d, the limit is %d", errTooManyReferrers, len(doc.Manifests), limit)
	}
	index := referrersIndex{annotations: doc.Annotations}
	for i, entry := range doc.Manifests {
		e := referrersEntry{raw: entry}
		if err := strictjson.Unmarshal(entry, &e.Descriptor); err != nil {
			return referrersIndex{}, fmt.Errorf("referrer %d: %w", i, err)
		}
		index.entries = append(index.entries, e)
	}
	return index, nil
}

// descriptors are the entries that can be manifests, each digest once.
func (x *referrersIndex) descriptors() []Descriptor {
	out := make([]Descriptor, 0, len(x.entries))
	seen := make(map[string]bool, len(x.entries))
	for _, e := range x.entries {
		if imageref.CheckDigest(e.Digest) != nil || e.Size <= 0 || seen[e.Digest] ||
			e.MediaType != MediaTypeOCIManifest && e.MediaType != MediaTypeOCIIndex {
			continue
		}
		seen[e.Digest] = true
		out = append(out, e.Descriptor)
	}
	return out
}

func (x *referrersIndex) has(digest string) bool {
	for _, e := range x.entries {
		if e.Digest == digest {
			return true
		}
	}
	return false
}

func (x *referrersIndex) marshal() ([]byte, error) {
	doc := struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []json.RawMessage `json:"manifests"`
		Annotations   json.RawMessage   `json:"annotations,omitempty"`
	}{SchemaVersion: 2, MediaType: MediaTypeOCIIndex, Manifests: []json.RawMessage{}, Annotations: x.annotations}
	for _, e := range x.entries {
		doc.Manifests = append(doc.Manifests, e.raw)
	}
	return json.Marshal(doc)
}
