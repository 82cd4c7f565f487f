package extract

import (
	"fmt"
	"strings"

	"github.com/google/osv-scalibr/extractor"
	apkmeta "github.com/google/osv-scalibr/extractor/filesystem/os/apk/metadata"
	dpkgmeta "github.com/google/osv-scalibr/extractor/filesystem/os/dpkg/metadata"
	"github.com/google/osv-scalibr/purl"
)

// found is a package as one file tells it, before the distribution is known.
type found struct {
	// purlType is the type of its package URL.
	purlType      string
	name          string
	version       string
	sourceName    string
	sourceVersion string
	arch          string
	licenses      []string
	// module is the module of an rpm package, as name:stream.
	module string
	// maker is who made an OS package, as its database says.
	maker string
	// jar is what is known of a Java archive whose coordinates are a guess.
	jar *jarClues
	// lock: a lockfile names the package, which need not be installed.
	lock bool
	// as is the name of the hard link the package was found under; empty for the
	// file's own name.
	as string
}

// identity tells versions of a package apart within a package database.
func (f *found) identity() string {
	return strings.Join([]string{f.purlType, f.name, f.version, f.arch}, "\x00")
}

// goStdlib is the name that advisories use for Go's standard library.
const goStdlib = "stdlib"

// develVersion is what Go calls the version of a module built from a checkout.
const develVersion = "(devel)"

// Bounds on what a package may be called; real ones stay far below. They keep a
// hostile package database from filling reports.
const (
	maxText     = 1000
	maxLicenses = 20
)

var errTextTooLong = fmt.Errorf("a package's name or version is longer than %d bytes", maxText)

// convert takes over what is needed of a package. ok is false for what is no
// package to report.
func convert(p *extractor.Package) (f found, ok bool, err error) {
	f = found{purlType: p.PURLType, name: p.Name, version: p.Version}
	for _, l := range p.Licenses {
		if l != "" && len(l) <= maxText && len(f.licenses) < maxLicenses {
			f.licenses = append(f.licenses, valid(l))
		}
	}
	switch m := p.Metadata.(type) {
	case *dpkgmeta.Metadata:
		f.arch, f.sourceName, f.sourceVersion = m.Architecture, m.SourceName, m.SourceVersion
	case *apkmeta.Metadata:
		f.arch, f.sourceName = m.Architecture, m.OriginName
	case *jarClues:
		f.jar = m
	}
	if p.PURLType == purl.TypeGolang {
		// scalibr calls the standard library `go`.
		if f.name == "go" {
			f.name, f.version = goStdlib, goVersion(f.version)
		}
		if f.version == develVersion {
			f.version = ""
		}
	}
	return f, f.name != "", f.tidy()
}

// tidy checks the texts of a package and brings them into the form of reports.
func (f *found) tidy() error {
	for _, s := range []*string{&f.name, &f.version, &f.sourceName, &f.sourceVersion, &f.arch, &f.module, &f.maker} {
		if len(*s) > maxText {
			return errTextTooLong
		}
		*s = valid(*s)
	}
	if f.sourceName == f.name {
		f.sourceName = ""
	}
	if f.sourceVersion == f.version {
		f.sourceVersion = ""
	}
	return nil
}

// valid makes text that can travel: messages and JSON are UTF-8, file names and
// package databases need not be.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// goVersion makes a semantic version of a Go release's: `1.22rc1` is `1.22.0-rc.1`.
// A development build has no version that could be compared.
func goVersion(v string) string {
	if strings.HasPrefix(v, "devel") {
		return ""
	}
	v, _, _ = strings.Cut(v, "-")
	for i := range len(v) {
		if v[i] != '.' && (v[i] < '0' || v[i] > '9') {
			number, pre := v[:i], v[i:]
			if strings.Count(number, ".") == 1 {
				number += ".0"
			}
			if j := strings.IndexAny(pre, "0123456789"); j > 0 {
				pre = pre[:j] + "." + pre[j:]
			}
			return number + "-" + pre
		}
	}
	return v
}
