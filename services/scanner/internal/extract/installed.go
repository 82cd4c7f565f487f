package extract

import (
	"context"
	"io/fs"
	"path"
	"strings"

	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/depsjson"
)

// isInstalledGem: RubyGems writes the specification of what it installs into
// `specifications`; other gemspecs are sources that gems are made of.
func isInstalledGem(p string, _ fs.FileInfo) bool {
	if path.Ext(p) != ".gemspec" {
		return false
	}
	dir := path.Dir(p)
	return path.Base(dir) == "specifications" || strings.HasSuffix(dir, "specifications/default")
}

// runtimePack is what the names of the runtime's own packages begin with in a .deps.json.
const runtimePack = "runtimepack."

// withoutProjects leaves out what a .deps.json has beside packages: the application itself, its
// other projects, and assemblies that it only refers to. The runtime that a self-contained
// application brings along is a package.
func withoutProjects(next extractFunc) extractFunc {
	return func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		pkgs, err := next(ctx, path, info, content)
		var out []*extractor.Package
		for _, p := range pkgs {
			m, ok := p.Metadata.(*depsjson.Metadata)
			if !ok {
				continue
			}
			switch strings.ToLower(m.Type) {
			case "project", "msbuildproject", "reference", "referenceassembly", "platform":
				continue
			case "runtimepack":
				p.Name = strings.TrimPrefix(p.Name, runtimePack)
			}
			out = append(out, p)
		}
		return out, err
	}
}
