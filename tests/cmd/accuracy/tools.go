package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// pkg is a package as the tools can be compared by: kind is the type of its package
// URL, name that of the ecosystem, for dpkg that of the source package too.
type pkg struct{ kind, name, version string }

// inventory is what a tool found, with a place where it says one.
type inventory map[pkg]string

// places are paths that a tool found something at, with and without its version.
type places map[versionAt]bool

type versionAt struct{ path, version string }

func (p places) add(path, version string) {
	p[versionAt{path, version}] = true
	p[versionAt{path, ""}] = true
}

// peer is another tool's outcome.
type peer struct {
	name     string
	packages inventory
	// places are all paths that it found packages at.
	places places
	// bySource: packages of distributions are named by their source.
	bySource bool
	// findings are ids by package; nil if the tool was not asked.
	findings map[pkg][]string
}

type report struct {
	Packages []struct {
		PURL, Name, Version, SourceName, SourceVersion, Location string
	}
	Problems []string
	Findings []struct {
		ID, PURL, Location string
		Aliases            []string
	}
	RawFindings json.RawMessage
}

func (r *runner) command(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, logs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &logs
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, logs.Bytes())
	}
	return out.Bytes(), nil
}

func (r *runner) ours(ctx context.Context, target, snapshot string) (*report, error) {
	content, err := r.command(ctx, nil, r.seaworthy, "scan", "-q", "--advisories", snapshot, "-o", "json", target)
	if err != nil {
		return nil, err
	}
	out := &report{}
	if err := json.Unmarshal(content, out); err != nil {
		return nil, err
	}
	var raw struct {
		Findings json.RawMessage `json:"findings"`
	}
	if err := json.Unmarshal(content, &raw); err != nil {
		return nil, err
	}
	out.RawFindings = raw.Findings
	return out, nil
}

func kindOf(purl string) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(purl, "pkg:"), "/")
	return kind
}

// plain brings names and versions of the tools together: PyPI's names are compared
// normalised, Go's versions without their prefixes.
func plain(kind, name, version string) pkg {
	switch kind {
	case "pypi":
		name = strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
	case "golang":
		version = strings.TrimPrefix(strings.TrimPrefix(version, "v"), "go")
		if version == "(devel)" || version == "UNKNOWN" {
			version = ""
		}
	}
	return pkg{kind, name, version}
}

// packages are ours, by source where a peer has them so.
func (o *report) packages(bySource bool) inventory {
	out := inventory{}
	for _, p := range o.Packages {
		kind, name := kindOf(p.PURL), p.Name
		if bySource && kind == "deb" && p.SourceName != "" {
			name = p.SourceName
		}
		out[plain(kind, name, p.Version)] = p.Location
	}
	return out
}

// peersOf runs the other tools that are there.
func (r *runner) peersOf(ctx context.Context, name, dir string) ([]peer, error) {
	var out []peer
	for _, tool := range []struct {
		name string
		run  func(context.Context, string, string) (peer, error)
	}{{"syft", r.syft}, {"osv-scanner", r.osvScanner}} {
		path := filepath.Join(r.peers, tool.name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			r.printf("(%s is not in %s: not compared)\n\n", tool.name, r.peers)
			continue
		}
		p, err := tool.run(ctx, path, dir)
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", tool.name, name, err)
		}
		out = append(out, p)
	}
	return out, nil
}

func (r *runner) syft(ctx context.Context, path, dir string) (peer, error) {
	content, err := r.command(ctx, []string{"SYFT_CHECK_FOR_APP_UPDATE=false"}, path, "-q", "oci-dir:"+dir, "-o", "json")
	if err != nil {
		return peer{}, err
	}
	var doc struct {
		Artifacts []struct {
			Name, Version, Type, PURL string
			Locations                 []struct{ Path string }
		}
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		return peer{}, err
	}
	out := peer{name: "syft", packages: inventory{}, places: places{}}
	for _, a := range doc.Artifacts {
		kind, name, place := a.Type, a.Name, ""
		if a.PURL != "" {
			kind = kindOf(a.PURL)
		}
		if kind == "maven" {
			id, _, _ := strings.Cut(strings.TrimPrefix(a.PURL, "pkg:maven/"), "@")
			if u, err := url.PathUnescape(strings.Replace(id, "/", ":", 1)); err == nil {
				name = u
			}
		}
		if len(a.Locations) > 0 {
			place = strings.TrimPrefix(a.Locations[0].Path, "/")
		}
		out.packages[plain(kind, name, a.Version)] = place
		out.places.add(place, a.Version)
	}
	return out, nil
}

// linkOSV lays the records out as osv-scanner expects its cache.
func (r *runner) linkOSV() error {
	osv, err := filepath.Abs(filepath.Join(r.data, "osv"))
	if err != nil {
		return err
	}
	return os.Symlink(osv, filepath.Join(r.work, "osv-scalibr"))
}

// kinds are types of package URLs by OSV ecosystem.
var kinds = map[string]string{"Debian": "deb", "Go": "golang", "PyPI": "pypi", "Maven": "maven", "npm": "npm"}

func (r *runner) osvScanner(ctx context.Context, path, dir string) (peer, error) {
	file := filepath.Join(r.work, "osv.json")
	// It exits with 1 when there are findings.
	_, err := r.command(ctx, []string{"OSV_SCALIBR_LOCAL_DB_CACHE_DIRECTORY=" + r.work}, path, "scan", "image", "--archive", "--offline",
		"--offline-vulnerabilities", "--all-packages", "--all-vulns", "--format", "json", "--output-file", file, dir+".docker.tar")
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return peer{}, err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return peer{}, err
	}
	if err := os.Remove(file); err != nil {
		return peer{}, err
	}
	var doc struct {
		Results []struct {
			Source   struct{ Path string }
			Packages []struct {
				Package         struct{ Name, Version, Ecosystem string }
				Vulnerabilities []struct {
					ID      string
					Aliases []string
				}
			}
		}
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		return peer{}, err
	}
	out := peer{name: "osv-scanner", packages: inventory{}, places: places{}, findings: map[pkg][]string{}, bySource: true}
	for _, s := range doc.Results {
		for _, p := range s.Packages {
			eco, _, _ := strings.Cut(p.Package.Ecosystem, ":")
			kind := kinds[eco]
			if kind == "" {
				kind = eco
			}
			k := plain(kind, p.Package.Name, p.Package.Version)
			out.packages[k] = strings.TrimPrefix(s.Source.Path, "/")
			out.places.add(out.packages[k], k.version)
			for _, v := range p.Vulnerabilities {
				out.findings[k] = append(out.findings[k], append(v.Aliases, v.ID)...)
			}
		}
	}
	return out, nil
}
