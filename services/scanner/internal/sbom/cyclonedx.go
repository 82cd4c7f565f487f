package sbom

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// Names of the properties that carry what CycloneDX has no member for.
const (
	propLayer         = "seaworthy:layerDigest"
	propLocation      = "seaworthy:location"
	propEcosystem     = "seaworthy:ecosystem"
	propSourceName    = "seaworthy:sourceName"
	propSourceVersion = "seaworthy:sourceVersion"
	propOS            = "seaworthy:platform:os"
	propArchitecture  = "seaworthy:platform:architecture"
	propVariant       = "seaworthy:platform:variant"
	propImageLayer    = "seaworthy:imageLayer"
	propImageCreated  = "seaworthy:imageCreated"
	propProblem       = "seaworthy:problem"
)

const imageElement, osElement = "Image", "OperatingSystem"

// CycloneDX returns the CycloneDX 1.6 document of a report as JSON. name is what
// the image is called, for example `registry.example/team/app`; at is when it was scanned.
func CycloneDX(name string, r *scannerv1.Report, at time.Time) ([]byte, error) {
	root := cdx.Component{
		BOMRef: imageElement, Type: cdx.ComponentTypeContainer, Name: name, Version: r.GetImageDigest(),
		PackageURL: imageref.PURL(name, r.GetImageDigest()),
		Properties: imageProperties(r),
	}
	if r.GetImageDigest() != "" {
		root.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sha256Of(r.GetImageDigest())}}
	}
	components := make([]cdx.Component, 0, len(r.GetPackages())+1)
	if d := r.GetFacts(); d.GetDistroId() != "" {
		components = append(components, cdx.Component{
			BOMRef: osElement, Type: cdx.ComponentTypeOS, Name: d.GetDistroId(), Version: d.GetDistroVersion(),
		})
	}
	refs := make([]string, 0, cap(components))
	for _, p := range r.GetPackages() {
		components = append(components, component(p))
	}
	for i := range components {
		refs = append(refs, components[i].BOMRef)
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp: timestamp(at), Component: &root,
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{
			Type: cdx.ComponentTypeApplication, Group: "seaworthy.dev", Name: "seaworthy-scanner", Version: version(r),
		}}},
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: imageElement, Dependencies: &refs}}
	if r.GetIncomplete() {
		bom.Compositions = &[]cdx.Composition{{Aggregate: cdx.CompositionAggregateIncomplete, Assemblies: &[]cdx.BOMReference{imageElement}}}
	}
	content, err := encodeCycloneDX(bom)
	if err != nil {
		return nil, err
	}
	bom.SerialNumber = serialNumber(content)
	return encodeCycloneDX(bom)
}

// encodeCycloneDX writes the members that CycloneDX 1.6 has.
func encodeCycloneDX(bom *cdx.BOM) ([]byte, error) {
	var buf bytes.Buffer
	enc := cdx.NewBOMEncoder(&buf, cdx.BOMFileFormatJSON).SetEscapeHTML(false)
	if err := enc.EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("encode CycloneDX: %w", err)
	}
	return bytes.TrimSpace(buf.Bytes()), nil
}

// serialNumber is a UUID of the kind that RFC 9562 leaves to applications, made of
// the content without it: another content is another document.
func serialNumber(content []byte) string {
	u := sha256.Sum256(content)
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// imageProperties is what the image itself is, and what of it could not be read.
func imageProperties(r *scannerv1.Report) *[]cdx.Property {
	p := r.GetPlatform()
	ps := properties(propOS, p.GetOs(), propArchitecture, p.GetArchitecture(), propVariant, p.GetVariant(), propImageCreated, imageCreated(r))
	for _, l := range r.GetFacts().GetLayers() {
		ps = append(ps, cdx.Property{Name: propImageLayer, Value: l})
	}
	for _, l := range r.GetProblems() {
		ps = append(ps, cdx.Property{Name: propProblem, Value: l})
	}
	return &ps
}

func component(p *scannerv1.Package) cdx.Component {
	c := cdx.Component{
		BOMRef: elementID(p), Type: cdx.ComponentTypeLibrary, Name: p.GetName(), Version: p.GetVersion(),
		PackageURL: p.GetPurl(), Licenses: cycloneDXLicenses(p.GetLicenses()),
	}
	if group, artifact, ok := strings.Cut(p.GetName(), ":"); ok && strings.HasPrefix(p.GetPurl(), "pkg:maven/") {
		c.Group, c.Name = group, artifact
	}
	// The ecosystem is there even if it is not known: the rest is then not to be
	// guessed either.
	ps := append([]cdx.Property{{Name: propEcosystem, Value: p.GetEcosystem()}}, properties(propSourceName, p.GetSourceName(), propSourceVersion, p.GetSourceVersion(),
		propLocation, p.GetLocation(), propLayer, p.GetLayerDigest())...)
	c.Properties = &ps
	if p.GetLocation() != "" {
		c.Evidence = &cdx.Evidence{Occurrences: &[]cdx.EvidenceOccurrence{{Location: "/" + p.GetLocation()}}}
	}
	return c
}

// properties makes properties of names and values in turn; empty values are left
// out.
func properties(pairs ...string) []cdx.Property {
	out := make([]cdx.Property, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, cdx.Property{Name: pairs[i], Value: pairs[i+1]})
		}
	}
	return out
}

// cycloneDXLicenses: a document has one expression or a list of licences, never
// both.
func cycloneDXLicenses(declared []string) *cdx.Licenses {
	if len(declared) == 0 {
		return nil
	}
	if allValid(declared) {
		return &cdx.Licenses{{Expression: expression(declared, nil)}}
	}
	out := make(cdx.Licenses, 0, len(declared))
	for _, d := range declared {
		out = append(out, cdx.LicenseChoice{License: &cdx.License{Name: d}})
	}
	return &out
}
