package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

const (
	// listPageSize is how many names a page is asked to have. Registries answer with an
	// error to more than they allow.
	listPageSize = 100
	// maxListPages bounds how far a registry can lead us on.
	maxListPages = 1000
)

// Tags lists the tags of a repository page by page, as the registry orders them; what
// no reference could name is left out. After an error there are no more pages. The
// kinds of errors are those of every call, and ErrTooLarge for a list that does not
// end: each page must bring something new.
func (c *Client) Tags(ctx context.Context, repository imageref.Ref) iter.Seq2[[]string, error] {
	repository.Tag, repository.Digest = "", ""
	return c.list(ctx, repository, request{op: "list tags", path: "tags/list"},
		func(raw []byte) ([]string, error) {
			var page struct {
				Tags []string `json:"tags"`
			}
			err := json.Unmarshal(raw, &page)
			return page.Tags, err
		},
		func(tag string) imageref.Ref {
			return imageref.Ref{Registry: repository.Registry, Repository: repository.Repository, Tag: tag}
		})
}

// Repositories lists the repositories of a registry like Tags its tags. Many
// registries have no such list; they answer with ErrNotFound, ErrUnauthorized or
// ErrRejected.
func (c *Client) Repositories(ctx context.Context, registry string) iter.Seq2[[]string, error] {
	// The path is that of no repository, but a reference has one.
	none := imageref.Ref{Registry: registry, Repository: "catalogue"}
	return c.list(ctx, none, request{op: "list repositories", catalogue: true},
		func(raw []byte) ([]string, error) {
			var page struct {
				Repositories []string `json:"repositories"`
			}
			err := json.Unmarshal(raw, &page)
			return page.Repositories, err
		},
		func(name string) imageref.Ref {
			return imageref.Ref{Registry: registry, Repository: name, Tag: "latest"}
		})
}

func (c *Client) list(ctx context.Context, where imageref.Ref, r request,
	parse func([]byte) ([]string, error), refOf func(name string) imageref.Ref,
) iter.Seq2[[]string, error] {
	r.method, r.want = http.MethodGet, []int{http.StatusOK}
	r.query = url.Values{"n": {strconv.Itoa(listPageSize)}}
	return func(yield func([]string, error) bool) {
		t, err := c.target(r.op, where)
		if err != nil {
			yield(nil, err)
			return
		}
		if r.catalogue {
			r.url = &url.URL{Scheme: t.host.scheme(), Host: t.host.registry.RegistryStr(), Path: "/v2/_catalog", RawQuery: r.query.Encode()}
		}
		seen := map[string]bool{}
		for range maxListPages {
			names, next, err := c.listPage(ctx, t, r, parse)
			fresh := names[:0]
			for _, n := range names {
				if !seen[n] && refOf(n).Validate() == nil {
					fresh = append(fresh, n)
				}
				seen[n] = true
			}
			if len(fresh) > 0 && !yield(fresh, nil) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if next == nil {
				return
			}
			if len(fresh) == 0 {
				break
			}
			r.url = next
		}
		yield(nil, &Error{Op: r.op, Where: where.Name(), kind: ErrTooLarge, cause: errors.New("the list does not end")})
	}
}

// listPage returns a page and where the next one is. What was read stands also if
// there is an error about the next page.
func (c *Client) listPage(ctx context.Context, t target, r request, parse func([]byte) ([]string, error)) ([]string, *url.URL, error) {
	where := t.ref.Name()
	resp, err := c.send(ctx, t, r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := readLimited(r.op, where, resp.Body, int64(c.cfg.MaxManifest))
	if err != nil {
		return nil, nil, err
	}
	names, err := parse(raw)
	if err != nil {
		return nil, nil, &Error{Op: r.op, Where: where, kind: ErrMalformed, cause: fmt.Errorf("list is not JSON as it should be: %w", err)}
	}
	switch next := nextPage(resp); {
	case next == nil:
		return names, nil, nil
	case next.err != nil:
		return names, nil, &Error{Op: r.op, Where: where, kind: ErrMalformed, cause: next.err}
	default:
		return names, next.url, nil
	}
}
