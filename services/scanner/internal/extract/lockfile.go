package extract

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/requirements"
	"github.com/google/osv-scalibr/extractor/filesystem/osv"
	"github.com/google/osv-scalibr/purl"
)

// lockfile makes a plugin of an extractor of lockfiles, whose names end like this.
func lockfile(ends ...string) func(*plugin) {
	return func(p *plugin) { setLockfile(p, ends) }
}

func setLockfile(p *plugin, ends []string) {
	required, extract := p.required, p.extract
	p.lock, p.maxSize, p.ends = true, maxParsed, ends
	p.required = func(p string, info fs.FileInfo) bool { return required(p, info) && !ofInstalled(p) }
	p.extract = func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		pkgs, err := extract(ctx, path, info, content)
		return slices.DeleteFunc(pkgs, func(p *extractor.Package) bool { return p.Version == "" || !pinned(p) || forDevelopment(p) }), err
	}
}

// installedDirs are directories of installed packages. Lockfiles in them are those
// that a package was developed with, and say nothing of the image.
var installedDirs = []string{"node_modules", "site-packages", "dist-packages", "vendor", "gems", "registry", "mod"}

func ofInstalled(p string) bool {
	return slices.ContainsFunc(strings.Split(path.Dir(p), "/"), func(dir string) bool { return slices.Contains(installedDirs, dir) })
}

// pinned: a requirement that is no equation names no version that is installed.
func pinned(p *extractor.Package) bool {
	m, ok := p.Metadata.(*requirements.Metadata)
	return !ok || m.VersionComparator == "==" || m.VersionComparator == "==="
}

// forDevelopment: what only the developers need is not in an image that was built
// for use.
func forDevelopment(p *extractor.Package) bool {
	m, ok := p.Metadata.(osv.DepGroups)
	if !ok || len(m.DepGroups()) == 0 {
		return false
	}
	return !slices.ContainsFunc(m.DepGroups(), func(g string) bool { return g != "dev" && g != "development" && g != "test" && g != "optional" })
}

// withoutStdlib leaves out the version of Go that a go.mod asks for: it is the oldest
// that would do, and not the one that anything is built with.
func withoutStdlib(next extractFunc) extractFunc {
	return func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		pkgs, err := next(ctx, path, info, content)
		return slices.DeleteFunc(pkgs, func(p *extractor.Package) bool { return p.Name == goStdlib }), err
	}
}

// pdmLockfile counts the packages of every group: a lockfile of PDM that names no groups looks
// to its extractor as if all packages were optional.
func pdmLockfile(p *plugin) {
	next := p.extract
	p.extract = func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		pkgs, err := next(ctx, path, info, content)
		for _, sp := range pkgs {
			sp.Metadata = nil
		}
		return pkgs, err
	}
	lockfile("pdm.lock")(p)
	p.checked(checkTOML)
}

// bunLock reads bun.lock: JSON with commas before closing brackets, where packages are lists that
// begin with `name@version`. What is for development only is not marked in it. The extractor of
// scalibr looks every package up in the whole text again.
func bunLock() *plugin {
	p := &plugin{
		name:     "bun-lock",
		required: func(p string, _ fs.FileInfo) bool { return path.Base(p) == "bun.lock" },
		extract: func(_ context.Context, _ string, _ fs.FileInfo, content *content) ([]*extractor.Package, error) {
			text, err := content.bytes()
			if err != nil {
				return nil, err
			}
			var lock struct {
				Packages map[string][]json.RawMessage `json:"packages"`
			}
			if err := json.Unmarshal(strictJSON(text), &lock); err != nil {
				return nil, fmt.Errorf("bun.lock: %w", err)
			}
			var out []*extractor.Package
			for key, list := range lock.Packages {
				if len(list) == 0 {
					return nil, fmt.Errorf("bun.lock: the package %.100q is empty", key)
				}
				id := jsonString(list[0])
				at := strings.LastIndexByte(id, '@')
				if at < 1 {
					return nil, fmt.Errorf("bun.lock: the package %.100q has no version", key)
				}
				if strings.Contains(id[at:], ":") {
					continue // of the project itself, or from elsewhere than a registry
				}
				out = append(out, &extractor.Package{Name: id[:at], Version: id[at+1:], PURLType: purl.TypeNPM})
			}
			return out, nil
		},
	}
	setLockfile(p, []string{"bun.lock"})
	return p
}

// strictJSON leaves out the commas before closing brackets.
func strictJSON(text []byte) []byte {
	out := make([]byte, 0, len(text))
	quoted, comma := false, -1
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quoted && c == '\\' && i+1 < len(text):
			out = append(out, c)
			i++
			c = text[i]
		case c == '"':
			quoted, comma = !quoted, -1
		case quoted:
		case c == ',':
			comma = len(out)
		case c == ']' || c == '}':
			if comma >= 0 {
				out[comma] = ' '
			}
			comma = -1
		case c != ' ' && c != '\t' && c != '\n' && c != '\r':
			comma = -1
		}
		out = append(out, c)
	}
	return out
}

// packageLock reads npm's lockfiles. The extractor of scalibr looks every package up
// in the whole text again, which takes minutes for a large hostile file.
func packageLock() *plugin {
	p := &plugin{
		name: "npm-lock",
		required: func(p string, _ fs.FileInfo) bool {
			base := path.Base(p)
			return base == "package-lock.json" || base == "npm-shrinkwrap.json"
		},
		extract: func(_ context.Context, _ string, _ fs.FileInfo, content *content) ([]*extractor.Package, error) {
			return parsePackageLock(content)
		},
	}
	setLockfile(p, []string{"package-lock.json", "npm-shrinkwrap.json"})
	return p
}

type npmLocked struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Dev         bool   `json:"dev"`
	DevOptional bool   `json:"devOptional"`
	Link        bool   `json:"link"`
	// Dependencies are packages in the older form, and mere versions in the newer.
	Dependencies json.RawMessage `json:"dependencies"`
}

// maxLockDepth is how deep packages within packages are followed, in the form of npm
// before 7.
const maxLockDepth = 16

func parsePackageLock(content *content) ([]*extractor.Package, error) {
	text, err := content.bytes()
	if err != nil {
		return nil, err
	}
	var lock struct {
		Packages     map[string]npmLocked `json:"packages"`
		Dependencies json.RawMessage      `json:"dependencies"`
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		return nil, fmt.Errorf("package-lock.json: %w", err)
	}
	var out []*extractor.Package
	add := func(name string, p npmLocked) {
		if name != "" && !p.Dev && !p.DevOptional && !p.Link {
			out = append(out, &extractor.Package{Name: name, Version: p.Version, PURLType: purl.TypeNPM})
		}
	}
	for at, p := range lock.Packages {
		// The key is a path; a package that is not under node_modules is the project.
		i := strings.LastIndex(at, nodeModules)
		if i < 0 {
			continue
		}
		name := at[i+len(nodeModules):]
		if p.Name != "" {
			name = p.Name
		}
		add(name, p)
	}
	if lock.Packages != nil {
		return out, nil
	}
	var nested func(raw json.RawMessage, depth int) error
	nested = func(raw json.RawMessage, depth int) error {
		if len(raw) == 0 {
			return nil
		}
		if depth > maxLockDepth {
			return fmt.Errorf("package-lock.json: packages nested deeper than %d", maxLockDepth)
		}
		var deps map[string]npmLocked
		if err := json.Unmarshal(raw, &deps); err != nil {
			return fmt.Errorf("package-lock.json: %w", err)
		}
		for name, p := range deps {
			add(name, p)
			if err := nested(p.Dependencies, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return out, nested(lock.Dependencies, 1)
}

// pipfileLock reads Pipfile.lock, what is for use. The extractor of scalibr looks every package up
// in the whole text again.
func pipfileLock() *plugin {
	p := &plugin{
		name:     "pipfile-lock",
		required: func(p string, _ fs.FileInfo) bool { return path.Base(p) == "Pipfile.lock" },
		extract: func(_ context.Context, _ string, _ fs.FileInfo, content *content) ([]*extractor.Package, error) {
			text, err := content.bytes()
			if err != nil {
				return nil, err
			}
			var lock struct {
				Default map[string]struct {
					Version string `json:"version"`
				} `json:"default"`
			}
			if err := json.Unmarshal(text, &lock); err != nil {
				return nil, fmt.Errorf("read Pipfile.lock: %w", err)
			}
			var out []*extractor.Package
			for name, p := range lock.Default {
				if version, ok := strings.CutPrefix(p.Version, "=="); ok {
					out = append(out, &extractor.Package{Name: name, Version: version, PURLType: purl.TypePyPi})
				}
			}
			return out, nil
		},
	}
	setLockfile(p, []string{"Pipfile.lock"})
	return p
}

const nodeModules = "node_modules/"

// installation tells what is installed, for the question whether a lockfile counts:
// places by the type of package.
type installation map[string][]string

// tools come with an interpreter and say nothing of what was installed with it.
var tools = []string{"pip", "setuptools", "wheel", "bundler"}

// installation collects what is installed and not the distribution's.
func (m *merger) installation(owned ownership) installation {
	in := installation{}
	for _, n := range m.files {
		place := n.path
		for i := range n.file.packages {
			f := &n.file.packages[i]
			if f.lock || slices.Contains(tools, f.name) || strings.Contains(place, "/specifications/default/") || owned.owns(f, place, n.layer) {
				continue
			}
			// One entry a file and type is enough.
			if places := in[f.purlType]; len(places) == 0 || places[len(places)-1] != place {
				in[f.purlType] = append(places, place)
			}
		}
	}
	for _, places := range in {
		slices.Sort(places)
	}
	return in
}

// covers tells whether packages are installed beside a lockfile. npm and Composer
// install below the project; the others into a place of the whole image.
func (in installation) covers(f *found, lock string) bool {
	places, below := in[f.purlType], ""
	switch f.purlType {
	case purl.TypeNPM:
		below = path.Join(path.Dir(lock), nodeModules) + "/"
	case purl.TypeComposer:
		if dir := path.Dir(lock); dir != "." {
			below = dir + "/"
		}
	}
	i, _ := slices.BinarySearch(places, below)
	return i < len(places) && strings.HasPrefix(places[i], below)
}
