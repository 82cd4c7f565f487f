package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// Artifact is what is attached to a subject: one layer with its type.
type Artifact struct {
	// ArtifactType is the type of the whole, MediaType that of Content; an empty
	// MediaType means ArtifactType.
	ArtifactType, MediaType string
	// Content is the one layer. It may be empty.
	Content []byte
	// Annotations of the manifest.
	Annotations map[string]string
}

var emptyConfig = []byte("{}")

// descriptor is a content descriptor within a manifest; unlike Descriptor it has
// the fields in the order in which the specification shows them and no others.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

type artifactManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Subject       descriptor        `json:"subject"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// PutReferrer attaches a to subject, which is in repo's repository: it uploads
// the empty config, the layer and an image manifest with a subject, and makes
// sure that the referrers list it. Registries that do not confirm the subject
// get the referrers tag; writers to one subject take turns in this process, and
// what other processes overwrite is put back.
//
// It is idempotent: the same artifact has the same digest and adds nothing. It
// returns the descriptor as the referrers list it.
func (c *Client) PutReferrer(ctx context.Context, repo imageref.Ref, subject Descriptor, a Artifact) (Descriptor, error) {
	const op = "put referrer"
	if a.MediaType == "" {
		a.MediaType = a.ArtifactType
	}
	repo.Tag, repo.Digest = "", subject.Digest
	t, err := c.target(op, repo)
	if err != nil {
		return Descriptor{}, err
	}
	if err := checkPut(subject, a); err != nil {
		return Descriptor{}, &Error{Op: op, Where: clean(repo.String()), kind: ErrInvalidReference, cause: err}
	}
	raw, err := json.Marshal(artifactManifest{
		SchemaVersion: 2, MediaType: MediaTypeOCIManifest, ArtifactType: a.ArtifactType,
		Config:      descriptor{MediaType: MediaTypeEmpty, Digest: Digest(emptyConfig), Size: int64(len(emptyConfig))},
		Layers:      []descriptor{{MediaType: a.MediaType, Digest: Digest(a.Content), Size: int64(len(a.Content))}},
		Subject:     descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations: a.Annotations,
	})
	if err != nil {
		return Descriptor{}, &Error{Op: op, Where: repo.String(), kind: ErrMalformed, cause: err}
	}
	d := Descriptor{
		MediaType: MediaTypeOCIManifest, ArtifactType: a.ArtifactType,
		Digest: Digest(raw), Size: int64(len(raw)), Annotations: a.Annotations,
	}
	if d.Size > int64(c.cfg.MaxManifest) {
		return Descriptor{}, &Error{Op: op, Where: repo.String(), kind: ErrTooLarge, cause: fmt.Errorf("manifest of %d bytes", d.Size)}
	}
	for _, blob := range [][]byte{emptyConfig, a.Content} {
		if err := c.putBlob(ctx, t, blob); err != nil {
			return Descriptor{}, err
		}
	}
	header, err := c.putManifest(ctx, t, d.Digest, MediaTypeOCIManifest, raw)
	if err != nil {
		return Descriptor{}, err
	}
	if header.Get("OCI-Subject") == subject.Digest {
		return d, nil
	}
	if err := c.listInTag(ctx, t, d); err != nil {
		return Descriptor{}, err
	}
	return d, nil
}

func checkPut(subject Descriptor, a Artifact) error {
	if err := imageref.CheckDigest(subject.Digest); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	if subject.MediaType == "" || subject.Size <= 0 {
		return errors.New("subject has no media type or size")
	}
	if a.ArtifactType == "" {
		return errors.New("artifact has no type")
	}
	return nil
}

// putBlob uploads content in one go unless the repository has it.
func (c *Client) putBlob(ctx context.Context, t target, content []byte) error {
	const op = "put blob"
	digest := Digest(content)
	resp, err := c.send(ctx, t, request{
		op: op, method: http.MethodHead, path: "blobs/" + digest, push: true, want: []int{http.StatusOK, http.StatusNotFound},
	})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	for attempt := 1; ; attempt++ {
		failure := c.upload(ctx, t, content, digest)
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
func (c *Client) upload(ctx context.Context, t target, content []byte, digest string) *Error {
	const op = "put blob"
	where := t.ref.Name() + "@" + digest
	resp, err := c.send(ctx, t, request{
		op: op, method: http.MethodPost, path: "blobs/uploads/", body: []byte{}, push: true, once: true,
		want: []int{http.StatusAccepted},
	})
	if err != nil {
		return asError(op, where, err)
	}
	resp.Body.Close()
	session, err := uploadSession(resp, digest)
	if err != nil {
		return &Error{Op: op, Where: where, kind: ErrMalformed, cause: err}
	}
	resp, err = c.send(ctx, t, request{
		op: op, method: http.MethodPut, path: "blobs/uploads/", url: session, body: content, push: true, once: true,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
		want:   []int{http.StatusCreated, http.StatusNoContent, http.StatusOK},
	})
	if err != nil {
		return asError(op, where, err)
	}
	resp.Body.Close()
	return nil
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
