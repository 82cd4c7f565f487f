package sbom

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// MaxDocument is the size of the largest document that is read, in bytes.
const MaxDocument = 256 << 20

// maxText is the length of the longest text that is taken over, in bytes. Names,
// versions and places of real packages stay far below.
const maxText = 4096

// maxLicenses is how many licences of a package are taken over, as many as the scanner keeps.
const maxLicenses = 20

// Errors of documents that are not read.
var (
	ErrUnknownFormat = errors.New("the document is neither SPDX 2.3 nor CycloneDX 1.6 as JSON")
	ErrTooLarge      = errors.New("the document is over a limit")
)

// Document is a bill of materials that was read.
type Document struct {
	// Name is what the document calls the image, without its digest.
	Name string
	// Report has everything of the image that the document tells, without findings
	// and without a snapshot. What the document leaves open is a problem of it.
	Report core.Report
}

// Read reads a document of at most maxPackages packages: ours, or another tool's
// as far as its package URLs tell the ecosystem, the source package and the
// distribution. What could hide a vulnerability becomes a problem in the report.
func Read(content []byte, maxPackages int) (*Document, error) {
	if len(content) > MaxDocument {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxDocument)
	}
	var head struct {
		SPDXVersion string `json:"spdxVersion"`
		BOMFormat   string `json:"bomFormat"`
		SpecVersion string `json:"specVersion"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownFormat, err)
	}
	var items *items
	var err error
	switch {
	case strings.HasPrefix(head.SPDXVersion, "SPDX-2."):
		items, err = readSPDX(content)
	case head.BOMFormat == "CycloneDX" && strings.HasPrefix(head.SpecVersion, "1."):
		items, err = readCycloneDX(content)
	default:
		return nil, ErrUnknownFormat
	}
	if err != nil {
		return nil, err
	}
	return items.document(maxPackages)
}

// item is a package as a document tells it.
type item struct {
	name     string
	version  string
	purl     string
	licenses []string
	// ours tells that details hold what the scanner found; they are empty then where
	// it found nothing.
	ours    bool
	details details
}

// items is what both formats are reduced to.
type items struct {
	name   string
	digest string
	image  imageDetails
	distro core.Distro
	list   []item
	// incomplete tells that the document says so of itself.
	incomplete bool
}

func (it *items) document(maxPackages int) (*Document, error) {
	if len(it.list) > maxPackages {
		return nil, fmt.Errorf("%w: %d packages, more than %d", ErrTooLarge, len(it.list), maxPackages)
	}
	if imageref.CheckDigest(it.digest) != nil {
		it.digest = ""
	}
	doc := &Document{Name: it.name, Report: core.Report{
		ImageDigest: it.digest,
		Platform:    core.Platform{OS: it.image.OS, Architecture: it.image.Architecture, Variant: it.image.Variant},
		Facts:       core.Facts{Distro: it.distro, Layers: it.image.Layers},
		Problems:    it.image.Problems,
	}}
	// The time of a document is when it was written, not when the image was made.
	if t, err := time.Parse(time.RFC3339, it.image.Created); err == nil && t.Unix() > 0 {
		doc.Report.Facts.Created = t.UTC()
	}
	r := &doc.Report
	for i := range it.list {
		p, problem, err := it.list[i].pkg(&r.Facts.Distro)
		if err != nil {
			return nil, err
		}
		if problem != "" {
			r.Problems = append(r.Problems, problem)
		}
		if p != nil {
			r.Packages = append(r.Packages, *p)
		}
	}
	if it.incomplete && len(r.Problems) == 0 {
		r.Problems = append(r.Problems, "the bill of materials says that it is incomplete")
	}
	r.Sort()
	r.Packages = slices.CompactFunc(r.Packages, func(a, b core.Package) bool { return a.PURL == b.PURL && a.Location == b.Location })
	r.InventoryProblems = slices.Clone(r.Problems)
	return doc, nil
}

// pkg makes a package of an item; nil for what is none. d is the distribution, and
// set from a package URL if it is not known yet.
func (it *item) pkg(d *core.Distro) (p *core.Package, problem string, err error) {
	for _, s := range append([]string{
		it.name, it.version, it.purl, it.details.Ecosystem, it.details.SourceName, it.details.SourceVersion, it.details.Location, it.details.LayerDigest,
	}, it.licenses...) {
		if len(s) > maxText {
			return nil, "", fmt.Errorf("%w: text of a package is longer than %d bytes", ErrTooLarge, maxText)
		}
	}
	if !it.ours {
		return it.foreign(d)
	}
	return &core.Package{
		PURL: it.purl, Name: it.name, Version: it.version, Ecosystem: it.details.Ecosystem,
		SourceName: it.details.SourceName, SourceVersion: it.details.SourceVersion,
		Location: it.details.Location, LayerDigest: it.details.LayerDigest, Licenses: it.licenses,
	}, "", nil
}
