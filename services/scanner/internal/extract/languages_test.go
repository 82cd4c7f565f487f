package extract_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

const scalibr = "github.com/google/osv-scalibr"

// short is name@version and ecosystem of what was found.
func short(t *testing.T, layers ...[]lt.Entry) []string {
	t.Helper()
	inv := inventory(t, layers...)
	if inv.Problems != nil {
		t.Errorf("problems: %q", inv.Problems)
	}
	var out []string
	for _, p := range inv.Packages {
		out = append(out, p.PURL)
	}
	return out
}

func TestInstalledPackages(t *testing.T) {
	for _, c := range []struct {
		name  string
		layer []lt.Entry
		want  []string
	}{
		{"gem", []lt.Entry{
			lt.File("usr/local/bundle/specifications/rack-3.1.8.gemspec", "# -*- encoding: utf-8 -*-\n# stub: rack 3.1.8 ruby lib\n\nGem::Specification.new do |s|\n  s.name = \"rack\".freeze\n  s.version = \"3.1.8\".freeze\nend\n"),
			lt.File("usr/local/bundle/gems/rack-3.1.8/rack.gemspec", "Gem::Specification.new do |s|\n  s.name = \"rack\"\n  s.version = \"9\"\nend\n"),
		}, []string{"pkg:gem/rack@3.1.8"}},
		{"composer 2", []lt.Entry{lt.File("app/vendor/composer/installed.json", `{"packages":[{"name":"Symfony/Http-Kernel","version":"v6.4.1","license":["MIT"]},{"name":"x"}],"dev":true}`)}, []string{"pkg:composer/symfony/http-kernel@6.4.1"}},
		{"composer 1", []lt.Entry{lt.File("app/vendor/composer/installed.json", `[{"name":"a/b","version":"1.0.0","license":"MIT"}]`)}, []string{"pkg:composer/a/b@1.0.0"}},
		{".NET", []lt.Entry{lt.File("app/web.deps.json", `{"libraries":{"web/1.0.0":{"type":"project"},"Newtonsoft.Json/12.0.1":{"type":"package"}}}`)}, []string{"pkg:nuget/Newtonsoft.Json@12.0.1"}},
		{"cargo-auditable", []lt.Entry{lt.Executable("usr/bin/app", moduleFile(t, scalibr, "extractor/filesystem/language/rust/cargoauditable/testdata/uses_serde_json/uses_serde_json"))}, []string{
			"pkg:cargo/itoa@1.0.14", "pkg:cargo/memchr@2.7.4", "pkg:cargo/proc-macro2@1.0.92", "pkg:cargo/quote@1.0.38", "pkg:cargo/ryu@1.0.18",
			"pkg:cargo/serde@1.0.217", "pkg:cargo/serde_derive@1.0.217", "pkg:cargo/serde_json@1.0.135", "pkg:cargo/syn@2.0.95",
			"pkg:cargo/unicode-ident@1.0.14", "pkg:cargo/uses_json@0.1.0",
		}},
		{"not .NET", []lt.Entry{lt.File("srv/editor.deps.json", `["a"]`)}, nil},
		{"broken", []lt.Entry{lt.File("node_modules/a/package.json", `{`)}, nil},
		{"byte order marks", []lt.Entry{
			lt.File("node_modules/a/package.json", "\xef\xbb\xbf"+`{"name":"a","version":"1.0.0"}`), lt.File("a/vendor/composer/installed.json", "\xef\xbb\xbf"+`[{"name":"a/b","version":"1.0.0"}]`),
			lt.File("app/web.deps.json", "\xef\xbb\xbf"+`{"libraries":{"A/1.0.0":{"type":"package"}}}`),
		}, []string{"pkg:composer/a/b@1.0.0", "pkg:npm/a@1.0.0", "pkg:nuget/A@1.0.0"}},
		{"what is installed by npm", []lt.Entry{
			lt.File("node_modules/marked/package.json", `{"name":"marked","version":"0.3.5","publisher":"x","engines":{"vscode":"^1.0.0"}}`),
			lt.File("node_modules/@s/nameless/package.json", `{"version":"1.0.0"}`), lt.File("node_modules/rxjs/operators/package.json", `{"version":"1.0.0"}`),
			lt.File("lib/lodash/package.json", `{"name":"lodash","version":"4.17.15","publisher":"x","engines":{"vscode":"^1.0.0"},"unity":"2019"}`),
			lt.File("node_modules/ms/package.json", `{"name":"ms"}`), lt.File("node_modules/ms/esm/package.json", `{"name":"ms"}`),
		}, []string{"pkg:npm/%40s/nameless@1.0.0", "pkg:npm/lodash@4.17.15", "pkg:npm/marked@0.3.5", "pkg:npm/ms"}},
		{"runtime of .NET", []lt.Entry{lt.File("app/a.deps.json", `{"libraries":{"runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/6.0.1":{"type":"runtimepack"},"B/1.0.0":{"type":"referenceassembly"}}}`)}, []string{"pkg:nuget/Microsoft.NETCore.App.Runtime.linux-x64@6.0.1"}},
		{"Python metadata without a name", []lt.Entry{lt.File("site-packages/requests-2.30.0.dist-info/METADATA", "Metadata-Version: 2.1\n\n")}, []string{"pkg:pypi/requests@2.30.0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, short(t, c.layer)); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
		})
	}
}

// lockfiles is one of each, at its usual place.
var lockfiles = map[string]struct {
	entry lt.Entry
	want  []string
}{
	"npm 7": {lt.File("app/package-lock.json", `{"lockfileVersion":3,"packages":{"":{"name":"app","version":"1.0.0"},"node_modules/a":{"version":"1.0.0"},
		"node_modules/a/node_modules/@s/b":{"version":"2.0.0"},"node_modules/dev":{"version":"1.0.0","dev":true},"packages/l":{"version":"0.1.0"},
		"node_modules/l":{"link":true},"node_modules/alias":{"name":"real","version":"3.0.0","dependencies":{"a":"^1"}}}}`), []string{"pkg:npm/%40s/b@2.0.0", "pkg:npm/a@1.0.0", "pkg:npm/real@3.0.0"}},
	"npm 6":    {lt.File("app/npm-shrinkwrap.json", `{"lockfileVersion":1,"dependencies":{"a":{"version":"1.0.0","requires":{"b":"1"},"dependencies":{"b":{"version":"1.5.0"}}},"dev":{"version":"1.0.0","dev":true}}}`), []string{"pkg:npm/a@1.0.0", "pkg:npm/b@1.5.0"}},
	"yarn":     {lt.File("app/yarn.lock", "# yarn lockfile v1\n\n\na@^1.0.0:\n  version \"1.0.1\"\n  resolved \"https://registry.yarnpkg.com/a/-/a-1.0.1.tgz#0\"\n"), []string{"pkg:npm/a@1.0.1"}},
	"pnpm":     {lt.File("app/pnpm-lock.yaml", "lockfileVersion: '9.0'\npackages:\n  a@1.0.2:\n    resolution: {integrity: sha512-x}\n"), []string{"pkg:npm/a@1.0.2"}},
	"composer": {lt.File("app/composer.lock", `{"packages":[{"name":"a/b","version":"v1.2.3"}],"packages-dev":[{"name":"dev/dev","version":"1.0.0"}]}`), []string{"pkg:composer/a/b@1.2.3"}},
	"bundler":  {lt.File("app/Gemfile.lock", "GEM\n  remote: https://rubygems.org/\n  specs:\n    rack (3.1.8)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  rack\n"), []string{"pkg:gem/rack@3.1.8"}},
	"cargo":    {lt.File("app/Cargo.lock", "version = 3\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.217\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n"), []string{"pkg:cargo/serde@1.0.217"}},
	"poetry":   {lt.File("app/poetry.lock", "[[package]]\nname = \"Requests\"\nversion = \"2.30.0\"\noptional = false\n"), []string{"pkg:pypi/requests@2.30.0"}},
	"pipenv":   {lt.File("app/Pipfile.lock", `{"_meta":{},"default":{"requests":{"version":"==2.30.0"}},"develop":{"pytest":{"version":"==8.0.0"}}}`), []string{"pkg:pypi/requests@2.30.0"}},
	"uv":       {lt.File("app/uv.lock", "version = 1\n\n[[package]]\nname = \"requests\"\nversion = \"2.30.0\"\nsource = { registry = \"https://pypi.org/simple\" }\n"), []string{"pkg:pypi/requests@2.30.0"}},
	"pip":      {lt.File("app/requirements.txt", "requests==2.30.0\nflask>=2\nurllib3\n"), []string{"pkg:pypi/requests@2.30.0"}},
	"go": {lt.File("app/go.mod", "module example.org/app\n\ngo 1.21.0\n\nrequire (\n\tgolang.org/x/text v0.3.5\n\tgolang.org/x/net v0.1.0 // indirect\n\texample.org/old v1.0.0\n\texample.org/local v1.0.0\n)\n\n"+
		"replace example.org/old => example.org/fork v1.0.1\n\nreplace example.org/local => ./local\n"), []string{"pkg:golang/example.org/fork@v1.0.1", "pkg:golang/golang.org/x/net@v0.1.0", "pkg:golang/golang.org/x/text@v0.3.5"}},
	"bun": {lt.File("app/bun.lock", "{\n  \"lockfileVersion\": 1,\n  \"workspaces\": {\"\": {\"name\": \"app,]\",},},\n  \"packages\": {\n    \"@s/b\": [\"@s/b@2.0.0\", \"\", {}, \"sha512-x\"],\n"+
		"    \"local\": [\"local@workspace:packages/local\"],\n    \"a\": [\"a@1.0.0\", \"\", {\"dependencies\": {\"b\": \"^1\",},}, \"sha512-x\",],\n  },\n}\n"), []string{"pkg:npm/%40s/b@2.0.0", "pkg:npm/a@1.0.0"}},
	"pdm":             {lt.File("app/pdm.lock", "[[package]]\nname = \"requests\"\nversion = \"2.30.0\"\n"), []string{"pkg:pypi/requests@2.30.0"}},
	"PEP 751":         {lt.File("app/pylock.toml", "lock-version = \"1.0\"\n[[packages]]\nname = \"requests\"\nversion = \"2.30.0\"\n"), []string{"pkg:pypi/requests@2.30.0"}},
	"gradle":          {lt.File("app/gradle.lockfile", "# comment\norg.example:a:1.0.0=compileClasspath,runtimeClasspath\nempty=annotationProcessor\n"), []string{"pkg:maven/org.example/a@1.0.0"}},
	"packages.config": {lt.File("app/packages.config", `<?xml version="1.0" encoding="utf-8"?><packages><package id="Newtonsoft.Json" version="12.0.1"/></packages>`), []string{"pkg:nuget/Newtonsoft.Json@12.0.1"}},
	"paket":           {lt.File("app/paket.lock", "NUGET\n  remote: https://api.nuget.org/v3/index.json\n    Newtonsoft.Json (12.0.1)\n      Other (>= 1.0)\n"), []string{"pkg:nuget/Newtonsoft.Json@12.0.1"}},
	"nuget":           {lt.File("app/packages.lock.json", `{"version":1,"dependencies":{"net8.0":{"Newtonsoft.Json":{"type":"Direct","resolved":"12.0.1"}}}}`), []string{"pkg:nuget/Newtonsoft.Json@12.0.1"}},
}

// TestLockfiles: a lockfile counts where nothing is installed beside it.
func TestLockfiles(t *testing.T) {
	installed := map[string]lt.Entry{
		"npm":      npm("app/node_modules/z", "z", "1.0.0"),
		"composer": lt.File("app/vendor/composer/installed.json", `[{"name":"z/z","version":"1.0.0"}]`),
		"gem":      lt.File("usr/local/bundle/specifications/z-1.0.0.gemspec", "Gem::Specification.new do |s|\n  s.name = \"z\".freeze\n  s.version = \"1.0.0\".freeze\nend\n"),
		"cargo":    lt.Executable("usr/bin/app", moduleFile(t, scalibr, "extractor/filesystem/language/rust/cargoauditable/testdata/no_deps/no_deps")),
		"pypi":     lt.File("usr/lib/python3/site-packages/z-1.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: z\nVersion: 1.0.0\n\n"),
		"golang":   lt.Executable("usr/bin/app", goProgram(t)),
		"maven":    lt.File("srv/z.jar", jarOf(t, map[string]string{"META-INF/maven/z/z/pom.properties": "groupId=z\nartifactId=z\nversion=1.0.0\n"})),
		"nuget":    lt.File("app/web.deps.json", `{"libraries":{"z/1.0.0":{"type":"package"}}}`),
	}
	for name, c := range lockfiles {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, short(t, []lt.Entry{c.entry})); diff != "" {
				t.Errorf("alone (-want +got):\n%s", diff)
			}
			kind, _, _ := strings.Cut(strings.TrimPrefix(c.want[0], "pkg:"), "/")
			alone := short(t, []lt.Entry{installed[kind]})
			if got := short(t, []lt.Entry{c.entry}, []lt.Entry{installed[kind]}); !slices.Equal(got, alone) || alone == nil {
				t.Errorf("beside something installed: %v", got)
			}
			for _, dir := range []string{"node_modules/x/", "usr/lib/python3/site-packages/x/"} {
				inside := c.entry
				inside.Name = dir + inside.Name
				if got := short(t, []lt.Entry{inside}); got != nil {
					t.Errorf("in an installed package: %v", got)
				}
			}
		})
	}
	// Beside another project, the first one's installation says nothing.
	if got := short(t, []lt.Entry{lockfiles["npm 6"].entry, npm("other/node_modules/z", "z", "1.0.0")}); len(got) != 3 {
		t.Errorf("two projects: %v", got)
	}
}

// TestUnreadLanguageFiles: what is recognised and cannot be read is named.
func TestUnreadLanguageFiles(t *testing.T) {
	deep := strings.Repeat(`{"a":{"version":"1.0.0","dependencies":`, 3000) + "{}" + strings.Repeat("}}", 3000)
	for _, f := range []lt.Entry{
		lt.File("a/composer/installed.json", `{`),
		lt.File("a/specifications/x.gemspec", "Gem::Specification.new do |s|\nend\n"),
		lt.File("package-lock.json", `{"dependencies":`+deep+`}`),
		lt.File("a/package-lock.json", `{`),
		lt.File("a/Cargo.lock", "a"+strings.Repeat(".a", 100_000)+" = 1\n"),
		lt.File("a/yarn.lock", "a@1:\n  version \"1\"\n  x "+strings.Repeat("y", 70_000)+"\nb@1:\n  version \"1\"\n"),
		lt.File("a/Pipfile.lock", `{`),
		lt.File("a/bun.lock", `{"packages":{"a":["a@1.0.0"]}`),
		lt.File("a/bun.lock", `{"packages":{"a":["a"]}}`),
		lt.File("a/bun.lock", `{"packages":{"a":[]}}`),
		lt.File("a/packages.config", `<packages>`),
		lt.File("a/pylock.toml", `[[`),
	} {
		if inv := inventory(t, []lt.Entry{f}); len(inv.Problems) != 1 || !strings.HasPrefix(inv.Problems[0], f.Name+": ") {
			t.Errorf("%s: %q", f.Name, inv.Problems)
		}
	}
}
