package sbom

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// The members of SPDX 2.3 that are read.
type (
	spdxDocument struct {
		Packages      []spdxPackage `json:"packages"`
		OtherLicenses []struct {
			ID   string `json:"licenseId"`
			Text string `json:"extractedText"`
		} `json:"hasExtractedLicensingInfos"`
		Relationships []struct {
			From string `json:"spdxElementId"`
			To   string `json:"relatedSpdxElement"`
			Type string `json:"relationshipType"`
		} `json:"relationships"`
		Describes []string `json:"documentDescribes"`
	}
	spdxPackage struct {
		ID        string `json:"SPDXID"`
		Name      string `json:"name"`
		Version   string `json:"versionInfo"`
		Purpose   string `json:"primaryPackagePurpose"`
		License   string `json:"licenseDeclared"`
		Checksums []struct {
			Algorithm string `json:"algorithm"`
			Value     string `json:"checksumValue"`
		} `json:"checksums"`
		References []struct {
			Type    string `json:"referenceType"`
			Locator string `json:"referenceLocator"`
		} `json:"externalRefs"`
		Annotations []struct {
			Annotator string `json:"annotator"`
			Comment   string `json:"comment"`
		} `json:"annotations"`
	}
)

func readSPDX(content []byte) (*items, error) {
	var doc spdxDocument
	if err := json.Unmarshal(content, &doc); err != nil {
		return nil, fmt.Errorf("read SPDX: %w", err)
	}
	described := map[string]bool{}
	for _, id := range doc.Describes {
		described[id] = true
	}
	for _, r := range doc.Relationships {
		if r.Type == "DESCRIBES" && r.From == "SPDXRef-DOCUMENT" {
			described[r.To] = true
		}
	}
	other := map[string]string{}
	for _, l := range doc.OtherLicenses {
		other[l.ID] = l.Text
	}
	out := &items{}
	for i := range doc.Packages {
		p := &doc.Packages[i]
		purl := p.purl()
		switch {
		case described[p.ID] && (p.Purpose == "CONTAINER" || purl == "" || strings.HasPrefix(purl, "pkg:oci/")):
			out.name, out.digest = p.Name, p.digest()
			p.annotation(&out.image)
		case purl == "" && (p.Purpose == "OPERATING_SYSTEM" || p.Purpose == "OPERATING-SYSTEM"):
			out.distro = core.Distro{ID: p.Name, Version: p.Version}
		default:
			it := item{name: p.Name, version: p.Version, purl: purl, licenses: declared(p.License, other)}
			it.ours = p.annotation(&it.details)
			out.list = append(out.list, it)
		}
	}
	return out, nil
}

func (p *spdxPackage) purl() string {
	for _, r := range p.References {
		if r.Type == "purl" {
			return r.Locator
		}
	}
	return ""
}

func (p *spdxPackage) digest() string {
	for _, c := range p.Checksums {
		if c.Algorithm == "SHA256" && c.Value != "" {
			return "sha256:" + c.Value
		}
	}
	return ""
}

// annotation reads the annotation that our scanner writes.
func (p *spdxPackage) annotation(into any) bool {
	for _, a := range p.Annotations {
		if strings.HasPrefix(a.Annotator, "Tool: "+toolPrefix) && json.Unmarshal([]byte(a.Comment), into) == nil {
			return true
		}
	}
	return false
}

// declared takes an expression as one licence, and a reference as the text that it
// stands for. An expression of more than maxLicenses is one licence as it stands: each
// reference in it may stand for a long text.
func declared(expression string, other map[string]string) []string {
	if expression == "" || expression == noAssertion || expression == "NONE" {
		return nil
	}
	parts := strings.SplitN(expression, " AND ", maxLicenses+1)
	if strings.ContainsAny(expression, "()") || len(parts) > maxLicenses {
		return []string{expression}
	}
	for i, s := range parts {
		if text, ok := other[s]; ok {
			parts[i] = text
		}
	}
	// A reference may stand for no text at all.
	return slices.DeleteFunc(parts, func(s string) bool { return s == "" })
}
