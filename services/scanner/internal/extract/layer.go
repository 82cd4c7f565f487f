package extract

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync/atomic"
)

// kind is what a tar entry does to the tree.
type kind uint8

const (
	kindDir kind = iota
	kindFile
	kindSymlink
	kindHardLink
	kindWhiteout
	kindOpaque
)

// event is one tar entry, reduced to what the merge needs.
type event struct {
	path   string
	target string
	kind   kind
	// file is set for files that an extractor looked into.
	file *file
	// wanted are the extractors that want a link under its own name; of a symbolic link those
	// of packages.
	wanted []*plugin
}

// file is what extractors found in one file.
type file struct {
	packages []found
	// considered are the extractors that wanted the file.
	considered []*plugin
	// osRelease is the content of an os-release file.
	osRelease []byte
	// passwd is the content of /etc/passwd.
	passwd []byte
	// database tells that the packages are the state of a package manager: the
	// next layer's version of the file repeats them.
	database bool
	problem  string
	// unread is what the file is, if it tells of packages and nobody reads it.
	unread string
	// untold is the problem of a program that does not tell what it is made of. It counts
	// unless the program belongs to a package of the distribution.
	untold string
	// owners are the OS packages that the file lists files of.
	owners []owner
	// secrets are the kinds of credentials in it.
	secrets []string
	bits    bits
	// reports is how the packages were reported last; only files of layers that are held
	// have it.
	reports atomic.Pointer[reports]
}

// layerResult is the outcome of one layer.
type layerResult struct {
	digest string
	events []event
	// size is the number of bytes of the layer, decompressed.
	size int64
	// diffID is the digest of the decompressed layer.
	diffID string
}

// layerReader walks one layer.
type layerReader struct {
	plugins *plugins
	budget  *budget
	buffers *buffers
	// aliases maps the target of a hard link to the names it is linked under whose
	// extractors want it. Set for the second walk only.
	aliases map[string][]string
}

// read walks a layer once, and a second time in the rare case that a hard link's
// name is wanted but its target's name was not: package managers that keep a
// content-addressed store, such as pnpm, make such layers.
func (l *layerReader) read(ctx context.Context, digest string, open func() (io.ReadCloser, error)) (*layerResult, error) {
	res, err := l.walk(ctx, digest, open)
	if err != nil {
		return nil, err
	}
	aliases, err := unresolvedLinks(res.events)
	if err != nil || len(aliases) == 0 {
		return res, err
	}
	again := *l
	again.aliases = aliases
	again.budget = newBudget(l.budget.limits)
	again.budget.work = l.budget.work
	if res, err = again.walk(ctx, digest, open); err != nil {
		return nil, err
	}
	return res, l.budget.spendPackages(int(again.budget.packages.Load()))
}

// maxAliases is the number of names that one file is looked into under: each costs
// a run of the extractors, and a link costs a layer next to nothing.
const maxAliases = 10_000

// unresolvedLinks returns the targets of hard links that exist in the same layer
// but were not looked into by an extractor that wants the link.
func unresolvedLinks(events []event) (map[string][]string, error) {
	type entry struct {
		root string
		file *file
	}
	files := map[string]entry{}
	var out map[string][]string
	for i := range events {
		e := &events[i]
		switch e.kind {
		case kindFile:
			files[e.path] = entry{root: e.path, file: e.file}
		case kindHardLink:
			t, ok := files[e.target]
			if !ok {
				continue
			}
			files[e.path] = t
			if !t.file.considers(e.wanted) {
				if out == nil {
					out = map[string][]string{}
				}
				if len(out[t.root]) == maxAliases {
					return nil, exceeded("a file has more than %d names that packages could be under", maxAliases)
				}
				out[t.root] = append(out[t.root], e.path)
			}
		default:
			delete(files, e.path)
		}
	}
	return out, nil
}

// considers tells whether every one of the extractors wanted the file.
func (f *file) considers(ps []*plugin) bool {
	for _, p := range ps {
		if f == nil || !slices.Contains(f.considered, p) {
			return false
		}
	}
	return true
}

func (l *layerReader) walk(ctx context.Context, digest string, open func() (io.ReadCloser, error)) (*layerResult, error) {
	blob, err := open()
	if err != nil {
		return nil, fmt.Errorf("open layer: %w", err)
	}
	defer blob.Close()
	s, err := openStream(blob, l.budget)
	if err != nil {
		return nil, err
	}
	defer s.close()
	s.hash = sha256.New()
	res := &layerResult{digest: digest}
	tr := tar.NewReader(s)
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read layer: %w", err)
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, s.classify(err)
		}
		e, ok, err := l.entry(ctx, h, entryReader{tr, s})
		if err != nil {
			return nil, s.classify(err)
		}
		if ok {
			res.events = append(res.events, e)
		}
	}
	if err := s.drain(); err != nil {
		return nil, s.classify(err)
	}
	res.size = s.n
	res.diffID = "sha256:" + hex.EncodeToString(s.hash.Sum(nil))
	return res, nil
}

const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// entryReader reads one entry of a layer.
type entryReader struct {
	io.Reader
	stream *layerStream
}

func (l *layerReader) entry(ctx context.Context, h *tar.Header, r entryReader) (event, bool, error) {
	if err := l.budget.spendEntry(h.Name); err != nil {
		return event{}, false, err
	}
	name, err := l.clean(h.Name)
	if err != nil || name == "" {
		return event{}, false, err
	}
	dir, base := path.Split(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		switch hidden := base[len(whiteoutPrefix):]; {
		case base == whiteoutOpaque:
			return event{kind: kindOpaque, path: strings.TrimSuffix(dir, "/")}, true, nil
		case strings.HasPrefix(base, whiteoutMeta), hidden == "", hidden == ".", hidden == "..":
			// AUFS bookkeeping, or a whiteout of nothing.
			return event{}, false, nil
		default:
			return event{kind: kindWhiteout, path: dir + hidden}, true, nil
		}
	}
	e := event{path: name, kind: kindFile}
	switch h.Typeflag {
	case tar.TypeDir:
		e.kind = kindDir
	case tar.TypeSymlink:
		e.kind, e.target = kindSymlink, h.Linkname
		if len(h.Linkname) > maxPath {
			return event{}, false, exceeded("the target of a symbolic link is longer than %d bytes", maxPath)
		}
		e.wanted = ofPackages(l.plugins.wants(name, anyFile{path.Base(name)}))
	case tar.TypeLink:
		e.kind = kindHardLink
		if e.target, err = l.clean(h.Linkname); err != nil {
			return event{}, false, err
		}
		e.wanted = l.plugins.wants(name, h.FileInfo())
	case tar.TypeReg, tar.TypeGNUSparse:
		e.file, err = l.file(ctx, name, h, r)
		if err != nil {
			return event{}, false, err
		}
	case tar.TypeXGlobalHeader:
		return event{}, false, nil
	}
	return e, true, nil
}

// clean brings a path into the form of fs.FS: no leading slash, no dots. A path
// that climbs out of the image is held at its root, as runtimes do.
func (l *layerReader) clean(name string) (string, error) {
	if len(name) > maxPath {
		return "", exceeded("a path is longer than %d bytes", maxPath)
	}
	p := strings.TrimPrefix(path.Clean("/"+name), "/")
	if strings.Count(p, "/") >= l.budget.limits.MaxDepth {
		return "", exceeded("a path is deeper than %d directories", l.budget.limits.MaxDepth)
	}
	return p, nil
}

// file runs the extractors that want a file. It returns nil if none does.
func (l *layerReader) file(ctx context.Context, name string, h *tar.Header, r entryReader) (*file, error) {
	info := h.FileInfo()
	names := append([]string{name}, l.aliases[name]...)
	var jobs []job
	for _, n := range names {
		if ps := l.plugins.wants(n, info); ps != nil {
			jobs = append(jobs, job{path: n, plugins: ps})
		}
	}
	bits := bitsOf(h)
	head := make([]byte, min(h.Size, magicSize))
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	// Programs can be run without an execute bit, or get it later.
	plain := len(jobs) == 0 && isELF(head)
	if plain {
		jobs = []job{{path: name, plugins: l.plugins.executables}}
	}
	if mayBeZip(head, h.Size) && !slices.ContainsFunc(jobs, func(j job) bool { return slices.Contains(j.plugins, l.plugins.archive) }) {
		jobs = append(jobs, job{path: name, plugins: []*plugin{l.plugins.zip}})
	}
	if len(jobs) == 0 {
		if bits.Exec {
			return &file{bits: bits}, nil
		}
		return nil, nil //nolint:nilnil // no extractor wants the file; that is no error
	}
	out := &file{bits: bits}
	for _, j := range jobs {
		out.considered = append(out.considered, j.plugins...)
	}
	if jobs = dropNonExecutables(jobs, head); len(jobs) == 0 {
		return out, nil
	}
	if h.Size > int64(l.budget.limits.MaxFile) {
		out.problem = fmt.Sprintf("%s: larger than %d bytes", name, l.budget.limits.MaxFile)
		return out, nil
	}
	if sparse(h) {
		// Its holes take nothing in the archive, but as much time and room as anything
		// else when they are read.
		if err := r.stream.spend(h.Size); err != nil {
			return nil, err
		}
	}
	content, release, err := l.buffers.hold(ctx, head, h.Size, r)
	if err != nil {
		return nil, err
	}
	defer release()
	for _, j := range jobs {
		before := len(out.packages)
		if err := l.plugins.run(ctx, l.budget, out, j, name, info, content); err != nil {
			return nil, err
		}
		if err := l.budget.spendPackages(len(out.packages) - before); err != nil {
			return nil, err
		}
	}
	if plain && !bits.Exec && len(out.packages) == 0 && out.problem == "" && out.untold == "" {
		return nil, nil //nolint:nilnil // a library, of which nothing is to be told
	}
	return out, nil
}

// sparse tells whether a file has holes that are not in the archive, in any of the
// forms of GNU tar: its own one, or PAX records of version 0.0, 0.1 or 1.0.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// trusted is the size up to which a header's word is taken for the size of a
// file; a larger buffer is made when that much has really come.
const trusted = 4 << 20

func readContent(head []byte, size int64, r io.Reader) ([]byte, error) {
	buf := make([]byte, len(head), min(size, trusted))
	copy(buf, head)
	for int64(len(buf)) < size {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), size)
			copy(grown, buf)
			buf = grown
		}
		n, err := r.Read(buf[len(buf):min(int64(cap(buf)), size)])
		buf = buf[:len(buf)+n]
		if err != nil {
			if errors.Is(err, io.EOF) && int64(len(buf)) == size {
				break
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return buf, nil
}
