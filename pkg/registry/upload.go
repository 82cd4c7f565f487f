package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// Upload is a blob that is sent from wherever it is.
type Upload struct {
	// Digest and Size are of the whole content.
	Digest string
	Size   int64
	// Reader reads it from the begin; it is called for every attempt.
	Reader func() io.Reader
}

func inMemory(content []byte) Upload {
	return Upload{
		Digest: Digest(content), Size: int64(len(content)),
		Reader: func() io.Reader { return bytes.NewReader(content) },
	}
}

// PutBlob uploads a blob to repo's repository without asking whether it is there.
func (c *Client) PutBlob(ctx context.Context, repo imageref.Ref, u Upload) error {
	t, err := c.target("put blob", imageref.Ref{Registry: repo.Registry, Repository: repo.Repository})
	if err != nil {
		return err
	}
	return c.uploadBlob(ctx, t, u)
}

// HasBlob says whether repo's repository has a blob.
func (c *Client) HasBlob(ctx context.Context, repo imageref.Ref, digest string) (bool, error) {
	t, err := c.target("find blob", imageref.Ref{Registry: repo.Registry, Repository: repo.Repository})
	if err != nil {
		return false, err
	}
	return c.hasBlob(ctx, t, digest)
}

func (c *Client) hasBlob(ctx context.Context, t target, digest string) (bool, error) {
	resp, err := c.send(ctx, t, request{
		op: "find blob", method: http.MethodHead, path: "blobs/" + digest, push: true, want: []int{http.StatusOK, http.StatusNotFound},
	})
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK, nil
}

// putBlob uploads content unless the repository has it.
func (c *Client) putBlob(ctx context.Context, t target, content []byte) error {
	u := inMemory(content)
	there, err := c.hasBlob(ctx, t, u.Digest)
	if err != nil || there {
		return err
	}
	return c.uploadBlob(ctx, t, u)
}

// uploadBlob uploads a blob in one go.
func (c *Client) uploadBlob(ctx context.Context, t target, u Upload) error {
	for attempt := 1; ; attempt++ {
		failure := c.upload(ctx, t, u)
		if failure == nil {
			return nil
		}
		// Sessions live in one replica of some registries and end with it; a new one helps.
		lost := failure.Code == "BLOB_UPLOAD_UNKNOWN" || failure.Code == "BLOB_UPLOAD_INVALID" ||
			failure.StatusCode == http.StatusRequestedRangeNotSatisfiable
		if lost {
			failure.kind = ErrUnavailable
		}
		if !lost && !retryable(failure) || !c.pause(ctx, attempt, failure) {
			return failure
		}
	}
}

// upload opens an upload session and puts content into it.
func (c *Client) upload(ctx context.Context, t target, u Upload) *Error {
	const op = "put blob"
	where := t.ref.Name() + "@" + u.Digest
	resp, err := c.send(ctx, t, request{
		op: op, method: http.MethodPost, path: "blobs/uploads/", body: []byte{}, push: true, once: true,
		want: []int{http.StatusAccepted},
	})
	if err != nil {
		return asError(op, where, err)
	}
	resp.Body.Close()
	session, err := uploadSession(resp, u.Digest)
	if err != nil {
		return &Error{Op: op, Where: where, kind: ErrMalformed, cause: err}
	}
	resp, err = c.send(ctx, t, request{
		op: op, method: http.MethodPut, path: "blobs/uploads/", url: session, large: &u, push: true, once: true,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
		want:   []int{http.StatusCreated, http.StatusNoContent, http.StatusOK},
	})
	if err != nil {
		return asError(op, where, err)
	}
	resp.Body.Close()
	return nil
}

// putEmptyConfig makes sure that the repository has the config of all artifacts. It
// says true if it did not ask, because it knew.
func (c *Client) putEmptyConfig(ctx context.Context, t target) (known bool, err error) {
	if c.configs.has(t) {
		return true, nil
	}
	if err := c.putBlob(ctx, t, emptyConfig); err != nil {
		return false, err
	}
	c.configs.add(t)
	return false, nil
}

// repositories are some that something is known of.
type repositories struct {
	mu    sync.Mutex
	names map[string]bool
}

// maxRepositories bounds what is remembered.
const maxRepositories = 4096

func (r *repositories) has(t target) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.names[t.ref.Name()]
}

func (r *repositories) add(t target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil || len(r.names) >= maxRepositories {
		r.names = map[string]bool{}
	}
	r.names[t.ref.Name()] = true
}

func (r *repositories) forget(t target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.names, t.ref.Name())
}

// BlobUnknown says whether a manifest was refused because the registry has not all
// that it names.
func BlobUnknown(err error) bool {
	failure := new(Error)
	return errors.As(err, &failure) && (failure.Code == "MANIFEST_BLOB_UNKNOWN" || failure.Code == "BLOB_UNKNOWN")
}

func asError(op, where string, err error) *Error {
	if e := new(Error); errors.As(err, &e) {
		return e
	}
	return &Error{Op: op, Where: where, kind: ErrUnavailable, cause: err}
}

// uploadSession is where the registry wants the content. It must be the registry
// itself: nobody else gets what we upload.
func uploadSession(resp *http.Response, digest string) (*url.URL, error) {
	here := resp.Request.URL
	session, err := here.Parse(resp.Header.Get("Location"))
	if err != nil {
		return nil, fmt.Errorf("upload location: %w", err)
	}
	if session.Host != here.Host || session.User != nil {
		return nil, fmt.Errorf("upload location is elsewhere: %q", clean(session.Redacted()))
	}
	session.Scheme = here.Scheme
	q := session.Query()
	q.Set("digest", digest)
	session.RawQuery = q.Encode()
	return session, nil
}
