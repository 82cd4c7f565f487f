package extract

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/klauspost/compress/zstd"
)

// Cache keeps the outcomes of layers, by the digest of the layer and the version
// of the set of extractors. The outcome of a layer does not depend on the other
// layers, so every image that has the layer shares it.
type Cache interface {
	// Layer returns what was put; ok is false if nothing was.
	Layer(ctx context.Context, digest, extractors string) (content []byte, ok bool, err error)
	// PutLayer stores an outcome in place of any that is there.
	PutLayer(ctx context.Context, digest, extractors string, content []byte) error
}

// setVersion changes with everything that changes what a layer's outcome is: the
// extractors, their wrappers here, and the encoding below.
const setVersion = "8"

// ExtractorSet is the version of the set of extractors under these limits and
// options. Another release of the extractors may find something else in a layer.
func ExtractorSet(l Limits, o Options) string {
	library := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/google/osv-scalibr" {
				library = d.Version
			}
		}
	}
	return fmt.Sprintf("%s scalibr=%s max_file=%d max_depth=%d secrets=%t", setVersion, library, l.MaxFile, l.MaxDepth, !o.SkipSecrets)
}

const (
	// maxCached is the size of the largest outcome that is kept, compressed.
	maxCached = 32 << 20
	// maxCachedPlain is its size decompressed.
	maxCachedPlain = 1 << 30
)

var errCachedForm = errors.New("a stored layer cannot be read")

// storedLayer is the stored form of a layerResult. Members that few entries have
// are by the index of the entry.
type storedLayer struct {
	Size    int64
	DiffID  string
	Paths   []string
	Kinds   []byte
	Targets map[int]string
	Wanted  map[int][]string
	Files   map[int]storedFile
}

type storedFile struct {
	Packages   []storedFound
	Considered []string
	OSRelease  []byte
	Passwd     []byte
	Database   bool
	Problem    string
	Untold     string
	Unread     string
	Owners     []owner
	Secrets    []string
	Bits       bits
}

type storedFound struct {
	PURLType, Name, Version, SourceName, SourceVersion, Arch, As, Module, Maker string
	Lock                                                                        bool
	Licenses                                                                    []string
	// Of the clues of a Java archive.
	Artifacts, Packages, Claims []string
}

func encodeLayer(r *layerResult) ([]byte, error) {
	s := storedLayer{Size: r.size, DiffID: r.diffID, Targets: map[int]string{}, Wanted: map[int][]string{}, Files: map[int]storedFile{}}
	for i := range r.events {
		e := &r.events[i]
		s.Paths, s.Kinds = append(s.Paths, e.path), append(s.Kinds, byte(e.kind))
		if e.target != "" {
			s.Targets[i] = e.target
		}
		if e.wanted != nil {
			s.Wanted[i] = pluginNames(e.wanted)
		}
		if e.file != nil {
			s.Files[i] = storeFile(e.file)
		}
	}
	var plain bytes.Buffer
	if err := gob.NewEncoder(&plain).Encode(s); err != nil {
		return nil, fmt.Errorf("encode layer: %w", err)
	}
	zw, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("encode layer: %w", err)
	}
	defer zw.Close()
	return zw.EncodeAll(plain.Bytes(), nil), nil
}

func storeFile(f *file) storedFile {
	out := storedFile{
		Considered: pluginNames(f.considered), OSRelease: f.osRelease, Passwd: f.passwd, Database: f.database, Problem: f.problem, Untold: f.untold, Unread: f.unread, Owners: f.owners,
		Secrets: f.secrets, Bits: f.bits,
	}
	for _, p := range f.packages {
		clues := p.jar
		if clues == nil {
			clues = &jarClues{}
		}
		out.Packages = append(out.Packages, storedFound{
			PURLType: p.purlType, Name: p.name, Version: p.version, SourceName: p.sourceName,
			SourceVersion: p.sourceVersion, Arch: p.arch, Licenses: p.licenses, As: p.as,
			Module: p.module, Maker: p.maker, Lock: p.lock, Artifacts: clues.artifacts, Packages: clues.packages, Claims: clues.claims,
		})
	}
	return out
}

// decodeLayer reads what encodeLayer wrote. What cannot be read is an error, and
// the layer is read again.
func (ps *plugins) decodeLayer(digest string, content []byte) (*layerResult, error) {
	zr, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxCachedPlain))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCachedForm, err)
	}
	defer zr.Close()
	plain, err := zr.DecodeAll(content, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCachedForm, err)
	}
	var s storedLayer
	if err := gob.NewDecoder(bytes.NewReader(plain)).Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %w", errCachedForm, err)
	}
	if len(s.Paths) != len(s.Kinds) {
		return nil, errCachedForm
	}
	out := &layerResult{digest: digest, size: s.Size, diffID: s.DiffID, events: make([]event, len(s.Paths))}
	for i, p := range s.Paths {
		e := event{path: p, kind: kind(s.Kinds[i]), target: s.Targets[i]}
		if e.kind > kindOpaque {
			return nil, errCachedForm
		}
		if e.wanted, err = ps.named(s.Wanted[i]); err != nil {
			return nil, err
		}
		if f, ok := s.Files[i]; ok {
			if e.file, err = ps.loadFile(f); err != nil {
				return nil, err
			}
		}
		out.events[i] = e
	}
	return out, nil
}

func (ps *plugins) loadFile(f storedFile) (*file, error) {
	considered, err := ps.named(f.Considered)
	if err != nil {
		return nil, err
	}
	out := &file{considered: considered, osRelease: f.OSRelease, passwd: f.Passwd, database: f.Database, problem: f.Problem, untold: f.Untold, unread: f.Unread, owners: f.Owners, secrets: f.Secrets, bits: f.Bits}
	for _, p := range f.Packages {
		var clues *jarClues
		if p.Artifacts != nil {
			clues = &jarClues{artifacts: p.Artifacts, packages: p.Packages, claims: p.Claims}
		}
		out.packages = append(out.packages, found{
			purlType: p.PURLType, name: p.Name, version: p.Version, sourceName: p.SourceName,
			sourceVersion: p.SourceVersion, arch: p.Arch, licenses: p.Licenses, as: p.As,
			module: p.Module, maker: p.Maker, lock: p.Lock, jar: clues,
		})
	}
	return out, nil
}

func pluginNames(list []*plugin) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.name)
	}
	return out
}

func (ps *plugins) named(names []string) ([]*plugin, error) {
	var out []*plugin
	for _, n := range names {
		p := ps.byName[n]
		if p == nil {
			return nil, fmt.Errorf("%w: no extractor %q", errCachedForm, n)
		}
		out = append(out, p)
	}
	return out, nil
}

// cached returns the stored outcome of a layer, or nil. What it costs the merge
// counts against the limits of the image as if the layer had been read.
func (x *Extractor) cached(ctx context.Context, digest string, b *budget) (*layerResult, error) {
	if x.cache == nil {
		return nil, nil //nolint:nilnil // nothing is stored, and that is no error
	}
	r, ok := x.known.Get(digest)
	if !ok {
		content, ok, err := x.cache.Layer(ctx, digest, x.set)
		if err != nil {
			return nil, fmt.Errorf("look for a known layer: %w", err)
		}
		if !ok {
			return nil, nil //nolint:nilnil // as above
		}
		if r, err = x.plugins.decodeLayer(digest, content); err != nil {
			return nil, nil //nolint:nilerr,nilnil // it is read again and stored anew
		}
		x.known.Put(r.digest, r, r.memory())
	}
	packages := 0
	for i := range r.events {
		if err := b.spendEntry(r.events[i].path); err != nil {
			return nil, err
		}
		if f := r.events[i].file; f != nil {
			packages += len(f.packages)
		}
	}
	if err := b.spendPackages(packages); err != nil {
		return nil, err
	}
	return r, b.spendBytes(r.size)
}

func (x *Extractor) keep(ctx context.Context, r *layerResult) error {
	if x.cache == nil {
		return nil
	}
	x.known.Put(r.digest, r, r.memory())
	content, err := encodeLayer(r)
	if err != nil || len(content) > maxCached {
		return err
	}
	if err := x.cache.PutLayer(ctx, r.digest, x.set, content); err != nil {
		return fmt.Errorf("store layer: %w", err)
	}
	return nil
}
