package extract

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/google/osv-scalibr/purl"
)

// Files that tell of packages and that no extractor reads make the report incomplete, by
// their names: nobody looked at those packages.

// unreadLocks are the lockfiles without a reader, with the type of their packages. As with
// the others, one counts only where none of its packages is installed.
var unreadLocks = map[string]string{
	"bun.lockb": purl.TypeNPM, "deno.lock": purl.TypeNPM, ".pnp.cjs": purl.TypeNPM,
	"pixi.lock": purl.TypeConda, "conda-lock.yml": purl.TypeConda,
	"project.assets.json": purl.TypeNuget,
	"Gopkg.lock":          purl.TypeGolang, "glide.lock": purl.TypeGolang,
	"Package.resolved": purl.TypeSwift, "Cartfile.resolved": purl.TypeSwift, "Podfile.lock": purl.TypeCocoapods,
	"conan.lock": purl.TypeConan, "mix.lock": purl.TypeHex, "rebar.lock": purl.TypeHex, "pubspec.lock": purl.TypePub,
	"stack.yaml.lock": purl.TypeHackage, "cabal.project.freeze": purl.TypeHackage, "renv.lock": purl.TypeCran, "packrat.lock": purl.TypeCran,
	"Manifest.toml": "julia",
}

// unreadFile is what a file is that tells of packages and is not read; empty for all others.
func unreadFile(p string) string {
	dir, base := path.Split(p)
	switch {
	case unreadLocks[base] != "":
		if ofInstalled(p) {
			return ""
		}
		return "lockfiles " + base
	case strings.HasSuffix(base, ".asar"):
		return "archives of Electron"
	case strings.HasSuffix(base, ".json") && strings.HasSuffix("/"+dir, "/conda-meta/"):
		return "packages of conda"
	case base == "INSTALL_RECEIPT.json":
		return "packages of Homebrew"
	case base == "DESCRIPTION" && (strings.HasSuffix(path.Dir(path.Dir(p)), "/library") || strings.HasSuffix(path.Dir(path.Dir(p)), "/site-library")):
		return "packages of R"
	case base == "snap.yaml" && strings.HasPrefix(p, "snap/"):
		return "snaps"
	case strings.HasPrefix(p, "nix/store/"), strings.HasPrefix(p, "gnu/store/"):
		if up := path.Base(path.Dir(p)); up == "bin" || up == "lib" {
			return "packages of Nix or Guix"
		}
	case strings.HasPrefix(p, "var/db/xbps/pkgdb-"), dir == "var/log/packages/", dir == "var/lib/pkgtools/packages/",
		p == "var/lib/opkg/status", strings.HasPrefix(p, "var/lib/eopkg/package/"):
		return "package databases"
	}
	return ""
}

// unreadPlugin marks the files that are not read.
func unreadPlugin() *plugin {
	return &plugin{
		name:     "unread",
		required: func(p string, _ fs.FileInfo) bool { return unreadFile(p) != "" },
		look: func(_ context.Context, p string, _ *content, out *file) error {
			out.unread = unreadFile(p)
			return nil
		},
	}
}

// maxNamed is how many files of one kind a problem names.
const maxNamed = 3

// unreadFiles are the problems of files that were not read, one for each kind.
func (m *merger) unreadFiles(owned ownership, installed installation) []string {
	kinds := map[string][]string{}
	for _, n := range m.files {
		kind := n.file.unread
		lock := unreadLocks[path.Base(n.name)]
		switch {
		case kind == "", owned.file(n.path, n.layer), lock != "" && installed.covers(&found{purlType: lock}, n.path):
		case path.Base(n.path) == ".pnp.cjs" && m.tree.follow(path.Join(path.Dir(n.path), "yarn.lock")) != nil:
			// The lockfile beside it says the same.
		default:
			kinds[kind] = append(kinds[kind], n.path)
		}
	}
	m.tree.visit(func(p string, n *node) {
		if n.target != "" && m.leadsAway(p, n) && !owned.file(p, n.layer) {
			kinds["links"] = append(kinds["links"], p)
		}
	})
	var out []string
	for _, kind := range sortedNames(kinds) {
		files := kinds[kind]
		slices.Sort(files)
		named := strings.Join(files[:min(len(files), maxNamed)], ", ")
		if more := len(files) - maxNamed; more > 0 {
			named += fmt.Sprintf(" and %d more", more)
		}
		if kind == "links" {
			kind = "files of packages behind links"
		}
		out = append(out, valid(kind+" are not read: "+named))
	}
	return out
}

// packageDirs are the directories that package databases are read in.
var packageDirs = []string{
	"var/lib/dpkg", "var/lib/dpkg/status.d", "lib/apk", "lib/apk/db", "usr/lib/apk", "usr/lib/apk/db", "var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm",
	"var/lib/rpmmanifest", "var/lib/pacman", "var/lib/pacman/local", "var/db/pkg",
}

// packageDir is what the name of a directory makes of the files in it, whatever their own
// names are.
func packageDir(p string) string {
	base := path.Base(p)
	switch ext := path.Ext(base); {
	case slices.Contains(packageDirs, p):
		return "database"
	case ext == ".dist-info" || ext == ".egg-info" || ext == ".egg":
		return "python"
	case base == "specifications", base == "composer" && path.Base(path.Dir(p)) == "vendor", base == "conda-meta":
		return base
	}
	return ""
}

// leadsAway tells whether a link has the name of something with packages and leads to a place
// that was not read as such. Where nothing is there, nobody can tell: only files that are
// read are known.
func (m *merger) leadsAway(p string, n *node) bool {
	kind := packageDir(p)
	if len(n.wanted) == 0 && kind == "" {
		return false
	}
	components, ok := m.tree.real(p)
	if !ok {
		return true
	}
	at := m.tree.at(components)
	switch {
	case at == nil:
		return len(n.wanted) > 0 || kind != "" && kind != packageDir(strings.Join(components, "/"))
	case at.file != nil:
		return !at.file.considers(n.wanted)
	default:
		return kind != "" && kind != packageDir(strings.Join(components, "/"))
	}
}

// ofPackages are the extractors of installed packages.
func ofPackages(list []*plugin) []*plugin {
	var out []*plugin
	for _, p := range list {
		if !p.lock && !p.executable && (p.look == nil || p.database || p.name == bitnami) {
			out = append(out, p)
		}
	}
	return out
}
