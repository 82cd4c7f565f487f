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

type composerPackage struct {
	Name    string          `json:"name"`
	Version string          `json:"version"`
	License json.RawMessage `json:"license"`
}

// composerInstalled reads vendor/composer/installed.json, what Composer really
// installed. scalibr has no extractor for it.
func composerInstalled() *plugin {
	return &plugin{
		name: "composer-installed",
		required: func(p string, _ fs.FileInfo) bool {
			return p == "composer/installed.json" || strings.HasSuffix(p, "/composer/installed.json")
		},
		maxSize: maxParsed,
		extract: func(_ context.Context, _ string, _ fs.FileInfo, content *content) ([]*extractor.Package, error) {
			text, err := content.bytes()
			if err != nil {
				return nil, err
			}
			var two struct {
				Packages []composerPackage `json:"packages"`
			}
			if err := json.Unmarshal(text, &two); err == nil {
				return composerPackages(two.Packages), nil
			}
			// Composer 1 wrote the bare list.
			var one []composerPackage
			if err := json.Unmarshal(text, &one); err != nil {
				return nil, fmt.Errorf("installed.json: %w", err)
			}
			return composerPackages(one), nil
		},
	}
}

// composerLock reads composer.lock. The extractor of scalibr looks every package up
// in the whole text again, which takes minutes for a large hostile file.
func composerLock() *plugin {
	p := &plugin{
		name:     "composer-lock",
		required: func(p string, _ fs.FileInfo) bool { return path.Base(p) == "composer.lock" },
		extract: func(_ context.Context, _ string, _ fs.FileInfo, content *content) ([]*extractor.Package, error) {
			text, err := content.bytes()
			if err != nil {
				return nil, err
			}
			var lock struct {
				Packages []composerPackage `json:"packages"`
			}
			if err := json.Unmarshal(text, &lock); err != nil {
				return nil, fmt.Errorf("composer.lock: %w", err)
			}
			return composerPackages(lock.Packages), nil
		},
	}
	setLockfile(p, []string{"composer.lock"})
	return p
}

func composerPackages(list []composerPackage) []*extractor.Package {
	var out []*extractor.Package
	for _, p := range list {
		if p.Name == "" || p.Version == "" {
			continue
		}
		e := &extractor.Package{Name: strings.ToLower(p.Name), Version: strings.TrimPrefix(p.Version, "v"), PURLType: purl.TypeComposer}
		// A text, or a list of alternatives.
		if json.Unmarshal(p.License, &e.Licenses) != nil {
			if l := jsonString(p.License); l != "" {
				e.Licenses = []string{l}
			}
		}
		out = append(out, e)
	}
	return out
}
