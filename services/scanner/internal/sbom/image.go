// Package sbom makes bills of materials of reports, and reads them back. The same
// report gives the same bytes: nothing in them is a reading of a clock or of a
// random source.
package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/package-url/packageurl-go"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
)

// created is the image's own time: the document says nothing that was not true
// then.
func created(r *scannerv1.Report) string {
	t := time.Unix(0, 0)
	if c := r.GetFacts().GetCreateTime(); c != nil && c.AsTime().Year() >= 1970 && c.AsTime().Year() <= 9999 {
		t = c.AsTime()
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func version(r *scannerv1.Report) string {
	if v := r.GetScanner().GetVersion(); v != "" {
		return v
	}
	return "unknown"
}

// imagePURL names an image by its digest; name is without tag and digest.
func imagePURL(name string, r *scannerv1.Report) string {
	last := name[strings.LastIndex(name, "/")+1:]
	var q packageurl.Qualifiers
	if a := r.GetPlatform().GetArchitecture(); a != "" {
		q = append(q, packageurl.Qualifier{Key: "arch", Value: a})
	}
	q = append(q, packageurl.Qualifier{Key: "repository_url", Value: name})
	return packageurl.NewPackageURL(packageurl.TypeOCI, "", strings.ToLower(last), r.GetImageDigest(), q, "").ToString()
}

// sha256Of returns the hex part of a digest.
func sha256Of(digest string) string {
	_, h, _ := strings.Cut(digest, ":")
	return h
}

// elementID names a package within a document: purl and location are unique to it
// within a report.
func elementID(p *scannerv1.Package) string {
	sum := sha256.Sum256([]byte(p.GetPurl() + "\x00" + p.GetLocation()))
	return "Package-" + hex.EncodeToString(sum[:12])
}
