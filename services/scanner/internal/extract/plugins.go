package extract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/google/osv-scalibr/binary/proto/config_go_proto"
	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gobinary"
	"github.com/google/osv-scalibr/extractor/filesystem/language/java/archive"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/packagejson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/wheelegg"
	"github.com/google/osv-scalibr/extractor/filesystem/os/apk"
	"github.com/google/osv-scalibr/extractor/filesystem/os/dpkg"
	"github.com/google/osv-scalibr/extractor/filesystem/simplefileapi"
	scalibrlog "github.com/google/osv-scalibr/log"
)

// plugin is one extractor and what is special about it.
type plugin struct {
	name string
	// required tells whether the extractor wants a file.
	required func(path string, info fs.FileInfo) bool
	// extract returns the packages of a file.
	extract func(ctx context.Context, path string, info fs.FileInfo, content []byte) ([]*extractor.Package, error)
	// executable: the extractor reads nothing but executables.
	executable bool
	// database: the file is the state of a package manager.
	database bool
	// lenient: a file that cannot be read is not a package to its own ecosystem
	// either, so it is no problem of the image. Test fixtures are full of them.
	lenient bool
}

type plugins struct {
	list   []*plugin
	byName map[string]*plugin
}

// job is one file name with the extractors that want it.
type job struct {
	path    string
	plugins []*plugin
}

// silence is set once: scalibr has one logger for the whole process and writes to
// it what it also returns.
var silence sync.Once

func newPlugins(l Limits) (*plugins, error) {
	silence.Do(func() { scalibrlog.SetLogger(discardLog{}) })
	hashJars := false
	cfg := &config_go_proto.PluginConfig{
		MaxFileSizeBytes: int64(l.MaxFile),
		PluginSpecific: []*config_go_proto.PluginSpecificConfig{{
			Config: &config_go_proto.PluginSpecificConfig_JavaArchive{JavaArchive: &config_go_proto.JavaArchiveConfig{
				HashJars:       &hashJars,
				MaxZipDepth:    maxArchiveDepth,
				MaxOpenedBytes: 2 * int64(l.MaxFile),
			}},
		}},
	}
	out := &plugins{}
	for _, c := range []struct {
		make func(*config_go_proto.PluginConfig) (filesystem.Extractor, error)
		set  func(*plugin)
	}{
		{dpkg.New, func(p *plugin) { p.database = true }},
		{apk.New, func(p *plugin) { p.database = true }},
		{gobinary.New, func(p *plugin) { p.executable = true }},
		{packagejson.New, func(p *plugin) { p.lenient, p.extract = true, tolerantPackageJSON(p.extract) }},
		{wheelegg.New, func(p *plugin) { p.lenient = true }},
		{archive.New, func(p *plugin) { p.extract = boundedArchive(p.extract, 2*int64(l.MaxFile)) }},
	} {
		// The limit on the size of a file is enforced before, with a problem in the
		// report; within scalibr it would make the file vanish silently.
		e, err := c.make(&config_go_proto.PluginConfig{PluginSpecific: cfg.GetPluginSpecific()})
		if err != nil {
			return nil, fmt.Errorf("make extractor: %w", err)
		}
		p := scalibrPlugin(e)
		c.set(p)
		out.list = append(out.list, p)
	}
	out.list = append(out.list, unsupportedRPM())
	out.byName = map[string]*plugin{}
	for _, p := range append([]*plugin{osReleasePlugin, ownerPlugin}, out.list...) {
		out.byName[p.name] = p
	}
	return out, nil
}

// scalibrPlugin drives an extractor of scalibr with a single file. Its file
// system is empty: the extractors in use look for nothing in it but os-release,
// which is read here once the layers are merged.
func scalibrPlugin(e filesystem.Extractor) *plugin {
	return &plugin{
		name: e.Name(),
		required: func(path string, info fs.FileInfo) bool {
			return e.FileRequired(simplefileapi.New(path, info))
		},
		extract: func(ctx context.Context, path string, info fs.FileInfo, content []byte) ([]*extractor.Package, error) {
			inv, err := e.Extract(ctx, &filesystem.ScanInput{
				FS: emptyFS{}, Path: path, Info: info, Reader: bytes.NewReader(content),
			})
			return inv.Packages, err
		},
	}
}

// unsupportedRPM makes a report of an rpm distribution incomplete: its packages
// are not read in this release, and no packages must not look like no findings.
func unsupportedRPM() *plugin {
	return &plugin{
		name: "rpm",
		required: func(path string, _ fs.FileInfo) bool {
			switch path {
			case "var/lib/rpm/rpmdb.sqlite", "var/lib/rpm/Packages", "var/lib/rpm/Packages.db",
				"usr/lib/sysimage/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/Packages", "usr/lib/sysimage/rpm/Packages.db":
				return true
			}
			return false
		},
		extract: func(context.Context, string, fs.FileInfo, []byte) ([]*extractor.Package, error) {
			return nil, errors.New("rpm databases are not supported")
		},
	}
}

func isOSRelease(path string) bool {
	return path == "etc/os-release" || path == "usr/lib/os-release"
}

// osReleasePlugin stands for os-release in lists of wanting extractors.
var osReleasePlugin = &plugin{name: "os-release"}

func (ps *plugins) wants(path string, info fs.FileInfo) []*plugin {
	var out []*plugin
	if isOSRelease(path) {
		out = append(out, osReleasePlugin)
	}
	if isOwnerList(path) {
		out = append(out, ownerPlugin)
	}
	for _, p := range ps.list {
		if p.required(path, info) {
			out = append(out, p)
		}
	}
	return out
}

// run gives a file to the extractors of a job. own is the name the file has; the
// job's path is another when a hard link stands for it.
func (ps *plugins) run(ctx context.Context, out *file, j job, own string, info fs.FileInfo, content []byte) {
	as := ""
	if j.path != own {
		as = j.path
	}
	for _, p := range j.plugins {
		if p == osReleasePlugin {
			out.osRelease = bytes.Clone(content[:min(len(content), maxOSRelease)])
			continue
		}
		if p == ownerPlugin {
			out.owners = ps.owners(j.path, content)
			continue
		}
		pkgs, err := p.guarded(ctx, j.path, info, content)
		if err != nil && !p.lenient && out.problem == "" {
			out.problem = fmt.Sprintf("%s: %s", j.path, oneLine(err))
		}
		out.database = out.database || p.database
		for _, sp := range pkgs {
			f, ok, err := convert(sp)
			switch {
			case err != nil:
				out.problem = fmt.Sprintf("%s: %v", j.path, err)
			case ok:
				f.as = as
				out.packages = append(out.packages, f)
			}
		}
	}
}

// guarded turns a panic of an extractor into an error: the bytes are hostile and
// the parsers are many.
func (p *plugin) guarded(ctx context.Context, path string, info fs.FileInfo, content []byte) (pkgs []*extractor.Package, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("extractor %s panicked: %v", p.name, r)
		}
	}()
	return p.extract(ctx, path, info, content)
}

// oneLine bounds the text of an error that ends up in a report.
func oneLine(err error) string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(err.Error(), "?")), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

type emptyFS struct{}

func (emptyFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (emptyFS) ReadDir(name string) ([]fs.DirEntry, error) {
	return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
}

func (emptyFS) Stat(name string) (fs.FileInfo, error) {
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

type discardLog struct{}

func (discardLog) Errorf(string, ...any) {}
func (discardLog) Error(...any)          {}
func (discardLog) Warnf(string, ...any)  {}
func (discardLog) Warn(...any)           {}
func (discardLog) Infof(string, ...any)  {}
func (discardLog) Info(...any)           {}
func (discardLog) Debugf(string, ...any) {}
func (discardLog) Debug(...any)          {}
