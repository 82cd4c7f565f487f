package sbom

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// The members of CycloneDX 1.6 that are read.
type (
	cdxDocument struct {
		Metadata struct {
			Component cdxComponent `json:"component"`
		} `json:"metadata"`
		Components   []cdxComponent `json:"components"`
		Compositions []struct {
			Aggregate string `json:"aggregate"`
		} `json:"compositions"`
	}
	cdxComponent struct {
		Type     string `json:"type"`
		Group    string `json:"group"`
		Name     string `json:"name"`
		Version  string `json:"version"`
		PURL     string `json:"purl"`
		Licenses []struct {
			Expression string `json:"expression"`
			License    struct {
				ID   string `json:"id"`
				Name string `json:"name"`
			} `json:"license"`
		} `json:"licenses"`
		Hashes []struct {
			Algorithm string `json:"alg"`
			Value     string `json:"content"`
		} `json:"hashes"`
		Properties []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"properties"`
		Evidence struct {
			Occurrences []struct {
				Location string `json:"location"`
			} `json:"occurrences"`
		} `json:"evidence"`
		Components []cdxComponent `json:"components"`
	}
)

func readCycloneDX(content []byte) (*items, error) {
	var doc cdxDocument
	if err := json.Unmarshal(content, &doc); err != nil {
		return nil, fmt.Errorf("read CycloneDX: %w", err)
	}
	root := &doc.Metadata.Component
	out := &items{name: root.Name}
	for _, h := range root.Hashes {
		if h.Algorithm == "SHA-256" {
			out.digest = "sha256:" + h.Value
		}
	}
	root.imageDetails(&out.image)
	for _, c := range doc.Compositions {
		out.incomplete = out.incomplete || strings.HasPrefix(c.Aggregate, "incomplete")
	}
	out.addComponents(doc.Components)
	return out, nil
}

// addComponents takes components and those within them. The decoder bounds how
// deep they may be.
func (it *items) addComponents(list []cdxComponent) {
	for i := range list {
		c := &list[i]
		switch {
		case c.Type == "operating-system" && c.PURL == "":
			it.distro = core.Distro{ID: c.Name, Version: c.Version}
		case c.Type == "file" && c.PURL == "":
			// Tools list files beside the packages that were found in them.
		default:
			it.list = append(it.list, c.item())
		}
		it.addComponents(c.Components)
	}
}

func (c *cdxComponent) item() item {
	out := item{name: c.Name, version: c.Version, purl: c.PURL}
	if c.Group != "" {
		separator := "/"
		if strings.HasPrefix(c.PURL, "pkg:maven/") {
			separator = ":"
		}
		out.name = c.Group + separator + c.Name
	}
	for _, l := range c.Licenses[:min(len(c.Licenses), maxLicenses)] {
		for _, s := range []string{l.Expression, l.License.ID, l.License.Name} {
			if s != "" {
				out.licenses = append(out.licenses, s)
				break
			}
		}
	}
	if len(c.Evidence.Occurrences) > 0 {
		out.details.Location = strings.TrimPrefix(c.Evidence.Occurrences[0].Location, "/")
	}
	members := map[string]*string{
		propEcosystem: &out.details.Ecosystem, propSourceName: &out.details.SourceName, propSourceVersion: &out.details.SourceVersion,
		propLocation: &out.details.Location, propLayer: &out.details.LayerDigest,
	}
	for _, p := range c.Properties {
		if m := members[p.Name]; m != nil {
			*m, out.ours = p.Value, true
		}
	}
	return out
}

func (c *cdxComponent) imageDetails(d *imageDetails) {
	for _, p := range c.Properties {
		switch p.Name {
		case propOS:
			d.OS = p.Value
		case propArchitecture:
			d.Architecture = p.Value
		case propVariant:
			d.Variant = p.Value
		case propImageLayer:
			d.Layers = append(d.Layers, p.Value)
		case propImageCreated:
			d.Created = p.Value
		case propProblem:
			d.Problems = append(d.Problems, p.Value)
		}
	}
}
