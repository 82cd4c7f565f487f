package demo

import (
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Push pushes the demo's images to a registry of plain HTTP, for trying a fleet that
// is already running, and prints their references.
func Push(ctx context.Context, registry, binaries string, out io.Writer) error {
	for _, i := range images {
		digest, err := i.push(ctx, registry, binaries)
		if err != nil {
			return fmt.Errorf("%s: %w", i.reference(registry), err)
		}
		_, _ = fmt.Fprintf(out, "%s@%s\n", i.reference(registry), digest)
	}
	return nil
}

func (i image) reference(registry string) string {
	return registry + "/" + i.repository + ":" + i.tag
}

// push builds the image, pushes it and returns its digest.
func (i image) push(ctx context.Context, registry, binaries string) (string, error) {
	img, err := i.build(binaries)
	if err != nil {
		return "", err
	}
	digest, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	ref, err := name.ParseReference(i.reference(registry), name.Insecure)
	if err != nil {
		return "", err
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx)); err != nil {
		return "", fmt.Errorf("push: %w", err)
	}
	return digest.String(), nil
}
