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

// withoutProjects leaves out what a .deps.json has beside packages: the application
// itself and its other projects.
func withoutProjects(next extractFunc) extractFunc {
	return func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		pkgs, err := next(ctx, path, info, content)
		var out []*extractor.Package
		for _, p := range pkgs {
			if m, ok := p.Metadata.(*depsjson.Metadata); !ok || m.Type == "package" {
				out = append(out, p)
			}
		}
		return out, err
	}
}
