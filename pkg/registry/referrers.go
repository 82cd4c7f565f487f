package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

const (
	// maxReferrerPages and maxReferrerBytes bound how far a registry can lead us on.
	maxReferrerPages = 64
	maxReferrerBytes = 32 << 20
)

// Filter says which referrers somebody looks for. The zero value is for all.
type Filter struct {
	// ArtifactType is what the registry is asked for if the list of all types is too
	// long. Registries list all types otherwise: some report wrong ones.
	ArtifactType string
	// Keep says of an entry whether it is wanted. What is not wanted takes no place in
	// the list. Nil keeps all.
	Keep func(Descriptor) bool
	// First are digests that are listed whatever the limit, if the registry lists them:
	// others must not crowd them out.
	First []string
	// Until ends the search once all these digests were found. They are listed as First is.
	Until []string
}

// List is what refers to a subject.
type List struct {
	// Referrers are the entries that can be manifests, each digest once. Apart from the
	// digest they are the registry's word (one known registry reports a wrong artifact
	// type, others a size of 0); Manifest verifies them.
	Referrers []Descriptor
	// Rejected are entries that name nothing that can be read, and lists that cannot be
	// read; at most 16 are named.
	Rejected []RejectedReferrer
	// Incomplete says why there may be more than was listed. It is nil for a whole list.
	Incomplete error
}

// Has says whether a digest is listed.
func (l List) Has(digest string) bool {
	return slices.ContainsFunc(l.Referrers, func(d Descriptor) bool { return d.Digest == digest })
}

// RejectedReferrer is an entry of a list that cannot be used.
type RejectedReferrer struct {
	// Digest is empty if it is none.
	Digest string
	Why    string
}

// ErrReferrersTag means that something else than a list of referrers lies below the
// referrers tag: nothing is known of the referrers then. ListReferrers repairs it.
var ErrReferrersTag = errors.New("the referrers tag is broken")

// Referrers lists what refers to the digest of subject. It reads both the referrers API
// and the referrers tag: registries answer an API with an empty list although they list
// nothing by themselves, and writers use the tag then. An empty list without an error
// means that the registry said so. Errors are ErrNotFound if the registry does not know
// the subject, ErrReferrersTag, and those of all requests.
//
// At most Config.MaxReferrers entries are kept; a longer list is incomplete, which is
// ErrTooLarge.
func (c *Client) Referrers(ctx context.Context, subject imageref.Ref, f Filter) (List, error) {
	const op = "list referrers"
	t, err := c.target(op, subject)
	if err != nil {
		return List{}, err
	}
	if subject.Digest == "" {
		return List{}, &Error{Op: op, Where: subject.String(), kind: ErrInvalidReference, cause: errors.New("no digest")}
	}
	l := &lister{filter: f, limit: c.cfg.MaxReferrers, seen: map[string]bool{}}
	api, err := c.listFromAPI(ctx, t, l)
	if err != nil {
		return List{}, err
	}
	if api && l.foundAll() {
		return l.List, nil
	}
	err = c.listFromTag(ctx, t, l, api)
	return l.List, err
}

// listFromAPI reads the referrers API and says whether there is one.
func (c *Client) listFromAPI(ctx context.Context, t target, l *lister) (bool, error) {
	err := c.readPages(ctx, t, l, nil)
	if noReferrersAPI(err) {
		return false, nil
	}
	if err != nil || l.Incomplete == nil || l.filter.ArtifactType == "" {
		return err == nil, err
	}
	// What is looked for may be in the part that was not read. Registries that cannot
	// filter give the same again, which adds nothing.
	whole := l.Incomplete
	l.Incomplete = nil
	err = c.readPages(ctx, t, l, url.Values{"artifactType": {l.filter.ArtifactType}})
	if err != nil && !noReferrersAPI(err) {
		return false, err
	}
	l.Incomplete = whole
	return true, nil
}

// listFromTag adds what the referrers tag lists. If there is no API, nothing else is
// known.
func (c *Client) listFromTag(ctx context.Context, t target, l *lister, api bool) error {
	index, err := c.readReferrersTag(ctx, t.ref)
	switch {
	case errors.Is(err, ErrReferrersTag) && api && len(l.Referrers) > 0:
		// What the API lists stands; that the tag is broken is said.
		l.reject("", err.Error())
		return nil
	case errors.Is(err, ErrNotFound):
		if api {
			return nil
		}
		return c.confirmNone(ctx, t, err)
	case err != nil:
		return err
	}
	l.add(index)
	return nil
}

// confirmNone decides whether a referrers tag that is not there means that there are no
// referrers. A registry says in its own words which it lacks. Without them, or if it
// does not know the repository, it has to know the subject at least: otherwise somebody
// else answered, or the registry does not let us see.
func (c *Client) confirmNone(ctx context.Context, t target, missing error) error {
	failure := new(Error)
	if errors.As(missing, &failure) && failure.Code != "" && failure.Code != "NAME_UNKNOWN" {
		return nil
	}
	_, err := c.Resolve(ctx, t.ref)
	return err
}

// noReferrersAPI recognises how registries without the API answer.
func noReferrersAPI(err error) bool {
	failure := new(Error)
	if !errors.As(err, &failure) || errors.Is(err, errLaterPage) {
		return false
	}
	if errors.Is(err, errNotAPI) {
		return true
	}
	switch failure.StatusCode {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	default:
		return false
	}
}

var (
	// errNotAPI: the address of the API is answered with a page for people.
	errNotAPI = errors.New("the answer is a web page")
	// errLaterPage: the API is there, but not its next page.
	errLaterPage = errors.New("a later page of the list")
)

// readPages reads the API page by page. A page that is too large, and later ones that
// fail for good, leave the list incomplete.
func (c *Client) readPages(ctx context.Context, t target, l *lister, query url.Values) error {
	r := request{
		op: "list referrers", method: http.MethodGet, path: "referrers/" + t.ref.Digest, query: query,
		header: http.Header{"Accept": {MediaTypeOCIIndex}}, want: []int{http.StatusOK},
	}
	visited := map[string]bool{}
	left := int64(max(maxReferrerBytes, int(c.cfg.MaxManifest)))
	for page := range maxReferrerPages {
		raw, next, err := c.referrersPage(ctx, t, r)
		var index referrersIndex
		if err == nil {
			index, err = c.parsePage(t, r, raw)
		}
		switch {
		case err == nil:
		case errors.Is(err, ErrTooLarge):
			l.incomplete(err)
			return nil
		case page == 0:
			return err
		case Temporary(err), errors.Is(err, ErrUnauthorized):
			return fmt.Errorf("%w: %w", errLaterPage, err)
		default:
			l.incomplete(fmt.Errorf("%w: %w", errLaterPage, err))
			return nil
		}
		l.add(index)
		left -= int64(len(raw))
		switch {
		case next == nil, l.foundAll(), l.Incomplete != nil && l.found(l.filter.First):
			return nil
		case next.err != nil:
			l.incomplete(next.err)
			return nil //nolint:nilerr // what was read stands, and the list says that it is incomplete
		case visited[next.url.String()]:
			l.incomplete(errors.New("a page leads back to one before"))
			return nil
		case left <= 0:
			l.incomplete(fmt.Errorf("%w: more than %d bytes", ErrTooLarge, maxReferrerBytes))
			return nil
		}
		visited[next.url.String()] = true
		r.url = next.url
	}
	l.incomplete(fmt.Errorf("%w: more than %d pages", ErrTooLarge, maxReferrerPages))
	return nil
}

func (c *Client) referrersPage(ctx context.Context, t target, r request) ([]byte, *nextLink, error) {
	where := t.ref.Name() + "@" + t.ref.Digest
	resp, err := c.send(ctx, t, r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := readLimited(r.op, where, resp.Body, int64(c.cfg.MaxManifest))
	if err != nil {
		return nil, nil, err
	}
	if isWebPage(resp.Header, raw) {
		return nil, nil, &Error{Op: r.op, Where: where, StatusCode: resp.StatusCode, kind: ErrUnavailable, cause: errNotAPI}
	}
	return raw, nextPage(resp), nil
}

func (c *Client) parsePage(t target, r request, raw []byte) (referrersIndex, error) {
	index, err := parseReferrersIndex(raw, c.maxListed())
	if err != nil {
		return index, &Error{Op: r.op, Where: t.ref.Name() + "@" + t.ref.Digest, kind: ErrMalformed, cause: err}
	}
	return index, nil
}

// maxListed is how many entries of one index are looked at.
func (c *Client) maxListed() int { return listedFactor * c.cfg.MaxReferrers }

// isWebPage recognises what a proxy, a portal or a web interface answers in place of the
// registry. An answer that begins like JSON is the registry's, whatever it is called.
func isWebPage(h http.Header, body []byte) bool {
	trimmed := bytes.TrimLeft(body, " \t\r\n\ufeff")
	return len(trimmed) > 0 && trimmed[0] == '<' || mediaType(h) == "text/html" && (len(trimmed) == 0 || trimmed[0] != '{')
}

// lister gathers a list.
type lister struct {
	List

	filter   Filter
	limit    int
	seen     map[string]bool
	rejected int
}

func (l *lister) add(x referrersIndex) {
	for i := range x.entries {
		d := x.entries[i].Descriptor
		if l.seen[d.Digest] || l.filter.Keep != nil && !l.filter.Keep(d) {
			continue
		}
		if why := d.unreadable(); why != "" {
			l.reject(clean(d.Digest), why)
			continue
		}
		if len(l.Referrers) >= l.limit && !slices.Contains(l.filter.First, d.Digest) && !slices.Contains(l.filter.Until, d.Digest) {
			l.incomplete(fmt.Errorf("%w: more than %d referrers", ErrTooLarge, l.limit))
			continue
		}
		l.seen[d.Digest] = true
		d.Size = max(d.Size, 0)
		l.Referrers = append(l.Referrers, d)
	}
	if x.garbage > 0 {
		l.reject("", fmt.Sprintf("%d entries of the list are no descriptors", x.garbage))
	}
	if x.cut {
		l.incomplete(fmt.Errorf("%w: too many entries", ErrTooLarge))
	}
}

func (l *lister) reject(digest, why string) {
	if l.rejected++; l.rejected <= maxRejectedReferrers {
		l.Rejected = append(l.Rejected, RejectedReferrer{Digest: digest, Why: why})
	}
}

func (l *lister) incomplete(why error) {
	if l.Incomplete == nil {
		l.Incomplete = fmt.Errorf("the list of referrers is incomplete: %w", why)
	}
}

func (l *lister) foundAll() bool {
	return len(l.filter.Until) > 0 && l.found(l.filter.Until)
}

func (l *lister) found(digests []string) bool {
	return !slices.ContainsFunc(digests, func(d string) bool { return !l.seen[d] })
}

// nextLink is where the next page is, or why it is not followed.
type nextLink struct {
	url *url.URL
	err error
}

// A link of a Link header (RFC 8288) with its parameters, and the parameter that
// makes it the next page.
var (
	linkPattern    = regexp.MustCompile(`<([^>]*)>([^<]*)`)
	relNextPattern = regexp.MustCompile(`(?i);\s*rel\s*=\s*"?\s*next\s*"?\s*(;|,|$)`)
)

// nextPage reads the Link header; it is nil without a next page. A page is followed on
// the same host, whatever the path: a registry behind a proxy knows neither its prefix
// nor its scheme. The scheme stays ours.
func nextPage(resp *http.Response) *nextLink {
	for _, header := range resp.Header.Values("Link") {
		for _, link := range linkPattern.FindAllStringSubmatch(header, -1) {
			if !relNextPattern.MatchString(link[2]) {
				continue
			}
			here := resp.Request.URL
			next, err := here.Parse(link[1])
			if err != nil {
				return &nextLink{err: fmt.Errorf("its next page cannot be read: %q", clean(link[1]))}
			}
			if !strings.EqualFold(next.Host, here.Host) || next.User != nil || next.Scheme != "http" && next.Scheme != "https" {
				return &nextLink{err: fmt.Errorf("its next page is elsewhere: %q", clean(next.Redacted()))}
			}
			next.Scheme, next.Fragment = here.Scheme, ""
			return &nextLink{url: next}
		}
	}
	return nil
}
