package oneshot

import (
	"context"
	"encoding/json"
	"io"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// refName is the annotation that a layout names an image by.
const refName = "org.opencontainers.image.ref.name"

// layout is an image in the OCI image layout: a directory, or one in a tar archive.
type layout struct{ files }

// layoutIndex is the part of index.json that is read.
type layoutIndex struct {
	Manifests []struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Annotations map[string]string `json:"annotations"`
		Platform    *struct {
			OS           string `json:"os"`
			Architecture string `json:"architecture"`
			Variant      string `json:"variant"`
		} `json:"platform"`
	} `json:"manifests"`
}

// indexFile is the root of a layout.
const indexFile = "index.json"

// roots are the images of a layout. With a tag only those that it names.
func (l *layout) roots(tag string) ([]core.Descriptor, error) {
	content, err := readFile(l.files, indexFile)
	if err != nil {
		return nil, err
	}
	var index layoutIndex
	if err := strictjson.Unmarshal(content, &index); err != nil {
		return nil, core.NewFault(core.ReasonNotAnImage, "index.json: %s", err)
	}
	var out []core.Descriptor
	for _, m := range index.Manifests {
		name := m.Annotations[refName]
		if tag != "" && name != tag && !strings.HasSuffix(name, ":"+tag) {
			continue
		}
		d := core.Descriptor{MediaType: m.MediaType, Digest: m.Digest}
		if m.Platform != nil {
			d.Platform = &core.Platform{OS: m.Platform.OS, Architecture: m.Platform.Architecture, Variant: m.Platform.Variant}
		}
		out = append(out, d)
	}
	if len(out) == 0 {
		return nil, core.NewFault(core.ReasonImageNotFound, "the layout has no image %q", tag)
	}
	return out, nil
}

// Manifest implements core.Source.
func (l *layout) Manifest(_ context.Context, ref imageref.Ref) (core.Descriptor, []byte, error) {
	r, size, err := blob(l.files, ref.Digest)
	if err != nil {
		return core.Descriptor{}, nil, err
	}
	content, err := readAll(r, ref.Digest)
	if err != nil {
		return core.Descriptor{}, nil, err
	}
	var m struct {
		MediaType string           `json:"mediaType"`
		Manifests *json.RawMessage `json:"manifests"`
	}
	if err := strictjson.Unmarshal(content, &m); err != nil {
		return core.Descriptor{}, nil, core.NewFault(core.ReasonNotAnImage, "the manifest: %s", err)
	}
	if m.MediaType == "" {
		// The member is optional; the index, which has the type too, was not asked.
		m.MediaType = "application/vnd.oci.image.manifest.v1+json"
		if m.Manifests != nil {
			m.MediaType = "application/vnd.oci.image.index.v1+json"
		}
	}
	return core.Descriptor{MediaType: m.MediaType, Digest: ref.Digest, Size: size}, content, nil
}

// Config implements core.Source.
func (l *layout) Config(_ context.Context, _ imageref.Ref, d core.Descriptor) ([]byte, error) {
	r, _, err := blob(l.files, d.Digest)
	if err != nil {
		return nil, err
	}
	return readAll(r, "the image's configuration")
}

// Layer implements extract.Opener.
func (l *layout) Layer(_ context.Context, _ imageref.Ref, d core.Descriptor) (io.ReadCloser, error) {
	r, _, err := blob(l.files, d.Digest)
	return r, err
}
