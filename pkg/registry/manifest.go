package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// Media types of manifests.
const (
	MediaTypeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	// MediaTypeEmpty is the type of an empty JSON object, the config of an artifact.
	MediaTypeEmpty = "application/vnd.oci.empty.v1+json"
)

var acceptManifests = strings.Join([]string{
	MediaTypeOCIManifest, MediaTypeOCIIndex, MediaTypeDockerManifest, MediaTypeDockerList,
}, ", ")

// Resolve says what ref, a tag or a digest, points at now. The media type and
// the size are the registry's word; Manifest verifies them.
func (c *Client) Resolve(ctx context.Context, ref imageref.Ref) (Descriptor, error) {
	const op = "resolve"
	t, err := c.target(op, ref)
	if err != nil {
		return Descriptor{}, err
	}
	name, err := t.manifestName(op)
	if err != nil {
		return Descriptor{}, err
	}
	resp, err := c.send(ctx, t, request{
		op: op, method: http.MethodHead, path: "manifests/" + name,
		header: http.Header{"Accept": {acceptManifests}}, want: []int{http.StatusOK},
	})
	if err != nil {
		if failure := new(Error); errors.As(err, &failure) && failure.StatusCode == 0 || Temporary(err) {
			return Descriptor{}, err
		}
		// An answer to HEAD has no body: only GET brings the registry's own words.
		d, _, err := c.Manifest(ctx, ref)
		return d, err
	}
	resp.Body.Close()
	d := Descriptor{
		MediaType: mediaType(resp.Header), Digest: resp.Header.Get("Docker-Content-Digest"), Size: resp.ContentLength,
	}
	if d.Digest == "" {
		d.Digest = ref.Digest
	}
	if imageref.CheckDigest(d.Digest) != nil || d.Size <= 0 || d.MediaType == "" {
		d, _, err = c.Manifest(ctx, ref)
		return d, err
	}
	if ref.Digest != "" && d.Digest != ref.Digest {
		return Descriptor{}, &Error{
			Op: op, Where: ref.String(), kind: ErrDigestMismatch,
			cause: fmt.Errorf("the registry answers with %s", d.Digest),
		}
	}
	return d, nil
}

// Manifest reads a manifest or index by digest, or by tag if ref has no digest.
// The bytes are checked against the digest asked for, by tag against the one the
// registry names. The descriptor's media type is the one the document itself
// states, if it states one; its artifact type is the manifest's.
func (c *Client) Manifest(ctx context.Context, ref imageref.Ref) (Descriptor, []byte, error) {
	d, raw, _, err := c.manifest(ctx, ref)
	return d, raw, err
}

// manifest is Manifest with the headers of the answer.
func (c *Client) manifest(ctx context.Context, ref imageref.Ref) (Descriptor, []byte, http.Header, error) {
	const op = "get manifest"
	t, err := c.target(op, ref)
	if err != nil {
		return Descriptor{}, nil, nil, err
	}
	name, err := t.manifestName(op)
	if err != nil {
		return Descriptor{}, nil, nil, err
	}
	resp, err := c.send(ctx, t, request{
		op: op, method: http.MethodGet, path: "manifests/" + name,
		header: http.Header{"Accept": {acceptManifests}}, want: []int{http.StatusOK},
	})
	if err != nil {
		return Descriptor{}, nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := readLimited(op, ref.String(), resp.Body, int64(c.cfg.MaxManifest))
	if err != nil {
		return Descriptor{}, nil, nil, err
	}
	digest := Digest(raw)
	want := ref.Digest
	if want == "" {
		want = resp.Header.Get("Docker-Content-Digest")
	}
	if ref.Digest == "" && want != "" && imageref.CheckDigest(want) != nil {
		return Descriptor{}, nil, nil, &Error{
			Op: op, Where: ref.String(), kind: ErrMalformed, cause: fmt.Errorf("the registry names the manifest %.80q, which is not a SHA-256 digest", want),
		}
	}
	if want != "" && want != digest {
		return Descriptor{}, nil, nil, &Error{
			Op: op, Where: ref.String(), kind: ErrDigestMismatch, cause: fmt.Errorf("wanted %s, the content is %s", want, digest),
		}
	}
	head, err := peek(raw)
	if err != nil {
		return Descriptor{}, nil, nil, &Error{Op: op, Where: ref.String(), kind: ErrMalformed, cause: err}
	}
	d := Descriptor{MediaType: head.MediaType, ArtifactType: head.ArtifactType, Digest: digest, Size: int64(len(raw))}
	if d.MediaType == "" {
		d.MediaType = mediaType(resp.Header)
	}
	return d, raw, resp.Header, nil
}

func (t target) manifestName(op string) (string, error) {
	switch {
	case t.ref.Digest != "":
		return t.ref.Digest, nil
	case t.ref.Tag != "":
		return t.ref.Tag, nil
	default:
		return "", &Error{Op: op, Where: t.ref.String(), kind: ErrInvalidReference, cause: errors.New("neither tag nor digest")}
	}
}

// manifestHead is the part of a manifest or index that this package looks at.
type manifestHead struct {
	MediaType    string `json:"mediaType"`
	ArtifactType string `json:"artifactType"`
	Config       *struct {
		MediaType string `json:"mediaType"`
	} `json:"config"`
	Layers    json.RawMessage `json:"layers"`
	Manifests json.RawMessage `json:"manifests"`
}

// peek refuses documents that could be read as a manifest by one reader and as
// an index by another (CVE-2021-41190).
func peek(raw []byte) (manifestHead, error) {
	var h manifestHead
	if err := strictjson.Unmarshal(raw, &h); err != nil {
		return h, fmt.Errorf("manifest: %w", err)
	}
	if len(h.Manifests) > 0 && (len(h.Layers) > 0 || h.Config != nil) {
		return h, errors.New("document is both a manifest and an index")
	}
	isIndex := h.MediaType == MediaTypeOCIIndex || h.MediaType == MediaTypeDockerList
	isManifest := h.MediaType == MediaTypeOCIManifest || h.MediaType == MediaTypeDockerManifest
	if isIndex && len(h.Layers) > 0 || isManifest && len(h.Manifests) > 0 {
		return h, errors.New("document is not what its media type says")
	}
	if h.ArtifactType == "" && h.Config != nil && !isIndex && h.Config.MediaType != MediaTypeEmpty {
		// The image specification's rule for manifests from before artifactType.
		h.ArtifactType = h.Config.MediaType
	}
	return h, nil
}

func mediaType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// Digest is the digest of content: `sha256:` and 64 lower-case hex digits.
func Digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}
