package oneshot

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// files are the files that an image on disk consists of: a directory, or the
// entries of a tar archive.
type files interface {
	// open returns a file and its size. A file that is not there is fs.ErrNotExist.
	open(name string) (io.ReadCloser, int64, error)
	io.Closer
}

// dirFiles are the files of a directory. Links that lead out of it are refused.
type dirFiles struct{ root *os.Root }

func openDir(dir string) (files, error) {
	root, err := regularfile.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &dirFiles{root}, nil
}

func (d *dirFiles) open(name string) (io.ReadCloser, int64, error) {
	f, err := regularfile.OpenIn(d.root, name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func (d *dirFiles) Close() error { return d.root.Close() }

// maxArchiveEntries bounds the table of contents of an archive of an image. Images
// have three or four entries a layer.
const maxArchiveEntries = 100_000

// tarFiles are the entries of a tar archive, read in place.
type tarFiles struct {
	f       *os.File
	entries map[string]tarEntry
}

type tarEntry struct {
	offset, size int64
	link         string
}

// openTar reads the table of contents of an archive.
func openTar(file string) (files, error) {
	f, err := regularfile.Open(file)
	if err != nil {
		return nil, err
	}
	t := &tarFiles{f: f, entries: map[string]tarEntry{}}
	if err := t.index(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is not an uncompressed tar archive: %w", file, err), f.Close())
	}
	return t, nil
}

func (t *tarFiles) index() error {
	// tar.Reader skips over contents by seeking, and leaves the file at the start of
	// an entry's content.
	tr := tar.NewReader(t.f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(t.entries) == maxArchiveEntries {
			return fmt.Errorf("more than %d entries", maxArchiveEntries)
		}
		offset, err := t.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		e := tarEntry{offset: offset, size: h.Size}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
		case tar.TypeSymlink:
			e.link = path.Join(path.Dir(name), h.Linkname) //nolint:gosec // a name within the archive: nothing is unpacked
		case tar.TypeLink:
			e.link = path.Clean(h.Linkname)
		default:
			continue
		}
		t.entries[name] = e
	}
}

// open follows one link: docker made links of layers that an image has twice.
func (t *tarFiles) open(name string) (io.ReadCloser, int64, error) {
	e, ok := t.entries[path.Clean(name)]
	if ok && e.link != "" {
		e, ok = t.entries[e.link]
	}
	if !ok || e.link != "" {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(t.f, e.offset, e.size)), e.size, nil
}

func (t *tarFiles) Close() error { return t.f.Close() }

// blob opens a blob of an OCI layout. The reader fails at the end if the content
// does not have the digest.
func blob(f files, digest string) (io.ReadCloser, int64, error) {
	if err := imageref.CheckDigest(digest); err != nil {
		return nil, 0, core.NewFault(core.ReasonNotAnImage, "the image names a malformed digest").WithCause(err)
	}
	r, size, err := f.open("blobs/sha256/" + digest[len("sha256:"):])
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, core.NewFault(core.ReasonImageNotFound, "the blob %s is not there", digest)
	}
	if err != nil {
		return nil, 0, err
	}
	return &verified{ReadCloser: r, digest: digest, hash: sha256.New()}, size, nil
}

// verified is a stream that speaks up at its end.
type verified struct {
	io.ReadCloser
	digest string
	hash   hash.Hash
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && "sha256:"+hex.EncodeToString(v.hash.Sum(nil)) != v.digest {
		return n, core.NewFault(core.ReasonLayerCorrupt, "the content of %s does not have its digest", v.digest)
	}
	return n, err
}

// maxDocument is the size of the largest manifest or configuration, in bytes.
const maxDocument = 8 << 20

// readAll reads a small document whole.
func readAll(r io.ReadCloser, name string) ([]byte, error) {
	defer r.Close()
	content, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxDocument {
		return nil, core.NewFault(core.ReasonLimitExceeded, "%s is larger than %d bytes", name, maxDocument)
	}
	return content, nil
}

// readFile reads a small file whole.
func readFile(f files, name string) ([]byte, error) {
	r, _, err := f.open(name)
	if err != nil {
		return nil, err
	}
	return readAll(r, name)
}
