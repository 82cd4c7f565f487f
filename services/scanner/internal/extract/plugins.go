package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/osv-scalibr/binary/proto/config_go_proto"
	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/depsjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/packagesconfig"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/packageslockjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/paketlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gobinary"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gomod"
	"github.com/google/osv-scalibr/extractor/filesystem/language/java/gradlelockfile"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/pnpmlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/yarnlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/pdmlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/poetrylock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/pylock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/requirements"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/uvlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/wheelegg"
	"github.com/google/osv-scalibr/extractor/filesystem/language/ruby/gemfilelock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/ruby/gemspec"
	"github.com/google/osv-scalibr/extractor/filesystem/language/rust/cargoauditable"
	"github.com/google/osv-scalibr/extractor/filesystem/language/rust/cargolock"
	"github.com/google/osv-scalibr/extractor/filesystem/os/apk"
	"github.com/google/osv-scalibr/extractor/filesystem/os/pacman"
	"github.com/google/osv-scalibr/extractor/filesystem/os/portage"
	"github.com/google/osv-scalibr/extractor/filesystem/simplefileapi"
	scalibrlog "github.com/google/osv-scalibr/log"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// plugin is one extractor and what is special about it.
type plugin struct {
	name string
	// ends are one of what the path of every wanted file ends with; nil if nothing can
	// be said. Asking every extractor about every file of an image takes longer than
	// walking it.
	ends []string
	// required tells whether the extractor wants a file.
	required func(path string, info fs.FileInfo) bool
	// extract returns the packages of a file.
	extract extractFunc
	// look stands for extract where more than packages is found.
	look func(ctx context.Context, path string, content *content, out *file) error
	// maxSize is the size of the largest file that is looked into, 0 for MaxFile: what
	// is parsed as a whole takes several times its size.
	maxSize int64
	// executable: the extractor reads nothing but executables.
	executable bool
	// database: the file is the state of a package manager.
	database bool
	// lenient: a file that is malformed is not a package to its own ecosystem either, so
	// it is no problem of the image. Test fixtures are full of them.
	lenient bool
	// lock: the file says what would be installed. It counts only where nothing is.
	lock bool
	// search: the extractor searches the text for patterns, which costs more than
	// parsing it.
	search bool
}

type extractFunc = func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error)

// extractFrom is an extractor that reads a stream.
type extractFrom = func(ctx context.Context, path string, info fs.FileInfo, r io.Reader) ([]*extractor.Package, error)

type plugins struct {
	list   []*plugin
	byName map[string]*plugin
	// executables are those that read programs.
	executables []*plugin
	// archive reads what is called a Java archive, zip what only begins like one.
	archive, zip *plugin
}

// job is one file name with the extractors that want it.
type job struct {
	path    string
	plugins []*plugin
}

// silence is set once: scalibr has one logger for the whole process and writes to
// it what it also returns.
var silence sync.Once

func newPlugins(l Limits, o Options) (*plugins, error) {
	silence.Do(func() { scalibrlog.SetLogger(discardLog{}) })
	out := &plugins{}
	out.list = append(out.list, osReleasePlugin(), passwdPlugin(), ownerPlugin(out, l.MaxPackages))
	for _, c := range []struct {
		make func(*config_go_proto.PluginConfig) (filesystem.Extractor, error)
		set  func(*plugin)
	}{
		{apk.New, func(p *plugin) { p.database, p.ends = true, []string{"lib/apk/db/installed"} }},
		{pacman.New, func(p *plugin) { p.database, p.maxSize, p.ends = true, maxParsed, []string{"/desc"} }},
		{portage.New, func(p *plugin) { p.database, p.maxSize, p.ends = true, maxParsed, []string{"/PF"} }},
		{gobinary.New, func(p *plugin) { p.executable, p.extract = true, toldByGo(p.extract) }},
		{cargoauditable.New, func(p *plugin) { p.executable, p.lenient = true, true }},
		{wheelegg.New, func(p *plugin) {
			p.lenient, p.extract, p.ends = true, boundedWheel(p.extract), []string{"/PKG-INFO", ".egg-info", "/METADATA", ".egg", ".whl"}
		}},
		{gemspec.New, func(p *plugin) { p.maxSize, p.required = maxParsed, isInstalledGem; p.checked(checkLines) }},
		{depsjson.New, func(p *plugin) {
			p.lenient, p.maxSize, p.extract, p.ends = true, maxParsed, withoutProjects(p.extract), []string{".deps.json"}
		}},
		{yarnlock.New, func(p *plugin) { lockfile("yarn.lock")(p); p.checked(checkLines) }},
		{pnpmlock.New, lockfile("pnpm-lock.yaml")},
		{gemfilelock.New, func(p *plugin) { lockfile("Gemfile.lock", "gems.locked")(p); p.checked(checkLines) }},
		{cargolock.New, func(p *plugin) { lockfile("Cargo.lock")(p); p.checked(checkTOML) }},
		{poetrylock.New, func(p *plugin) { lockfile("poetry.lock")(p); p.checked(checkTOML) }},
		{uvlock.New, func(p *plugin) { lockfile("uv.lock")(p); p.checked(checkTOML) }},
		{requirements.New, func(p *plugin) { lockfile(".txt")(p); p.checked(checkLines) }},
		{pdmlock.New, pdmLockfile},
		{pylock.New, func(p *plugin) { lockfile(".toml")(p); p.checked(checkTOML) }},
		{gradlelockfile.New, func(p *plugin) { lockfile("gradle.lockfile")(p); p.checked(checkLines) }},
		{packageslockjson.New, lockfile("packages.lock.json")},
		{packagesconfig.New, lockfile("packages.config")},
		{paketlock.New, func(p *plugin) { lockfile("paket.lock")(p); p.checked(checkLines) }},
		{gomod.New, func(p *plugin) { lockfile("go.mod")(p); p.extract = withoutStdlib(p.extract) }},
	} {
		// The limit on the size of a file is enforced before, with a problem in the
		// report; within scalibr it would make the file vanish silently.
		e, err := c.make(&config_go_proto.PluginConfig{MaxFileSizeBytes: math.MaxInt64})
		if err != nil {
			return nil, fmt.Errorf("make extractor: %w", err)
		}
		p, from := scalibrPlugin(e)
		c.set(p)
		if p.database {
			p.extract = boundedRecords(from, l.MaxPackages)
			if p.maxSize > 0 {
				p.extract = onePackage(p.extract)
			}
		}
		out.list = append(out.list, p)
	}
	if !o.SkipSecrets {
		out.list = append(out.list, secretsPlugin())
	}
	out.list = append(out.list, dpkgPlugin(l.MaxPackages), rpmPlugin(out, l.MaxPackages), rpmManifestPlugin(l.MaxPackages), chiselPlugin(l.MaxPackages), bitnamiPlugin(),
		releasePlugin(), unreadPlugin(), javaArchive(), zipArchive(), packageJSON(), composerInstalled(), composerLock(), packageLock(), bunLock(), pipfileLock())
	out.byName = map[string]*plugin{}
	for _, p := range out.list {
		out.byName[p.name] = p
		if p.executable {
			out.executables = append(out.executables, p)
		}
	}
	out.archive, out.zip = out.byName[javaArchiveName], out.byName[zipArchiveName]
	return out, nil
}

// scalibrPlugin drives an extractor of scalibr with a single file. Its file
// system is empty: the extractors in use look for nothing in it but os-release,
// which is read here once the layers are merged.
func scalibrPlugin(e filesystem.Extractor) (*plugin, extractFrom) {
	from := func(ctx context.Context, path string, info fs.FileInfo, r io.Reader) ([]*extractor.Package, error) {
		inv, err := e.Extract(ctx, &filesystem.ScanInput{FS: emptyFS{}, Path: path, Info: info, Reader: r})
		return inv.Packages, err
	}
	return &plugin{
		name: e.Name(),
		required: func(path string, info fs.FileInfo) bool {
			return e.FileRequired(simplefileapi.New(path, info))
		},
		extract: func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
			return from(ctx, path, info, content.reader())
		},
	}, from
}

func isOSRelease(path string) bool {
	return path == "etc/os-release" || path == "usr/lib/os-release"
}

// osReleasePlugin keeps os-release for the merge.
func osReleasePlugin() *plugin {
	return &plugin{
		name:     "os-release",
		required: func(path string, _ fs.FileInfo) bool { return isOSRelease(path) },
		look: func(_ context.Context, _ string, content *content, out *file) error {
			head, err := io.ReadAll(io.LimitReader(content.reader(), maxOSRelease))
			out.osRelease = head
			return err
		},
	}
}

// passwdFile names the users of an image.
const passwdFile = "etc/passwd"

// maxPasswd is the size of the largest passwd file. Of a larger one no user is known.
const maxPasswd = 256 << 10

// passwdPlugin keeps the users for the merge.
func passwdPlugin() *plugin {
	return &plugin{
		name:     "passwd",
		required: func(path string, _ fs.FileInfo) bool { return path == passwdFile },
		look: func(_ context.Context, _ string, content *content, out *file) error {
			all, err := io.ReadAll(io.LimitReader(content.reader(), maxPasswd+1))
			if err == nil && len(all) <= maxPasswd {
				out.passwd = all
			}
			return err
		},
	}
}

func (ps *plugins) wants(path string, info fs.FileInfo) []*plugin {
	var out []*plugin
	executable := 0 // whether the extractors of executables want it, who all ask the same: not asked yet
	for _, p := range ps.list {
		if p.executable && executable != 0 {
			if executable > 0 {
				out = append(out, p)
			}
			continue
		}
		wanted := p.wants(path, info)
		if wanted {
			out = append(out, p)
		}
		if p.executable {
			if executable = -1; wanted {
				executable = 1
			}
		}
	}
	return out
}

func (p *plugin) wants(path string, info fs.FileInfo) bool {
	if p.ends != nil && !slices.ContainsFunc(p.ends, func(end string) bool { return strings.HasSuffix(path, end) }) {
		return false
	}
	return p.required(path, info)
}

// run gives a file to the extractors of a job. Its error is a limit. own is the name the file has; the
// job's path is another when a hard link stands for it.
func (ps *plugins) run(ctx context.Context, b *budget, out *file, j job, own string, info fs.FileInfo, content *content) error {
	as := ""
	if j.path != own {
		as = j.path
	}
	for _, p := range j.plugins {
		if p.maxSize > 0 && content.size > p.maxSize {
			out.fail(j.path, fmt.Errorf("larger than %d bytes", p.maxSize))
			continue
		}
		if p.search && !b.spendSearch(content.size) {
			out.fail(j.path, fmt.Errorf("not searched for credentials: the image has more than %d bytes of such files", maxSearched))
			continue
		}
		out.database = out.database || p.database
		before := len(out.packages)
		took, err := p.measured(ctx, maxWork, j.path, info, content, out)
		if core.AsFault(err) != nil {
			return err
		}
		if err := b.spendWork(took); err != nil {
			return err
		}
		var untold *untoldError
		if errors.As(err, &untold) {
			out.untold, err = j.path+": "+untold.why, nil
		}
		if err != nil && (!p.lenient || errors.Is(err, errOver)) {
			out.fail(j.path, err)
		}
		for i := before; i < len(out.packages); i++ {
			out.packages[i].as, out.packages[i].lock = as, p.lock
		}
	}
	return nil
}

// fail notes the first problem of a file.
func (f *file) fail(path string, err error) {
	if f.problem == "" {
		f.problem = fmt.Sprintf("%s: %s", path, oneLine(err))
	}
}

// measured stops an extractor that is busy with a file for too long, and tells how long it was.
func (p *plugin) measured(ctx context.Context, limit time.Duration, path string, info fs.FileInfo, content *content, out *file) (took time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	content.work = beginWork(limit)
	defer func() { content.work = nil }()
	err = p.guarded(workContext{Context: ctx, work: content.work}, path, info, content, out) //nolint:contextcheck // workContext wraps ctx
	took = threadTime() - content.work.begin
	if content.work.err != nil && core.AsFault(err) == nil && ctx.Err() == nil {
		return took, content.work.err // whatever the extractor made of it
	}
	return took, err
}

// guarded turns a panic of an extractor into an error: the bytes are hostile and
// the parsers are many.
func (p *plugin) guarded(ctx context.Context, path string, info fs.FileInfo, content *content, out *file) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("extractor %s panicked: %v", p.name, r)
		}
	}()
	if p.maxSize > 0 {
		if content, err = content.withoutBOM(); err != nil {
			return err
		}
	}
	if p.look != nil {
		return p.look(ctx, path, content, out)
	}
	pkgs, err := p.extract(ctx, path, info, content)
	for _, sp := range pkgs {
		f, ok, cerr := convert(sp)
		switch {
		case cerr != nil:
			out.fail(path, cerr)
		case ok:
			out.packages = append(out.packages, f)
		}
	}
	return err
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
