package extract

import (
	"bufio"
	"context"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/google/osv-scalibr/purl"
)

// owner is an OS package and those of its files that could be packages of a
// language. What such a file holds was built by the distribution, which may have
// fixed it without a new version: its advisories decide, not the language's.
type owner struct {
	// Identity is that of the package in its database; empty for dpkg, which has a
	// file of its own for every package.
	Identity string
	// Name is the name of the package.
	Name string
	// Maker is who made a package of rpm.
	Maker string
	Paths []string
}

// ownerPlugin reads the lists of owned files of dpkg and apk.
func ownerPlugin(ps *plugins, limit int) *plugin {
	return &plugin{
		name:     "owner",
		required: func(path string, _ fs.FileInfo) bool { return isOwnerList(path) },
		look: func(_ context.Context, path string, content *content, out *file) error {
			r := &errorReader{r: &recordReader{r: content.reader(), limit: limit}}
			out.owners = ps.owners(path, r)
			return r.err
		},
	}
}

const (
	dpkgInfo     = "var/lib/dpkg/info/"
	dpkgStatusD  = "var/lib/dpkg/status.d/"
	apkInstalled = "lib/apk/db/installed"
	apkUsrMerged = "usr/lib/apk/db/installed"
)

func isOwnerList(p string) bool {
	switch dir, base := path.Split(p); dir {
	case dpkgInfo:
		return strings.HasSuffix(base, ".list")
	case dpkgStatusD:
		return strings.HasSuffix(base, ".md5sums")
	}
	return p == apkInstalled || p == apkUsrMerged
}

// maxOwnerLine is the length of the longest line that is understood; a path of an
// image is shorter. What follows a longer one is passed over: the files are then
// reported under both packages.
const maxOwnerLine = 64 << 10

// maxOwned is the number of files that one list is remembered to own. What follows
// is passed over, as above.
const maxOwned = 200_000

// owners reads a list of owned files. dpkg has one per package: `.list` with a
// path a line, and distroless images `.md5sums` with a sum and a path. apk's
// database has `F:` for a directory and `R:` for each file in it.
func (ps *plugins) owners(p string, content io.Reader) []owner {
	sc := bufio.NewScanner(content)
	sc.Buffer(nil, maxOwnerLine)
	if p == apkInstalled || p == apkUsrMerged {
		return ps.apkOwners(sc)
	}
	name, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimSuffix(path.Base(p), ".list"), ".md5sums"), ":")
	o := owner{Name: name}
	for len(o.Paths) < maxOwned && sc.Scan() {
		line := sc.Text()
		if strings.HasSuffix(p, ".md5sums") {
			_, line, _ = strings.Cut(line, " ")
		}
		o.Paths = ps.appendOwned(o.Paths, strings.TrimSpace(line))
	}
	if o.Paths == nil {
		return nil
	}
	return []owner{o}
}

func (ps *plugins) apkOwners(sc *bufio.Scanner) []owner {
	var out []owner
	var current found
	var paths []string
	dir, n := "", 0
	flush := func() {
		if paths != nil {
			out = append(out, owner{Identity: current.identity(), Name: current.name, Paths: paths})
		}
		current, paths, dir = found{}, nil, ""
	}
	for sc.Scan() {
		key, value, ok := strings.Cut(sc.Text(), ":")
		if !ok {
			flush()
			continue
		}
		switch key {
		case "P":
			current.purlType, current.name = purl.TypeApk, value
		case "V":
			current.version = value
		case "A":
			current.arch = value
		case "F":
			dir = value
		case "R":
			if n < maxOwned {
				before := len(paths)
				paths = ps.appendOwned(paths, dir+"/"+value)
				n += len(paths) - before
			}
		}
	}
	flush()
	return out
}

// appendOwned keeps a path that an extractor of a language would look into.
func (ps *plugins) appendOwned(paths []string, p string) []string {
	if p = cleanPath(p); ps.owned(p) {
		return append(paths, strings.Clone(p))
	}
	return paths
}

// cleanPath brings a path into the form of fs.FS.
func cleanPath(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

func (ps *plugins) owned(p string) bool {
	if p == "" {
		return false
	}
	info := anyFile{name: path.Base(p)}
	for _, plug := range ps.list {
		if plug.database || plug.look != nil || plug.executable && dataFile[path.Ext(p)] {
			continue
		}
		if plug.wants(p, info) {
			return true
		}
	}
	return false
}

// dataFile are ends of names that no executable has; they are most of what is in
// packages.
var dataFile = map[string]bool{
	".gz": true, ".h": true, ".mo": true, ".py": true, ".pyc": true, ".js": true, ".pl": true, ".pm": true, ".html": true,
	".txt": true, ".png": true, ".svg": true, ".conf": true, ".json": true, ".md": true, ".xml": true, ".ts": true, ".map": true,
}

// anyFile is a file as far as its name tells: it may be executable.
type anyFile struct{ name string }

func (f anyFile) Name() string     { return f.name }
func (anyFile) Size() int64        { return 1 }
func (anyFile) Mode() fs.FileMode  { return 0o755 }
func (anyFile) ModTime() time.Time { return time.Time{} }
func (anyFile) IsDir() bool        { return false }
func (anyFile) Sys() any           { return nil }

// ownership tells which files belong to installed OS packages.
type ownership struct {
	// layers has, by the place of a file, the layer that the owner came with.
	layers map[string]int
	// installed are the names of dpkg's packages.
	installed map[string]bool
}

// ownership collects what the merged image says. A list of a package that dpkg does
// not name as installed says nothing, and a package that another made than the distribution
// owns nothing: the distribution's advisories do not speak of it.
func (m *merger) ownership(d distro) ownership {
	o := ownership{layers: map[string]int{}, installed: map[string]bool{}}
	for _, n := range m.files {
		for i := range n.file.packages {
			if f := &n.file.packages[i]; f.purlType == purl.TypeDebian && d.made(f.purlType, f.maker) {
				o.installed[f.name] = true
			}
		}
	}
	for _, n := range m.files {
		for _, own := range n.file.owners {
			if isRPMDatabase(n.name) && !d.made(purl.TypeRPM, own.Maker) {
				continue
			}
			m.own(&o, n, &own)
		}
	}
	return o
}

// own adds what a list says of one package.
func (m *merger) own(o *ownership, n placed, own *owner) {
	layer := n.layer
	if own.Identity != "" {
		first, ok := m.origins[n.path][own.Identity]
		if !ok {
			return
		}
		layer = first
	} else if !o.installed[own.Name] {
		return
	}
	for _, f := range own.Paths {
		if cs, ok := m.tree.resolve(f); ok {
			place := strings.Join(cs, "/")
			o.layers[place] = max(o.layers[place], layer)
		}
	}
}

// owns tells whether a package of a language belongs to an OS package. A file that
// a later layer put in place of the OS package's is not the distribution's.
func (o ownership) owns(f *found, place string, layer int) bool {
	switch f.purlType {
	case purl.TypeDebian, purl.TypeApk, purl.TypeRPM:
		return false
	}
	return o.file(place, layer)
}

// file tells whether a file belongs to an OS package.
func (o ownership) file(place string, layer int) bool {
	owned, ok := o.layers[place]
	return ok && layer <= owned
}
