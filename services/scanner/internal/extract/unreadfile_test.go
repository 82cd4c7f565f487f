package extract_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

// jarOf is a zip archive.
func jarOf(t *testing.T, files map[string]string) string {
	t.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for name, content := range files {
		w, err := zw.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

const elfHead = "\x7fELF\x02\x01\x01\x00"

// TestUnreadFiles: what is recognised as packages and not read is named, in few words.
func TestUnreadFiles(t *testing.T) {
	program := elfHead + strings.Repeat("\x00", 2000)
	gemspec := "Gem::Specification.new do |s|\n  s.name = \"rack\"\n  s.version = \"2.0.0\"\nend\n"
	metadata := "Metadata-Version: 2.1\nName: Django\nVersion: 2.2.0\n\n"
	status := lt.File("opt/d/status", dpkgTwo)
	release := lt.File("etc/os-release", debianRelease)
	var many []lt.Entry
	for i := range 500 {
		many = append(many, lt.File(fmt.Sprintf("a/%03d/mix.lock", i), "x"))
	}
	for name, c := range map[string]struct {
		layer []lt.Entry
		want  string // of the only problem; empty if there is none
	}{
		"lockfile":                          {[]lt.Entry{lt.File("a/deno.lock", "{}"), lt.File("b/deno.lock", "{}")}, "lockfiles deno.lock are not read: a/deno.lock, b/deno.lock"},
		"many":                              {many, "lockfiles mix.lock are not read: a/000/mix.lock, a/001/mix.lock, a/002/mix.lock and 497 more"},
		"lockfile beside what is installed": {[]lt.Entry{lt.File("a/bun.lockb", "x"), npm("a/node_modules/b", "b", "1.0.0")}, ""},
		"lockfile of a dependency":          {[]lt.Entry{lt.File("a/node_modules/b/deno.lock", "x")}, ""},
		"Plug'n'Play":                       {[]lt.Entry{lt.File("a/.pnp.cjs", "x")}, "lockfiles .pnp.cjs"},
		"Plug'n'Play with its lockfile":     {[]lt.Entry{lt.File("a/.pnp.cjs", "x"), lockfiles["yarn"].entry, lt.File("a/yarn.lock", lockfiles["yarn"].entry.Content)}, ""},
		"Electron":                          {[]lt.Entry{lt.File("opt/a/app.asar", "x")}, "archives of Electron are not read: opt/a/app.asar"},
		"conda":                             {[]lt.Entry{lt.File("opt/conda/conda-meta/openssl-1.1.1.json", "{}")}, "packages of conda"},
		"Homebrew":                          {[]lt.Entry{lt.File("home/linuxbrew/.linuxbrew/Cellar/a/1/INSTALL_RECEIPT.json", "{}")}, "packages of Homebrew"},
		"R":                                 {[]lt.Entry{lt.File("usr/local/lib/R/site-library/a/DESCRIPTION", "x")}, "packages of R"},
		"Nix":                               {[]lt.Entry{lt.File("nix/store/x-openssl-1.1.1/lib/libssl.so", "x")}, "packages of Nix"},
		"Void":                              {[]lt.Entry{lt.File("var/db/xbps/pkgdb-0.38.plist", "x")}, "package databases are not read: var/db/xbps"},
		"Slackware":                         {[]lt.Entry{lt.File("var/log/packages/openssl-1.0", "x")}, "package databases"},
		"snap":                              {[]lt.Entry{lt.File("snap/core/1/meta/snap.yaml", "x")}, "snaps"},
		"link":                              {[]lt.Entry{lt.File("a/node_modules/b/x.txt", `{"name":"b"}`), lt.Symlink("a/node_modules/b/package.json", "x.txt")}, "files of packages behind links are not read: a/node_modules/b/package.json"},
		"link to what is read":              {[]lt.Entry{npm("b", "b", "1.0.0"), lt.Symlink("a/package.json", "../b/package.json"), lt.Symlink("c", "b")}, ""},
		"link of Python":                    {[]lt.Entry{lt.File("x/METADATA", metadata), lt.Symlink("Django-2.2.0.dist-info", "x")}, "behind links are not read: Django-2.2.0.dist-info"},
		"link of RubyGems":                  {[]lt.Entry{lt.File("g/specs/rack.gemspec", gemspec), lt.Symlink("g/specifications", "specs")}, "behind links are not read: g/specifications"},
		"link of Composer":                  {[]lt.Entry{lt.File("c/installed.json", "[]"), lt.Symlink("vendor/composer", "../c")}, "behind links are not read: vendor/composer"},
		"link of dpkg, with a decoy": {[]lt.Entry{release, status, lt.Symlink("var/lib/dpkg/status", "/opt/d/status"),
			lt.File("var/lib/dpkg/status.d/a", "Package: a\nVersion: 1\n")}, "behind links are not read: var/lib/dpkg/status"},
		"link of apk, with a decoy": {[]lt.Entry{lt.File("etc/os-release", alpineRelease), lt.File("opt/installed", "x"), lt.Symlink("lib/apk/db", "/opt"),
			lt.File("usr/lib/apk/db/installed", "P:musl\nV:1.2.5-r10\nA:x86_64\n\n")}, "behind links are not read: lib/apk/db"},
		"PyInstaller":  {[]lt.Entry{lt.Executable("a", program+"MEI\x0c\x0b\x0a\x0b\x0e"+strings.Repeat("\x00", 80))}, "a: a program with an application in it, made with PyInstaller"},
		"Bun":          {[]lt.Entry{lt.File("a", program+"\n---- Bun! ----\n")}, "made with Bun"},
		".NET":         {[]lt.Entry{lt.Executable("a", program+"App.deps.json\x00App.runtimeconfig.json")}, "made with .NET"},
		"AppImage":     {[]lt.Entry{lt.Executable("a", elfHead+"AI\x02"+strings.Repeat("\x00", 2000))}, "an AppImage"},
		"no such mark": {[]lt.Entry{lt.Executable("a", program)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inv := inventory(t, c.layer)
			switch {
			case c.want == "" && inv.Problems != nil, c.want != "" && (len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], c.want)):
				t.Errorf("problems %q, want one with %q", inv.Problems, c.want)
			}
		})
	}
}

// TestArchivesByContent: Java and Python run an archive whatever it is called, and whatever
// stands before it.
func TestArchivesByContent(t *testing.T) {
	jar := jarOf(t, map[string]string{"META-INF/maven/g/a/pom.properties": "groupId=g\nartifactId=a\nversion=1.0.0\n"})
	outer := jarOf(t, map[string]string{"lib/a.jar": jar, "x/b.zip": jarOf(t, map[string]string{"c.jar": jar})})
	python := jarOf(t, map[string]string{"Django-2.2.0.dist-info/METADATA": "", "x/EGG-INFO/PKG-INFO": "", "a/METADATA": ""})
	yarn := jarOf(t, map[string]string{"node_modules/lodash/package.json": `{"name":"lodash","version":"4.17.15"}`, "package.json": `{"name":"x","version":"1.0.0"}`})
	script := "#!/bin/sh\n" + strings.Repeat("# \n", 400) + "exec java -jar $0\n"
	g, django, lodash := []string{"pkg:maven/g/a@1.0.0"}, []string{"pkg:pypi/django@2.2.0"}, []string{"pkg:npm/lodash@4.17.15"}
	for name, c := range map[string]struct {
		entry lt.Entry
		want  []string
	}{
		"another name":       {lt.File("srv/app", jar), g},
		"zip with jars":      {lt.File("srv/app.zip", outer), g},
		"behind a script":    {lt.Executable("srv/app", script+jar), g},
		"behind a program":   {lt.Executable("srv/app", elfHead+strings.Repeat("\x00", 2000)+jar), g},
		"zipapp":             {lt.Executable("srv/app", "#!/usr/bin/env python3\n"+python), django},
		"Yarn's cache":       {lt.File("app/.yarn/cache/lodash.zip", yarn), lodash},
		"webjar in a jar":    {lt.File("a.jar", yarn), nil},
		"malformed":          {lt.File("testdata/x.zip", jar[:len(jar)-30]), nil},
		"script, no archive": {lt.Executable("srv/app", script), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, slices.Compact(short(t, []lt.Entry{c.entry}))); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
		})
	}
	// What is no archive under its own name may be one under that of a link.
	if got := short(t, []lt.Entry{lt.File("blob", jar), lt.HardLink("lib/a.jar", "blob")}); !slices.Contains(got, g[0]) {
		t.Errorf("hard link: %v", got)
	}
}

// TestOwners: a language's package in a package of the distribution is the distribution's, whose
// advisories decide. They say nothing of a package that another made.
func TestOwners(t *testing.T) {
	for maintainer, owned := range map[string]bool{
		"": true, "Maintainer: Debian OpenSSL Team <x@alioth-lists.debian.net>\n": true, "Maintainer: Elasticsearch Team <info@elastic.co>\n": false,
	} {
		got := short(t, []lt.Entry{
			lt.File("etc/os-release", debianRelease), npm("usr/share/a/node_modules/b", "b", "1.0.0"),
			lt.File("var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\n"+maintainer), lt.File("var/lib/dpkg/info/a.list", "/usr/share/a/node_modules/b/package.json\n"),
		})
		if slices.Contains(got, "pkg:npm/b@1.0.0") == owned {
			t.Errorf("%q: %v", maintainer, got)
		}
	}
}
