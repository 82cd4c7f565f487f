// Package sbom makes bills of materials of reports, and reads them back. The same
// report and time give the same bytes: nothing in them is a reading of a clock or of
// a random source.
package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
)

// timestamp has the precision that SPDX allows.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// imageCreated is when the image says that it was made; empty if it does not say.
func imageCreated(r *scannerv1.Report) string {
	c := r.GetFacts().GetCreateTime()
	if c == nil || c.AsTime().Year() < 1970 || c.AsTime().Year() > 9999 {
		return ""
	}
	return c.AsTime().UTC().Format(time.RFC3339Nano)
}

func version(r *scannerv1.Report) string {
	if v := r.GetScanner().GetVersion(); v != "" {
		return v
	}
	return "unknown"
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
