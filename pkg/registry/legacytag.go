package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// MediaTypeOCIConfig is the type of the configuration of an image.
const MediaTypeOCIConfig = "application/vnd.oci.image.config.v1+json"

// Layer is one layer of an image that carries evidence below a tag, as tools did
// before referrers.
type Layer struct {
	MediaType   string
	Content     []byte
	Annotations map[string]string
}

// legacyManifest is an image whose layers are attestations. Layers of others are
// kept as they are.
type legacyManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        descriptor        `json:"config"`
	Layers        []json.RawMessage `json:"layers"`
	Annotations   json.RawMessage   `json:"annotations,omitempty"`
}

type legacyLayer struct {
	descriptor
	Annotations map[string]string `json:"annotations,omitempty"`
}

// PutTaggedLayer makes layer one of the image that lies below the tag
// `sha256-<hex><suffix>` of subject's repository, which old clients look for, in
// place of those whose annotations replaces says. Layers of others stay. Writers
// take turns as those of the referrers tag do, and read back what they wrote.
func (c *Client) PutTaggedLayer(ctx context.Context, subject imageref.Ref, suffix string, layer Layer, replaces func(annotations map[string]string) bool) error {
	const op = "write legacy tag"
	t, err := c.target(op, subject)
	if err != nil {
		return err
	}
	if err := imageref.CheckDigest(subject.Digest); err != nil {
		return &Error{Op: op, Where: clean(subject.String()), kind: ErrInvalidReference, cause: err}
	}
	key := t.ref.Name() + "@" + t.ref.Digest
	unlock, err := c.lockSubject(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.putBlob(ctx, t, layer.Content); err != nil {
		return err
	}
	tag := ReferrersTag(subject.Digest) + suffix
	refused := ""
	for range maxRepairs {
		m, broken, doc, err := c.readLegacy(ctx, t, tag)
		if err != nil {
			return err
		}
		changed, err := m.replace(layer, replaces)
		if err != nil {
			return &Error{Op: op, Where: key, kind: ErrMalformed, cause: err}
		}
		if !changed {
			return nil
		}
		lost := m.trim(c.cfg.MaxReferrers, int(c.cfg.MaxManifest))
		if doc.etag == refused {
			doc.etag = ""
		}
		err = c.writeLegacy(ctx, t, tag, doc.etag, m)
		if isOverwrite(err) {
			refused = doc.etag
			continue
		}
		if err != nil {
			return err
		}
		c.repairs.note(ctx, t, tag, referrersIndex{digest: doc.digest}, broken, lost)
	}
	return &Error{Op: op, Where: key, kind: ErrUnavailable, cause: fmt.Errorf("overwritten by others %d times", maxRepairs)}
}

// readLegacy gives the image below the tag, an empty one if there is none. What is
// something else is told and counts as none.
func (c *Client) readLegacy(ctx context.Context, t target, tag string) (legacyManifest, *brokenTagError, tagged, error) {
	const op = "read legacy tag"
	empty := legacyManifest{SchemaVersion: 2, MediaType: MediaTypeOCIManifest}
	ref := imageref.Ref{Registry: t.ref.Registry, Repository: t.ref.Repository, Tag: tag}
	doc, err := c.readTag(ctx, op, ref)
	broken := new(brokenTagError)
	switch {
	case errors.Is(err, ErrNotFound):
		return empty, nil, tagged{}, nil
	case errors.As(err, &broken):
		return empty, broken, tagged{}, nil
	case err != nil:
		return empty, nil, tagged{}, err
	}
	m := empty
	head, err := peek(doc.raw)
	if err == nil && (head.MediaType != MediaTypeOCIManifest || strictjson.Unmarshal(doc.raw, &m) != nil || m.layersBroken()) {
		err = fmt.Errorf("it is no image with attestations but %q", clean(head.MediaType))
	}
	if err != nil {
		return empty, &brokenTagError{digest: doc.digest, why: err}, doc, nil
	}
	return m, nil, doc, nil
}

// layersBroken says whether a layer cannot be read.
func (m *legacyManifest) layersBroken() bool {
	return slices.ContainsFunc(m.Layers, func(raw json.RawMessage) bool {
		var l legacyLayer
		return json.Unmarshal(raw, &l) != nil || l.Digest == ""
	})
}

// replace makes layer the last one and says whether that changed anything.
func (m *legacyManifest) replace(layer Layer, replaces func(map[string]string) bool) (bool, error) {
	ours := legacyLayer{
		descriptor:  descriptor{MediaType: layer.MediaType, Digest: Digest(layer.Content), Size: int64(len(layer.Content))},
		Annotations: layer.Annotations,
	}
	var kept []json.RawMessage
	there := false
	for _, raw := range m.Layers {
		var l legacyLayer
		if err := json.Unmarshal(raw, &l); err != nil {
			return false, fmt.Errorf("layer: %w", err)
		}
		same := l.Digest == ours.Digest
		there = there || same
		if same || !replaces(l.Annotations) {
			kept = append(kept, raw)
		}
	}
	if there && len(kept) == len(m.Layers) {
		return false, nil
	}
	if !there {
		raw, err := json.Marshal(ours)
		if err != nil {
			return false, err
		}
		kept = append(kept, raw)
	}
	m.Layers = kept
	return true, nil
}

// trim leaves out the first layers if there are more than limit, or if the manifest
// would be larger than maxBytes, and says how many. The last layer is ours.
func (m *legacyManifest) trim(limit, maxBytes int) int {
	const envelope = 1024 // what the manifest has around its layers
	if len(m.Annotations) > min(maxIndexAnnotations, maxBytes/4) {
		m.Annotations = nil
	}
	room := maxBytes - envelope - len(m.Annotations)
	first := len(m.Layers)
	for first > 0 && len(m.Layers)-first < limit {
		if room -= len(m.Layers[first-1]) + 1; room < 0 {
			break
		}
		first--
	}
	m.Layers = m.Layers[first:]
	return first
}

// writeLegacy writes the image with a configuration that names its layers, which
// old clients ask for.
func (c *Client) writeLegacy(ctx context.Context, t target, tag, etag string, m legacyManifest) error {
	const op = "write legacy tag"
	var config struct {
		Architecture string   `json:"architecture"`
		OS           string   `json:"os"`
		Config       struct{} `json:"config"`
		RootFS       struct {
			Type    string   `json:"type"`
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	config.RootFS.Type, config.RootFS.DiffIDs = "layers", []string{}
	for _, raw := range m.Layers {
		var l descriptor
		if err := json.Unmarshal(raw, &l); err != nil {
			return &Error{Op: op, Where: t.ref.Name(), kind: ErrMalformed, cause: err}
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	configuration, err := json.Marshal(config)
	if err != nil {
		return &Error{Op: op, Where: t.ref.Name(), kind: ErrMalformed, cause: err}
	}
	if err := c.putBlob(ctx, t, configuration); err != nil {
		return err
	}
	m.Config = descriptor{MediaType: MediaTypeOCIConfig, Digest: Digest(configuration), Size: int64(len(configuration))}
	raw, err := marshalPlain(m)
	if err != nil {
		return &Error{Op: op, Where: t.ref.Name(), kind: ErrMalformed, cause: err}
	}
	_, err = c.putManifestIf(ctx, t, tag, MediaTypeOCIManifest, raw, ifMatch(etag))
	return err
}
