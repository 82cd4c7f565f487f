package extract

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/extractor/filesystem/language/java/archive"
	"github.com/google/osv-scalibr/purl"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

const (
	// maxArchiveDepth is how deep archives within archives are followed.
	maxArchiveDepth = 8
	// maxArchiveEntries is the number of files in an archive and those within it.
	maxArchiveEntries = 1_000_000
	// maxOpened is what all files that are opened in an archive have together, the larger of
	// their compressed and decompressed sizes: archives within archives are held in memory, and
	// entries may share compressed bytes.
	maxOpened = 256 << 20
	// maxArchiveText is the size of a manifest, pom.properties, pom.xml or Python metadata in an
	// archive.
	maxArchiveText = 16 << 20
)

const (
	javaArchiveName = "java/archive"
	zipArchiveName  = "zip"
)

// zipArchive reads archives by their content that no name calls ones of Java: `java -jar app`
// runs them, and Python and Yarn load packages out of them. It is lenient, as test data is full
// of malformed ones.
func zipArchive() *plugin {
	p := javaArchive()
	p.name, p.lenient = zipArchiveName, true
	p.required = func(string, fs.FileInfo) bool { return false }
	p.extract = func(ctx context.Context, name string, _ fs.FileInfo, content *content) ([]*extractor.Package, error) {
		left := archiveBudget{bytes: maxOpened, entries: maxArchiveEntries, others: true}
		return left.jar(ctx, path.Base(name), content.reader(), content.size, 1)
	}
	return p
}

// javaArchive reads Java archives. The extractor of scalibr does not read pom.xml beside
// pom.properties, takes the first manifest field for the group, and believes the sizes that an
// archive declares.
func javaArchive() *plugin {
	return &plugin{
		name:     javaArchiveName,
		required: func(p string, _ fs.FileInfo) bool { return archive.IsArchive(p) },
		extract: func(ctx context.Context, p string, _ fs.FileInfo, content *content) ([]*extractor.Package, error) {
			left := archiveBudget{bytes: maxOpened, entries: maxArchiveEntries}
			pkgs, err := left.jar(ctx, path.Base(p), content.reader(), content.size, 1)
			if errors.Is(err, zip.ErrFormat) {
				// A file that is called an archive and has not even an end record cannot be
				// loaded by Java either and holds no packages.
				if is, serr := hasEndRecord(content.reader()); serr != nil || !is {
					return nil, serr
				}
			}
			return pkgs, err
		},
	}
}

// jar returns the packages of an archive and of those within it. What can be read is returned
// beside an error.
func (b *archiveBudget) jar(ctx context.Context, name string, content io.ReaderAt, size int64, depth int) ([]*extractor.Package, error) {
	if depth > maxArchiveDepth {
		return nil, fmt.Errorf("archives nested deeper than %d", maxArchiveDepth)
	}
	zr, err := zip.NewReader(content, size)
	if err != nil {
		return nil, err
	}
	if b.entries -= len(zr.File); b.entries < 0 {
		return nil, fmt.Errorf("%w: archive has more than %d files", errOver, maxArchiveEntries)
	}
	j := jarFile{name: name, poms: map[string]*pom{}, packages: map[string]bool{}}
	var out []*extractor.Package
	var failed error
	for _, f := range zr.File {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var err error
		if archive.IsArchive(f.Name) || path.Ext(f.Name) == ".zip" {
			var inner []*extractor.Package
			inner, err = b.nested(ctx, f, depth)
			out = append(out, inner...)
		} else if p := b.other(f); p != nil {
			out = append(out, p)
		} else {
			err = b.entry(&j, f)
		}
		switch {
		case errors.Is(err, errOver) || ctx.Err() != nil:
			return out, fmt.Errorf("%s: %w", f.Name, err)
		case err != nil && failed == nil:
			failed = fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return append(out, j.identify()...), failed
}

func (b *archiveBudget) nested(ctx context.Context, f *zip.File, depth int) ([]*extractor.Package, error) {
	inner, err := b.open(f, b.bytes)
	if err != nil {
		return nil, err
	}
	pkgs, err := b.jar(ctx, path.Base(f.Name), bytes.NewReader(inner), int64(len(inner)), depth+1)
	if errors.Is(err, zip.ErrFormat) && !bytes.Contains(inner, endRecord) {
		return nil, nil
	}
	return pkgs, err
}

// other is the package of Python or npm whose metadata a file in an archive is.
func (b *archiveBudget) other(f *zip.File) *extractor.Package {
	if !b.others {
		return nil
	}
	switch base := path.Base(f.Name); {
	case base == "METADATA", base == "PKG-INFO", strings.HasSuffix(base, ".egg-info"):
		return fromDirectory(f.Name)
	case base == "package.json" && directoryName(f.Name) != "":
		if text, err := b.open(f, maxArchiveText); err == nil {
			pkgs, _ := parsePackageJSON(f.Name, text)
			if len(pkgs) == 1 {
				return pkgs[0]
			}
		}
	}
	return nil
}

// entry takes what a file in an archive tells about the archive.
func (b *archiveBudget) entry(j *jarFile, f *zip.File) error {
	base := strings.ToLower(path.Base(f.Name))
	switch {
	case base == "pom.properties":
		text, err := b.open(f, maxArchiveText)
		if err == nil {
			j.pom(f.Name).properties(text)
		}
		return err
	case base == "pom.xml" && strings.HasPrefix(strings.ToLower(f.Name), "meta-inf/maven/"):
		text, err := b.open(f, maxArchiveText)
		if err != nil {
			return err
		}
		return j.pom(f.Name).project(text)
	case strings.EqualFold(f.Name, "META-INF/MANIFEST.MF"):
		text, err := b.open(f, maxArchiveText)
		if err == nil {
			j.readManifest(text)
		}
		return err
	case strings.HasSuffix(f.Name, ".class"):
		j.class(f.Name)
	}
	return nil
}

// jarFile is what the files of an archive tell about it.
type jarFile struct {
	name string
	// poms are by the directory that holds pom.properties and pom.xml.
	poms     map[string]*pom
	manifest map[string]string
	// packages are the Java packages of its classes, of at most packageDepth components.
	packages map[string]bool
}

// pom returns the coordinates that the files of a directory give.
func (j *jarFile) pom(name string) *pom {
	dir := path.Dir(name)
	p := j.poms[dir]
	if p == nil {
		p = &pom{}
		if parts := strings.Split(dir, "/"); len(parts) == 4 && strings.EqualFold(parts[0], "META-INF") && parts[1] == "maven" {
			p.directory = coordinates{group: parts[2], artifact: parts[3]}
		}
		j.poms[dir] = p
	}
	return p
}

const (
	// packageDepth is how many components of a Java package are kept.
	packageDepth = 3
	// maxPackageRoots is how many Java packages are kept of an archive. One with more, such as
	// an application with all its libraries, may hold classes of anybody.
	maxPackageRoots = 12
)

// class takes the package of a class.
func (j *jarFile) class(name string) {
	if len(j.packages) > maxPackageRoots {
		return
	}
	parts := strings.Split(name, "/")
	parts = parts[:len(parts)-1]
	if len(parts) >= 2 && (parts[0] == "BOOT-INF" || parts[0] == "WEB-INF") && parts[1] == "classes" {
		parts = parts[2:]
	}
	if len(parts) >= 3 && parts[0] == "META-INF" && parts[1] == "versions" {
		parts = parts[3:]
	}
	parts = parts[:min(len(parts), packageDepth)]
	if p := strings.Join(parts, "."); p != "" && isIdentifier(p) {
		j.packages[p] = true
	}
}

// identify returns the packages that an archive is or contains. Those that a pom names are
// certain; where none is about the archive itself, its name, manifest and classes are clues.
func (j *jarFile) identify() []*extractor.Package {
	var out []*extractor.Package
	artifacts := j.artifacts()
	own := false
	for _, dir := range sortedNames(j.poms) {
		c := j.poms[dir].coordinates()
		if c.group == "" || c.artifact == "" {
			continue
		}
		if slices.Contains(artifacts, c.artifact) {
			own = true
			c.version = firstOf(c.version, j.versionOf(c.artifact))
		} else if len(j.poms) == 1 {
			c.version = firstOf(c.version, j.manifestVersion())
		}
		out = append(out, &extractor.Package{Name: c.group + ":" + c.artifact, Version: c.version, PURLType: purl.TypeMaven})
	}
	if own || len(artifacts) == 0 || len(j.packages) == 0 && len(j.manifest) == 0 || path.Ext(j.name) == ".jmod" {
		return out
	}
	artifact := artifacts[0]
	versions := []string{j.versionOf(artifact)}
	if v := j.manifestVersion(); v != "" && !sameNumbers(v, versions[0]) {
		// The file name and the manifest contradict each other: the archive may be either.
		versions = append(versions, v)
	}
	clues := &jarClues{artifacts: artifacts, packages: j.roots(), claims: j.claims()}
	for _, v := range slices.Compact(versions) {
		if len(out) > 0 && v == "" {
			continue // a library that was built into something else, such as an application
		}
		out = append(out, &extractor.Package{Name: j.group(artifact) + ":" + artifact, Version: v, PURLType: purl.TypeMaven, Metadata: clues})
	}
	return out
}

// jarClues is what is known of an archive whose coordinates no pom names.
type jarClues struct {
	// artifacts are what its artifact may be called, the likeliest first.
	artifacts []string
	// packages are the Java packages of its classes; core.AnyPackage if there are too many.
	packages []string
	// claims are the names of its manifest that may be or begin with a group.
	claims []string
}

// IsProtoable makes it what an extractor may say of a package.
func (*jarClues) IsProtoable() {}

func (j *jarFile) roots() []string {
	if len(j.packages) > maxPackageRoots {
		return []string{core.AnyPackage}
	}
	return sortedNames(j.packages)
}
