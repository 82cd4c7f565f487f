package oneshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

const (
	mediaDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaDockerConfig   = "application/vnd.docker.container.image.v1+json"
	mediaDockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
)

// dockerArchive is what `docker save` writes: manifest.json, a configuration and
// layers. It has no manifest as registries have it; one is made, and the digest of
// the image is that of its configuration, which docker calls the image's id.
type dockerArchive struct {
	files
	name     string
	digest   string
	config   []byte
	manifest []byte
	// layers are the names of the files by their digests.
	layers map[string]string
}

// manifestFile is the root of a docker archive.
const manifestFile = "manifest.json"

type dockerEntry struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

func openDocker(ctx context.Context, f files) (*dockerArchive, error) {
	content, err := readFile(f, manifestFile)
	if err != nil {
		return nil, err
	}
	var entries []dockerEntry
	if err := strictjson.Unmarshal(content, &entries); err != nil {
		return nil, core.NewFault(core.ReasonNotAnImage, "manifest.json: %s", err)
	}
	if len(entries) != 1 {
		return nil, core.NewFault(core.ReasonNotAnImage, "the archive has %d images: save one image into it", len(entries))
	}
	e := entries[0]
	a := &dockerArchive{files: f, layers: map[string]string{}}
	if len(e.RepoTags) > 0 {
		a.name = e.RepoTags[0]
	}
	if a.config, err = readFile(f, e.Config); err != nil {
		return nil, core.NewFault(core.ReasonImageNotFound, "the archive has no configuration").WithCause(err)
	}
	sum := sha256.Sum256(a.config)
	a.digest = "sha256:" + hex.EncodeToString(sum[:])
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int64  `json:"size"`
	}
	layers := []descriptor{}
	for _, l := range e.Layers {
		digest, size, err := a.sum(ctx, l)
		if err != nil {
			return nil, err
		}
		a.layers[digest] = l
		layers = append(layers, descriptor{mediaDockerLayer, digest, size})
	}
	a.manifest, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": mediaDockerManifest, "layers": layers,
		"config": descriptor{mediaDockerConfig, a.digest, int64(len(a.config))},
	})
	return a, err
}

// sum returns the digest of a layer: the archive does not say it reliably.
func (a *dockerArchive) sum(ctx context.Context, name string) (digest string, size int64, err error) {
	r, size, err := a.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, core.NewFault(core.ReasonImageNotFound, "the archive has no layer %.100q", name)
	}
	if err != nil {
		return "", 0, err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, contextReader{ctx, r}); err != nil {
		return "", 0, fmt.Errorf("read layer %.100q: %w", name, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), size, nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // a reader has no other place for it
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Manifest implements core.Source.
func (a *dockerArchive) Manifest(context.Context, imageref.Ref) (core.Descriptor, []byte, error) {
	return core.Descriptor{MediaType: mediaDockerManifest, Digest: a.digest, Size: int64(len(a.manifest))}, a.manifest, nil
}

// Config implements core.Source.
func (a *dockerArchive) Config(context.Context, imageref.Ref, core.Descriptor) ([]byte, error) {
	return a.config, nil
}

// Layer implements extract.Opener.
func (a *dockerArchive) Layer(_ context.Context, _ imageref.Ref, d core.Descriptor) (io.ReadCloser, error) {
	r, _, err := a.open(a.layers[d.Digest])
	return r, err
}
