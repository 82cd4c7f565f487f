package extract

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/google/osv-scalibr/purl"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/rpmdb"
)

// rpmPlugin reads rpm databases. The extractor of scalibr needs the database as a
// file on a disk and the library behind it panics in goroutines of its own, where
// nobody can recover; it also leaves out modules and the files of packages.
func rpmPlugin(ps *plugins, limit int) *plugin {
	return &plugin{
		name:     "rpm",
		required: func(p string, _ fs.FileInfo) bool { return isRPMDatabase(p) },
		database: true,
		look: func(ctx context.Context, p string, content *content, out *file) error {
			if strings.HasSuffix(p, rpmJournal) {
				if content.size > 0 {
					return errors.New("changes that are not yet in the database; run `rpmdb --rebuilddb` when the image is built")
				}
				return nil
			}
			wanted := func(file string) bool { return ps.owned(cleanPath(file)) }
			owned := 0
			return rpmdb.Read(content.readerAt(), content.size, wanted, func(r *rpmdb.Package) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				// rpm keeps the keys it trusts like packages.
				if r.Name == "gpg-pubkey" {
					return nil
				}
				if len(out.packages) >= limit {
					return exceeded("a package database has more than %d packages", limit)
				}
				f, err := convertRPM(r)
				if err != nil {
					return err
				}
				out.packages = append(out.packages, f)
				if owned += len(r.Files); len(r.Files) > 0 && owned <= maxOwned {
					o := owner{Identity: f.identity(), Name: f.name, Maker: r.Vendor}
					for _, file := range r.Files {
						o.Paths = append(o.Paths, cleanPath(file))
					}
					out.owners = append(out.owners, o)
				}
				return nil
			})
		},
	}
}

// rpmJournal ends the name of SQLite's journal. rpm empties it when it is done; a
// database with a journal that is not empty lacks what the journal has.
const rpmJournal = "rpmdb.sqlite-wal"

func isRPMDatabase(p string) bool {
	dir, base := path.Split(p)
	switch dir {
	case "var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/":
	default:
		return false
	}
	switch base {
	case "rpmdb.sqlite", rpmJournal, "Packages", "Packages.db":
		return true
	}
	return false
}

func convertRPM(r *rpmdb.Package) (found, error) {
	f := found{
		purlType: purl.TypeRPM, name: r.Name, version: evr(r.Epoch, r.Version, r.Release), arch: r.Arch, module: module(r.ModularityLabel), maker: r.Vendor,
	}
	if name, version, ok := sourceRPM(r.SourceRPM); ok {
		// The file's name has no epoch; a source package has that of its packages but
		// for very few.
		f.sourceName, f.sourceVersion = name, evr(r.Epoch, version, "")
	}
	if r.License != "" && len(r.License) <= maxText {
		f.licenses = []string{valid(r.License)}
	}
	return f, f.tidy()
}

// evr is a version with its epoch, as advisories write it.
func evr(epoch int, version, release string) string {
	if release != "" {
		version += "-" + release
	}
	if epoch != 0 {
		version = strconv.Itoa(epoch) + ":" + version
	}
	return version
}

// sourceRPM takes apart `name-version-release.src.rpm`.
func sourceRPM(file string) (name, version string, ok bool) {
	s, ok := strings.CutSuffix(file, ".rpm")
	if !ok {
		return "", "", false
	}
	for _, arch := range []string{".src", ".nosrc"} {
		s = strings.TrimSuffix(s, arch)
	}
	release := strings.LastIndexByte(s, '-')
	if release < 1 {
		return "", "", false
	}
	dash := strings.LastIndexByte(s[:release], '-')
	if dash < 1 {
		return "", "", false
	}
	return s[:dash], s[dash+1:], true
}

// module is `name:stream` of a modularity label, which goes on with the version and
// the context of a build.
func module(label string) string {
	parts := strings.SplitN(label, ":", 3)
	if len(parts) < 2 {
		return ""
	}
	return parts[0] + ":" + parts[1]
}
