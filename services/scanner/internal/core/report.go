package core

import (
	"cmp"
	"slices"
	"time"
)

// Platform is the platform of one manifest, in the terms of the OCI image
// specification.
type Platform struct {
	OS           string
	Architecture string
	Variant      string
}

// Package is one package found in an image.
type Package struct {
	// PURL is the package URL. It identifies the package within a report together
	// with Location.
	PURL    string
	Name    string
	Version string
	// Ecosystem is the OSV ecosystem, for example `Debian:12`. Empty when the
	// distribution is one that no advisories are known for.
	Ecosystem string
	// SourceName and SourceVersion name the source package that the distribution's
	// advisories speak of. Empty when it is the package itself.
	SourceName    string
	SourceVersion string
	// Location is a path without a leading slash.
	Location string
	// LayerDigest is the digest of the layer that brought the package.
	LayerDigest string
	Licenses    []string
	// InBase tells that a layer of the base image brought the package.
	InBase bool
}

// PackageKey is what advisories and stored inventories meet by.
type PackageKey struct {
	// Ecosystem is the OSV ecosystem without a release, for example `Debian`.
	Ecosystem string
	// Name is the name of the package, normalised by the rules of the ecosystem.
	Name string
}

// AdvisoryName is the name that advisories use for the package.
func (p *Package) AdvisoryName() string {
	if p.SourceName != "" {
		return p.SourceName
	}
	return p.Name
}

// AdvisoryVersion is the version that advisories compare with.
func (p *Package) AdvisoryVersion() string {
	if p.SourceVersion != "" {
		return p.SourceVersion
	}
	return p.Version
}

// Severity orders findings; the numbers are those of seaworthy.type.v1.Severity.
type Severity int

// The severities, from no statement at all to the worst.
const (
	SeverityUnknown    Severity = 1
	SeverityNegligible Severity = 2
	SeverityLow        Severity = 3
	SeverityMedium     Severity = 4
	SeverityHigh       Severity = 5
	SeverityCritical   Severity = 6
)

// Finding is one vulnerability of one package.
type Finding struct {
	// ID is the CVE if there is one, else the advisory's own id.
	ID string
	// Aliases are all ids of the vulnerability, sorted, ID included.
	Aliases        []string
	PURL           string
	PackageName    string
	PackageVersion string
	Severity       Severity
	CVSSScore      float64
	CVSSVector     string
	FixedVersions  []string
	Summary        string
	KEV            bool
	EPSS           float64
	LayerDigest    string
	Location       string
	// InBase tells that a layer of the base image brought the package.
	InBase bool
}

// SnapshotInfo names an advisory snapshot.
type SnapshotInfo struct {
	Digest        string
	DataTime      time.Time
	AdvisoryCount int64
	RejectedCount int64
	// Ecosystems are those of Coverage.
	Ecosystems []string
	// Coverage tells of which ecosystems and releases it has advisories, sorted.
	Coverage []Coverage
	// ExploitedKnown tells that it knows which vulnerabilities are exploited. If not, a
	// Finding without KEV says nothing.
	ExploitedKnown bool
	// ScoresKnown tells that it has the scores of EPSS. If not, a Finding with an EPSS of 0
	// says nothing.
	ScoresKnown bool
}

// Coverage is how many advisories a snapshot has about an ecosystem and release.
type Coverage struct {
	// Ecosystem is for example `Debian:12` or `npm`.
	Ecosystem     string
	AdvisoryCount int64
	// DataTime is that of the newest of them.
	DataTime time.Time
}

// ProblemNotCovered begins the problem of a report whose packages are of an ecosystem or
// release without advisories in the snapshot; the ecosystem follows.
const ProblemNotCovered = "the advisories in use have none about"

// Distro is the distribution an image is made from, as its os-release says.
type Distro struct {
	ID      string
	Version string
}

// Facts are the facts of an image's configuration that policies judge.
type Facts struct {
	User string
	// NonRoot is what NonRoot says of User.
	NonRoot      bool
	Entrypoint   []string
	Cmd          []string
	ExposedPorts []string
	EnvNames     []string
	Labels       map[string]string
	// Created is zero when the configuration does not say.
	Created time.Time
	Distro  Distro
	// Layers are the digests of the layers, lowest first.
	Layers []string
	Base   BaseImage
	// DistroEnd is when the support of the distribution's version ends; zero if that
	// is not known.
	DistroEnd time.Time
	// EnvSHA256 is the SHA-256 of the value of each environment variable, in hex.
	EnvSHA256 map[string]string
	// SetuidFiles are executable files with the setuid or setgid bit, sorted.
	SetuidFiles []string
	// Secrets are credentials, without their values.
	Secrets []Secret
	// PackageManagers are the names of those that are installed, sorted.
	PackageManagers []string
	// Shells are the paths of those that are installed, sorted.
	Shells []string
}

// Secret is a credential in an image. The credential itself is never kept.
type Secret struct {
	// Kind is for example `private-key`.
	Kind string
	// Location is the path of the file without a leading slash, or `env:NAME`.
	Location string
	// LayerDigest is of the layer that brought the file; empty for the environment.
	LayerDigest string
	// Deleted tells that a later layer deleted or replaced the file, which is in its layer
	// all the same.
	Deleted bool
}

// SortSecrets orders credentials by kind and location.
func SortSecrets(s []Secret) {
	slices.SortFunc(s, func(a, b Secret) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Location, b.Location)) })
}

// Inventory is what was found in the layers of one manifest.
type Inventory struct {
	Packages []Package
	Distro   Distro
	// SetuidFiles, Secrets, PackageManagers and Shells are as in Facts.
	SetuidFiles     []string
	Secrets         []Secret
	PackageManagers []string
	Shells          []string
	// Passwd is the content of /etc/passwd; nil if there is none that can be read.
	Passwd []byte
	// Problems name what could not be read, sorted. Any problem makes the report
	// incomplete.
	Problems []string
}

// Report is what was found in one platform manifest. The same manifest and the
// same snapshot give an equal report.
type Report struct {
	ImageDigest    string
	Platform       Platform
	Facts          Facts
	Packages       []Package
	Findings       []Finding
	Snapshot       SnapshotInfo
	ScannerURI     string
	ScannerVersion string
	// Problems are those of the inventory and those of matching.
	Problems []string
	// InventoryProblems are those of the inventory alone. They stay when the
	// inventory is matched again.
	InventoryProblems []string
}

// Sort brings packages, findings and problems into the order that reports are
// made in, and marks those of the base image.
func (r *Report) Sort() {
	r.markBase()
	SortPackages(r.Packages)
	slices.SortFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.PURL, b.PURL), cmp.Compare(a.Location, b.Location), cmp.Compare(a.ID, b.ID))
	})
	slices.Sort(r.Problems)
	r.Problems = slices.Compact(r.Problems)
}

// SortPackages orders packages by purl and location.
func SortPackages(ps []Package) {
	slices.SortFunc(ps, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.PURL, b.PURL), cmp.Compare(a.Location, b.Location), cmp.Compare(a.LayerDigest, b.LayerDigest))
	})
}

// Match puts the findings of a snapshot into the report, in the place of those it
// had. What it says of the image stays.
func (r *Report) Match(m Matcher) {
	findings, problems := m.Match(r.Packages)
	r.Findings, r.Snapshot = findings, m.Info()
	r.Problems = slices.Concat(r.InventoryProblems, problems)
	r.Sort()
}
