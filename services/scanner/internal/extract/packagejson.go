package extract

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/purl"
)

// packageJSON reads the package.json of installed packages. The extractor of scalibr is stricter
// than npm: to npm it does not matter that, for example, `contributors` is a string (parse5
// 6.0.1), so the package is installed and must not be missed.
func packageJSON() *plugin {
	return &plugin{
		name:     "javascript/packagejson",
		ends:     []string{"package.json"},
		required: func(p string, _ fs.FileInfo) bool { return path.Base(p) == "package.json" },
		// Node.js cannot load a package whose package.json is malformed.
		lenient: true,
		maxSize: maxParsed,
		extract: func(_ context.Context, p string, _ fs.FileInfo, content *content) ([]*extractor.Package, error) {
			text, err := content.bytes()
			if err != nil {
				return nil, err
			}
			return parsePackageJSON(p, text)
		},
	}
}

func parsePackageJSON(p string, text []byte) ([]*extractor.Package, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, fmt.Errorf("package.json: %w", err)
	}
	name, version := jsonString(members["name"]), jsonString(members["version"])
	if name == "" {
		name = directoryName(p)
	}
	// Node.js loads an installed package without a version all the same.
	if name == "" || version == "" && directoryName(p) == "" {
		return nil, nil
	}
	out := &extractor.Package{Name: name, Version: version, PURLType: purl.TypeNPM, Location: extractor.LocationFromPath(p)}
	if l := npmLicense(members["license"]); l != "" {
		out.Licenses = []string{l}
	}
	return []*extractor.Package{out}, nil
}

// directoryName is what Node.js finds a package by: its directory in node_modules.
func directoryName(p string) string {
	dir := path.Dir(p)
	i := strings.LastIndex("/"+dir, "/"+nodeModules)
	if i < 0 {
		return ""
	}
	name := dir[i+len(nodeModules):]
	if strings.Count(name, "/") > 1 || strings.Contains(name, "/") != strings.HasPrefix(name, "@") {
		return "" // a directory within a package
	}
	return name
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
