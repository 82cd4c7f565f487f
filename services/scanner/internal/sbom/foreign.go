package sbom

import (
	"fmt"
	"strings"

	"github.com/google/osv-scalibr/purl"
	"github.com/package-url/packageurl-go"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
)

// foreign makes a package of what another tool wrote: its package URL tells what
// advisories have to know.
func (it *item) foreign(d *core.Distro) (p *core.Package, problem string, err error) {
	if it.purl == "" {
		return nil, fmt.Sprintf("package %.200q has no package URL", it.name), nil
	}
	u, perr := packageurl.FromString(it.purl)
	if perr != nil {
		return nil, fmt.Sprintf("package %.200q has a malformed package URL", it.name), nil //nolint:nilerr // a problem of the document
	}
	q := u.Qualifiers.Map()
	if id, version, ok := strings.Cut(q["distro"], "-"); ok && d.ID == "" {
		*d = core.Distro{ID: id, Version: version}
	}
	out := &core.Package{
		PURL: it.purl, Name: foreignName(u), Version: u.Version, Ecosystem: extract.Ecosystem(u.Type, *d),
		Location: it.details.Location, LayerDigest: it.details.LayerDigest, Licenses: it.licenses,
	}
	switch u.Type {
	case purl.TypeGolang:
		out.Version = extract.GoVersion(out.Name, u.Version)
	case purl.TypeDebian, purl.TypeApk:
		out.SourceName, out.SourceVersion, _ = strings.Cut(q["upstream"], "@")
		if out.SourceName == out.Name {
			out.SourceName = ""
		}
		if out.SourceVersion == out.Version {
			out.SourceVersion = ""
		}
	}
	if out.Ecosystem == "" {
		problem = fmt.Sprintf("no advisories are known for packages of type %.40q of the distribution %.80q", u.Type, strings.TrimSpace(d.ID+" "+d.Version))
	}
	return out, problem, nil
}

// foreignName is the name that advisories use.
func foreignName(u packageurl.PackageURL) string {
	switch {
	case u.Namespace == "" || u.Type == purl.TypeDebian || u.Type == purl.TypeApk:
		return u.Name
	case u.Type == purl.TypeMaven:
		return u.Namespace + ":" + u.Name
	default:
		return u.Namespace + "/" + u.Name
	}
}
