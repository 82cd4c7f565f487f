package extract

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/purl"
	"github.com/klauspost/compress/zstd"
	"github.com/package-url/packageurl-go"
)

// rpmManifest is what images of Mariner and Azure Linux without rpm have in the place of
// its database.
const rpmManifest = "var/lib/rpmmanifest/container-manifest-2"

// rpmManifestPlugin reads a list of rpm packages: a line each, its fields separated by tabs.
func rpmManifestPlugin(limit int) *plugin {
	return &plugin{
		name:     "rpmmanifest",
		database: true,
		required: func(path string, _ fs.FileInfo) bool { return path == rpmManifest },
		look: func(_ context.Context, _ string, content *content, out *file) error {
			sc := bufio.NewScanner(content.reader())
			var failed error
			for n := 1; sc.Scan(); n++ {
				if strings.TrimSpace(sc.Text()) == "" {
					continue
				}
				f, err := manifestRPM(strings.Split(sc.Text(), "\t"))
				switch {
				case err != nil:
					failed = first(failed, fmt.Errorf("line %d: %w", n, err))
				case f.name == "gpg-pubkey":
				case len(out.packages) >= limit:
					return exceeded("a package database has more than %d packages", limit)
				default:
					out.packages = append(out.packages, f)
				}
			}
			return first(failed, sc.Err())
		},
	}
}

func manifestRPM(fields []string) (found, error) {
	if len(fields) < 10 || fields[0] == "" || !strings.Contains(fields[1], "-") {
		return found{}, errors.New("no package of rpm")
	}
	epoch, _ := strconv.Atoi(fields[8])
	f := found{purlType: purl.TypeRPM, name: fields[0], version: evr(epoch, fields[1], ""), arch: fields[7]}
	if name, version, ok := sourceRPM(strings.TrimSpace(fields[9])); ok {
		f.sourceName, f.sourceVersion = name, evr(epoch, version, "")
	}
	return f, f.tidy()
}

// Limits on a manifest of chisel, decompressed.
const (
	maxChisel     = maxParsed
	maxChiselLine = 1 << 20
)

// errNoSources is why an inventory of chisel cannot be judged.
var errNoSources = errors.New("it does not name the source packages, which the distribution's advisories are about")

// chiselPlugin reads the manifest of chiselled Ubuntu images: JSON, a line each, compressed
// with zstd. scalibr's extractor decompresses without a limit.
func chiselPlugin(limit int) *plugin {
	return &plugin{
		name:     "chisel",
		database: true,
		required: func(p string, _ fs.FileInfo) bool { return path.Base(p) == "manifest.wall" },
		look: func(_ context.Context, _ string, content *content, out *file) error {
			zr, err := zstd.NewReader(content.reader(), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxChisel))
			if err != nil {
				return err
			}
			defer zr.Close()
			limited := &io.LimitedReader{R: zr, N: maxChisel + 1}
			sc := bufio.NewScanner(limited)
			sc.Buffer(nil, maxChiselLine)
			for sc.Scan() {
				var line struct{ Kind, Name, Version, Arch string }
				if err := json.Unmarshal(sc.Bytes(), &line); err != nil && limited.N == 0 {
					break // the line that the limit cut
				} else if err != nil {
					return fmt.Errorf("a line is not JSON: %w", err)
				}
				if line.Kind != "package" {
					continue
				}
				if line.Name == "" || line.Version == "" {
					return errNoPackage
				}
				if len(out.packages) >= limit {
					return exceeded("a package database has more than %d packages", limit)
				}
				f := found{purlType: purl.TypeDebian, name: line.Name, version: line.Version, arch: line.Arch}
				if err := f.tidy(); err != nil {
					return err
				}
				out.packages = append(out.packages, f)
			}
			if limited.N == 0 {
				return fmt.Errorf("larger than %d bytes", maxChisel)
			}
			return first(sc.Err(), errNoSources)
		},
	}
}

// onePackage: the file is what a package database has of one package.
func onePackage(next extractFunc) extractFunc {
	return func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		pkgs, err := next(ctx, path, info, content)
		if err == nil && len(pkgs) == 0 {
			err = errNoPackage
		}
		return pkgs, err
	}
}

const bitnami = "bitnami"

// bitnamiPlugin reads the documents of SPDX that Bitnami's images have of each application,
// such as `opt/bitnami/redis/.spdx-redis.spdx`. What else they list is read from the files
// of the application.
func bitnamiPlugin() *plugin {
	return &plugin{
		name:    bitnami,
		maxSize: maxParsed,
		required: func(p string, _ fs.FileInfo) bool {
			base := path.Base(p)
			return strings.HasPrefix(base, ".spdx-") && strings.HasSuffix(base, ".spdx")
		},
		look: func(_ context.Context, _ string, content *content, out *file) error {
			text, err := content.bytes()
			if err != nil {
				return err
			}
			var doc struct {
				Packages []struct {
					ExternalRefs []struct {
						Type    string `json:"referenceType"`
						Locator string `json:"referenceLocator"`
					} `json:"externalRefs"`
				} `json:"packages"`
			}
			if err := json.Unmarshal(text, &doc); err != nil {
				return fmt.Errorf("no document of SPDX in JSON: %w", err)
			}
			before := len(out.packages)
			for _, p := range doc.Packages {
				for _, ref := range p.ExternalRefs {
					if ref.Type != "purl" || !strings.HasPrefix(ref.Locator, "pkg:"+packageurl.TypeBitnami+"/") {
						continue
					}
					parsed, err := packageurl.FromString(ref.Locator)
					if err != nil || parsed.Version == "" {
						return fmt.Errorf("no package URL with a version: %.200q", ref.Locator)
					}
					f := found{purlType: packageurl.TypeBitnami, name: parsed.Name, version: parsed.Version}
					if err := f.tidy(); err != nil {
						return err
					}
					out.packages = append(out.packages, f)
				}
			}
			if len(out.packages) == before {
				return errors.New("names no package of Bitnami")
			}
			return nil
		},
	}
}
