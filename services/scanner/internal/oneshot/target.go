package oneshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/pull"
)

// Kinds of targets, as they are written before the colon.
const (
	kindLayout  = "oci"
	kindTar     = "tar"
	kindDocker  = "docker-archive"
	kindSBOM    = "sbom"
	nameOfLocal = "localhost"
)

// split tells the kind of a target from the rest; kind is empty for an image in a
// registry.
func split(target string) (kind, rest string) {
	for _, k := range []string{kindLayout, kindTar, kindDocker, kindSBOM} {
		if rest, ok := strings.CutPrefix(target, k+":"); ok {
			return k, rest
		}
	}
	return "", target
}

// source is an image that was found, wherever it is.
type source interface {
	core.Source
	extract.Opener
}

// image is an open target.
type image struct {
	source source
	// name is what the image is called, without tag and digest.
	name string
	ref  imageref.Ref
	// roots are the images to choose from; nil if ref tells.
	roots []core.Descriptor
	close func()
}

func open(ctx context.Context, o Options) (*image, error) {
	kind, rest := split(o.Target)
	switch kind {
	case kindLayout:
		return openLayout(rest)
	case kindTar, kindDocker:
		return openArchive(ctx, rest, kind == kindDocker)
	default:
		return openRegistry(o, rest)
	}
}

// openLayout opens DIR or DIR:TAG.
func openLayout(rest string) (*image, error) {
	dir, tag := rest, ""
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if i := strings.LastIndexByte(rest, ':'); i > 0 {
			dir, tag = rest[:i], rest[i+1:]
		}
	}
	f, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	return layoutImage(f, tag, dir)
}

func layoutImage(f files, tag, path string) (*image, error) {
	l := &layout{f}
	roots, err := l.roots(tag)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is not an OCI layout: it has no %s", path, indexFile)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &image{source: l, name: localName(path), ref: localRef(path), roots: roots, close: func() { f.Close() }}, nil
}

// openArchive opens a tar archive: docker's form, or an OCI layout. What docker
// writes today is both.
func openArchive(ctx context.Context, path string, preferDocker bool) (*image, error) {
	f, err := openTar(path)
	if err != nil {
		return nil, err
	}
	if !preferDocker {
		if r, _, err := f.open(indexFile); err == nil {
			_ = r.Close() // only looked for
			return layoutImage(f, "", path)
		}
	}
	a, err := openDocker(ctx, f)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s has neither %s nor %s: it is no archive of an image", path, indexFile, manifestFile)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	out := &image{source: a, name: localName(path), ref: localRef(path).WithDigest(a.digest), close: func() { f.Close() }}
	if ref, err := imageref.Parse(a.name); err == nil {
		out.name = ref.Name()
	}
	return out, nil
}

// localName is what an image without a repository is called: its file.
func localName(path string) string {
	base := filepath.Base(filepath.Clean(path))
	for _, ext := range []string{".tar", ".json"} {
		base = strings.TrimSuffix(base, ext)
	}
	return base
}

func localRef(path string) imageref.Ref {
	return imageref.Ref{Registry: nameOfLocal, Repository: localName(path)}
}

// openRegistry makes a client that may pull from the image's registry only, with
// the credentials that docker's configuration has for it.
func openRegistry(o Options, target string) (*image, error) {
	ref, err := imageref.Parse(target)
	if err != nil {
		return nil, core.NewFault(core.ReasonInvalidReference, "%v", err)
	}
	host := registry.Host{Host: ref.Registry, Insecure: o.PlainHTTP || loopback(ref.Registry), MaxConcurrent: o.Layers + 2}
	if err := o.authenticate(&host); err != nil {
		return nil, err
	}
	client, err := registry.New(registry.Config{Registries: []registry.Host{host}}, obs.Discard("scan"))
	if err != nil {
		return nil, err
	}
	return &image{source: pull.New(client), name: ref.Name(), ref: ref, close: client.Close}, nil
}

func (o Options) authenticate(h *registry.Host) error {
	if o.Keychain == nil {
		return nil
	}
	r, err := name.NewRegistry(h.Host)
	if err != nil {
		return core.NewFault(core.ReasonInvalidReference, "%v", err)
	}
	auth, err := o.Keychain.Resolve(r)
	if err != nil {
		return fmt.Errorf("credentials of %s: %w", h.Host, err)
	}
	a, err := auth.Authorization()
	if err != nil {
		return fmt.Errorf("credentials of %s: %w", h.Host, err)
	}
	if *a == (authn.AuthConfig{}) {
		return nil
	}
	if a.Username == "" || a.Password == "" {
		return fmt.Errorf("credentials of %s: only a name and a password are understood, log in with these", h.Host)
	}
	h.Username, h.Password = a.Username, config.Secret{Value: a.Password}
	return nil
}

// loopback registries speak plain HTTP, as with docker.
func loopback(registry string) bool {
	host, _, err := net.SplitHostPort(registry)
	if err != nil {
		host = registry
	}
	ip := net.ParseIP(host)
	return host == nameOfLocal || ip != nil && ip.IsLoopback()
}
