package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
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
// the layer, unless it is there, puts the manifest and makes sure that the referrers of
// the subject list it. It is idempotent: the same artifact has the same digest and adds
// nothing. It returns the descriptor as the referrers list it.
func (c *Client) PutReferrer(ctx context.Context, repo imageref.Ref, subject Descriptor, a Artifact) (Descriptor, error) {
	const op = "put referrer"
	repo.Tag, repo.Digest = "", subject.Digest
	t, err := c.target(op, repo)
	if err != nil {
		return Descriptor{}, err
	}
	layer := Descriptor{MediaType: a.MediaType, Digest: Digest(a.Content), Size: int64(len(a.Content))}
	raw, err := ReferrerManifest(subject, a.ArtifactType, layer, a.Annotations)
	if err != nil {
		return Descriptor{}, &Error{Op: op, Where: clean(repo.String()), kind: ErrInvalidReference, cause: err}
	}
	if len(raw) > int(c.cfg.MaxManifest) {
		return Descriptor{}, manifestTooLarge(op, t, raw)
	}
	if err := c.putBlob(ctx, t, a.Content); err != nil {
		return Descriptor{}, err
	}
	d, listed, err := c.PutReferrerManifest(ctx, repo, raw)
	if err != nil {
		return d, err
	}
	if listed {
		// Proxies confirm subjects on behalf of registries that list nothing.
		found, err := c.Referrers(ctx, repo, Filter{Until: []string{d.Digest}})
		if err != nil && !errors.Is(err, ErrReferrersTag) {
			return Descriptor{}, err
		}
		if found.Has(d.Digest) {
			return d, nil
		}
	}
	l, err := c.ListReferrers(ctx, repo, d)
	if err != nil {
		return Descriptor{}, err
	}
	return d, l.Settle(ctx)
}

func manifestTooLarge(op string, t target, raw []byte) error {
	return &Error{Op: op, Where: t.ref.Name(), kind: ErrTooLarge, cause: fmt.Errorf("manifest of %d bytes", len(raw))}
}

// ReferrerManifest is the manifest of an artifact with one layer that refers to
// subject: the same arguments give the same bytes. Without a media type the layer has
// the artifact's.
func ReferrerManifest(subject Descriptor, artifactType string, layer Descriptor, annotations map[string]string) ([]byte, error) {
	if layer.MediaType == "" {
		layer.MediaType = artifactType
	}
	if err := checkPut(subject, artifactType); err != nil {
		return nil, err
	}
	return json.Marshal(artifactManifest{
		SchemaVersion: 2, MediaType: MediaTypeOCIManifest, ArtifactType: artifactType,
		Config:      descriptor{MediaType: MediaTypeEmpty, Digest: Digest(emptyConfig), Size: int64(len(emptyConfig))},
		Layers:      []descriptor{{MediaType: layer.MediaType, Digest: layer.Digest, Size: layer.Size}},
		Subject:     descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations: annotations,
	})
}

// PutReferrerManifest puts a manifest that ReferrerManifest made, whose layer is in
// repo's repository, and says whether the registry says that it lists it as a referrer
// of its subject. If it does not, ListReferrers has to: nobody finds it before. If it
// does, Referrers shows whether that is so. It uploads the empty config where that is not known to be. BlobUnknown says of the
// error whether the layer is missing.
func (c *Client) PutReferrerManifest(ctx context.Context, repo imageref.Ref, raw []byte) (d Descriptor, listed bool, err error) {
	const op = "put referrer"
	var m artifactManifest
	if err := strictjson.Unmarshal(raw, &m); err != nil {
		return Descriptor{}, false, &Error{Op: op, Where: clean(repo.String()), kind: ErrMalformed, cause: err}
	}
	repo.Tag, repo.Digest = "", m.Subject.Digest
	t, err := c.target(op, repo)
	if err != nil {
		return Descriptor{}, false, err
	}
	if len(raw) > int(c.cfg.MaxManifest) {
		return Descriptor{}, false, manifestTooLarge(op, t, raw)
	}
	d = Descriptor{
		MediaType: MediaTypeOCIManifest, ArtifactType: m.ArtifactType,
		Digest: Digest(raw), Size: int64(len(raw)), Annotations: m.Annotations,
	}
	known, err := c.putEmptyConfig(ctx, t)
	if err != nil {
		return Descriptor{}, false, err
	}
	header, err := c.putManifest(ctx, t, d.Digest, MediaTypeOCIManifest, raw)
	if known && BlobUnknown(err) {
		// It may be the config that somebody cleaned up since.
		c.configs.forget(t)
		if _, err := c.putEmptyConfig(ctx, t); err != nil {
			return Descriptor{}, false, err
		}
		header, err = c.putManifest(ctx, t, d.Digest, MediaTypeOCIManifest, raw)
	}
	if err != nil {
		return Descriptor{}, false, err
	}
	return d, header.Get("OCI-Subject") == m.Subject.Digest, nil
}

func checkPut(subject Descriptor, artifactType string) error {
	if err := imageref.CheckDigest(subject.Digest); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	if subject.MediaType == "" || subject.Size <= 0 {
		return errors.New("subject has no media type or size")
	}
	if artifactType == "" {
		return errors.New("artifact has no type")
	}
	return nil
}
