package extract

import (
	"context"
	"encoding/json"
	"io/fs"

	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/purl"
)

// tolerantPackageJSON falls back to name and version when the strict extractor
// refuses a package.json. npm itself does not care that, for example,
// `contributors` is a string (parse5 6.0.1), so the package is installed and must
// not be missed. It also takes the licence, which the extractor ignores.
func tolerantPackageJSON(strict extractFunc) extractFunc {
	return func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		pkgs, err := strict(ctx, path, info, content)
		if err == nil && len(pkgs) == 0 {
			return nil, nil
		}
		var members map[string]json.RawMessage
		text, rerr := content.bytes()
		if rerr != nil {
			return nil, rerr
		}
		if jerr := json.Unmarshal(text, &members); jerr != nil {
			return pkgs, err
		}
		if err != nil {
			name, version := jsonString(members["name"]), jsonString(members["version"])
			if name == "" || version == "" {
				return nil, err
			}
			pkgs = []*extractor.Package{{
				Name: name, Version: version, PURLType: purl.TypeNPM,
				Location: extractor.LocationFromPath(path),
			}}
		}
		if l := npmLicense(members["license"]); l != "" {
			pkgs[0].Licenses = []string{l}
		}
		return pkgs, nil
	}
}

// npmLicense reads both forms of the field: a string, and the old object.
func npmLicense(raw json.RawMessage) string {
	if s := jsonString(raw); s != "" {
		return s
	}
	var old struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(raw, &old) == nil {
		return old.Type
	}
	return ""
}

func jsonString(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
