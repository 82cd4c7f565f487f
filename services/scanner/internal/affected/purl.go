package affected

import (
	"fmt"
	"strings"

	"github.com/package-url/packageurl-go"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
)

// maxPURL is the length of the longest package URL, in bytes.
const maxPURL = 2048

// wanted is a package that is looked for.
type wanted struct{ url packageurl.PackageURL }

func parseWanted(purl string) (wanted, error) {
	if len(purl) > maxPURL {
		return wanted{}, fmt.Errorf("%w: longer than %d bytes", ErrPURL, maxPURL)
	}
	u, err := packageurl.FromString(purl)
	if err != nil {
		return wanted{}, fmt.Errorf("%w: %w", ErrPURL, err)
	}
	return wanted{u}, nil
}

// ecosystems are those that packages of the type can be of, without a release.
func (w wanted) ecosystems() []string {
	switch w.url.Type {
	case packageurl.TypeDebian:
		return []string{"Debian", "Ubuntu", ""}
	case packageurl.TypeApk:
		return []string{"Alpine", "Wolfi", "Chainguard", ""}
	case packageurl.TypeRPM:
		return append(advisory.RPMEcosystems(), "")
	}
	return []string{extract.Ecosystem(w.url.Type, core.Distro{})}
}

// name is the package's as inventories have it.
func (w wanted) name() string {
	switch {
	case w.url.Namespace == "" || w.url.Type == packageurl.TypeDebian || w.url.Type == packageurl.TypeApk || w.url.Type == packageurl.TypeRPM:
		return w.url.Name
	case w.url.Type == packageurl.TypeMaven:
		return w.url.Namespace + ":" + w.url.Name
	}
	return w.url.Namespace + "/" + w.url.Name
}

func (w wanted) keys() []core.PackageKey {
	var out []core.PackageKey
	for _, e := range w.ecosystems() {
		out = append(out, advisory.Key(e, w.name()))
	}
	return out
}

// is tells whether a package is the one that is looked for.
func (w wanted) is(p *scannerv1.Package) bool {
	if !strings.HasPrefix(p.GetPurl(), "pkg:"+w.url.Type+"/") {
		return false
	}
	u, err := packageurl.FromString(p.GetPurl())
	return err == nil && u.Name == w.url.Name &&
		(w.url.Namespace == "" && len(w.ecosystems()) > 1 || u.Namespace == w.url.Namespace) &&
		(w.url.Version == "" || w.url.Version == u.Version || w.url.Version == p.GetVersion())
}
