package demo

import (
	"archive/tar"
	"bytes"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// rootfs holds what makes the two base layers: package databases and os-release
// files with names and versions that the distributions really shipped.
//
//go:embed rootfs
var rootfs embed.FS

// image is one of the demo's images and the verdict it must get.
type image struct {
	repository string
	tag        string
	base       string // directory of rootfs
	binary     string // file in the directory of binaries
	user       string
	want       string // PASS or FAIL
	why        string
}

var images = []image{
	{
		repository: "demo/ledger", tag: "1.4.0", base: "debian", binary: "ledger-1.4.0", user: "",
		want: "FAIL", why: "Debian 12 without its security updates, old Go modules, runs as root",
	},
	{
		repository: "demo/ledger", tag: "1.5.0", base: "alpine", binary: "ledger-1.5.0", user: "65532:65532",
		want: "PASS", why: "the same program on a current Alpine 3.22, current Go modules, runs as 65532",
	},
}

// created is the creation time in the images' configuration. It is fixed, so that
// the same files give the same digest and a second demo finds its images known.
var created = time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC)

// build makes the OCI image: a base layer with the package database and a layer
// with the program.
func (i image) build(binaries string) (v1.Image, error) {
	base, err := baseLayer(i.base)
	if err != nil {
		return nil, err
	}
	program, err := programLayer(filepath.Join(binaries, i.binary))
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.Append(img,
		mutate.Addendum{Layer: base, History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "base " + i.base}},
		mutate.Addendum{Layer: program, History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "COPY ledger /usr/bin/ledger"}},
	)
	if err != nil {
		return nil, fmt.Errorf("append layers: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read image configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Created = v1.Time{Time: created}
	config.Config.User = i.user
	config.Config.Entrypoint = []string{"/usr/bin/ledger"}
	config.Config.Env = []string{"PATH=/usr/bin"}
	config.Config.Labels = map[string]string{
		"org.opencontainers.image.title":   "ledger",
		"org.opencontainers.image.version": i.tag,
	}
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return nil, fmt.Errorf("set image configuration: %w", err)
	}
	return img, nil
}

func baseLayer(name string) (v1.Layer, error) {
	root := path.Join("rootfs", name)
	return layer(func(w *tar.Writer) error {
		return fs.WalkDir(rootfs, root, func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := rootfs.ReadFile(file)
			if err != nil {
				return err
			}
			return writeFile(w, file[len(root)+1:], 0o644, content)
		})
	})
}

func programLayer(binary string) (v1.Layer, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("the demo's programs are built by `make demo-images`: %w", err)
	}
	return layer(func(w *tar.Writer) error { return writeFile(w, "usr/bin/ledger", 0o755, content) })
}

func layer(fill func(*tar.Writer) error) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := fill(w); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}

func writeFile(w *tar.Writer, name string, mode int64, content []byte) error {
	header := &tar.Header{Name: name, Mode: mode, Size: int64(len(content)), ModTime: created, Format: tar.FormatPAX}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}
