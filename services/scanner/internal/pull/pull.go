// Package pull reads images from registries for core: it maps descriptors and
// turns the errors of pkg/registry into faults.
package pull

import (
	"context"
	"errors"
	"io"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// maxConfig is the size of the largest image configuration, in bytes.
const maxConfig = 8 << 20

// Client pulls. It is safe for use by several goroutines.
type Client struct{ registry *registry.Client }

// New returns a client.
func New(c *registry.Client) *Client { return &Client{registry: c} }

// Manifest returns a manifest by digest if ref has one, else by tag.
func (c *Client) Manifest(ctx context.Context, ref imageref.Ref) (core.Descriptor, []byte, error) {
	d, content, err := c.registry.Manifest(ctx, ref)
	if err != nil {
		return core.Descriptor{}, nil, fault(err, core.ReasonNotAnImage, ref.String())
	}
	return core.Descriptor{MediaType: d.MediaType, ArtifactType: d.ArtifactType, Digest: d.Digest, Size: d.Size}, content, nil
}

// Config returns an image's configuration.
func (c *Client) Config(ctx context.Context, ref imageref.Ref, d core.Descriptor) ([]byte, error) {
	content, err := c.registry.ReadBlob(ctx, ref, descriptor(d), maxConfig)
	if err != nil {
		return nil, fault(err, core.ReasonLayerCorrupt, ref.String())
	}
	return content, nil
}

// Layer opens a layer. The reader fails at the end if the content does not have
// the digest.
func (c *Client) Layer(ctx context.Context, ref imageref.Ref, d core.Descriptor) (io.ReadCloser, error) {
	r, err := c.registry.Blob(ctx, ref, descriptor(d))
	if err != nil {
		return nil, fault(err, core.ReasonLayerCorrupt, ref.String())
	}
	return &layer{ReadCloser: r, ref: ref}, nil
}

type layer struct {
	io.ReadCloser
	ref imageref.Ref
}

func (l *layer) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fault(err, core.ReasonLayerCorrupt, l.ref.String())
	}
	return n, err
}

func descriptor(d core.Descriptor) registry.Descriptor {
	return registry.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// fault names the kind of failure. malformed is the reason for content that is
// there but wrong.
func fault(err error, malformed, where string) error {
	switch {
	case registry.Temporary(err):
		return core.NewTemporary(core.ReasonRegistryUnavailable, "the registry does not answer for %s", where).WithCause(err)
	case errors.Is(err, registry.ErrNotAllowed):
		return core.NewFault(core.ReasonRegistryNotAllowed, "the registry of %s is not configured", where).WithCause(err)
	case errors.Is(err, registry.ErrNotFound):
		return core.NewFault(core.ReasonImageNotFound, "the registry does not have all of %s", where).WithCause(err)
	case errors.Is(err, registry.ErrUnauthorized):
		return core.NewFault(core.ReasonRegistryUnauthorized, "the registry refused access to %s", where).WithCause(err)
	case errors.Is(err, registry.ErrTooLarge):
		return core.NewFault(core.ReasonLimitExceeded, "%s is over a limit", where).WithCause(err)
	case errors.Is(err, registry.ErrInvalidReference):
		return core.NewFault(core.ReasonInvalidReference, "%s cannot be asked for", where).WithCause(err)
	case errors.Is(err, registry.ErrDigestMismatch):
		return core.NewFault(malformed, "content of %s does not have its digest", where).WithCause(err)
	case errors.Is(err, registry.ErrMalformed):
		return core.NewFault(malformed, "content of %s cannot be understood", where).WithCause(err)
	}
	return core.NewFault(core.ReasonImageNotFound, "the registry refused the request for %s", where).WithCause(err)
}
