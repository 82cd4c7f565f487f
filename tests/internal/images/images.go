// Package images builds small images with real package databases and pushes them.
package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const osRelease = `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
VERSION_ID="12"
ID=debian
`

const dpkgStatus = `Package: libcurl4
Status: install ok installed
Maintainer: Alessandro Ghedini <ghedo@debian.org>
Architecture: amd64
Source: curl
Version: %s
Description: easy-to-use client-side URL transfer library (OpenSSL flavour)

`

// Versions of curl in Debian 12: CVE-2023-38545, critical, was fixed in between.
const (
	vulnerableCurl = "7.88.1-10+deb12u3"
	fixedCurl      = "7.88.1-10+deb12u14"
)

// Vulnerable is a Debian 12 image that must FAIL: its curl has a critical
// vulnerability with a fix. The label makes its digest unique.
func Vulnerable(t *testing.T, label string) v1.Image {
	t.Helper()
	return debian(t, label, vulnerableCurl)
}

// Clean is a Debian 12 image that must PASS.
func Clean(t *testing.T, label string) v1.Image {
	t.Helper()
	return debian(t, label, fixedCurl)
}

func debian(t *testing.T, label, curl string) v1.Image {
	t.Helper()
	return Image(t, label, map[string]string{
		"etc/os-release":      osRelease,
		"var/lib/dpkg/status": fmt.Sprintf(dpkgStatus, curl),
	})
}

// Image is an OCI image of one layer with these files.
func Image(t *testing.T, label string, files map[string]string) v1.Image {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, path := range []string{"etc/os-release", "var/lib/dpkg/status"} {
		content, ok := files[path]
		if !ok {
			continue
		}
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.User = "65532"
	config.Config.Labels = map[string]string{"test": label}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// Push pushes an image and returns its digest.
func Push(t *testing.T, img v1.Image, reference string) string {
	t.Helper()
	push(t, reference, func(ref name.Reference, o ...remote.Option) error { return remote.Write(ref, img, o...) })
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// Index is an index of these images: linux/amd64, linux/arm64.
func Index(t *testing.T, amd64, arm64 v1.Image) v1.ImageIndex {
	t.Helper()
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: amd64, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm64, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
	)
}

// PushIndex pushes an index and returns its digest.
func PushIndex(t *testing.T, index v1.ImageIndex, reference string) string {
	t.Helper()
	push(t, reference, func(ref name.Reference, o ...remote.Option) error { return remote.WriteIndex(ref, index, o...) })
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func push(t *testing.T, reference string, write func(name.Reference, ...remote.Option) error) {
	t.Helper()
	ref, err := name.ParseReference(reference, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	// A transport of its own: connections of the default one outlive the test.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	if err := write(ref, remote.WithContext(t.Context()), remote.WithTransport(transport)); err != nil {
		t.Fatal(err)
	}
}
