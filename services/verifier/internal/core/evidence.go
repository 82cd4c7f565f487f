package core

import "time"

// The structs with `cel` tags are what rules see: the tag is the name of the
// field in an expression, and policy/README.md documents each. Renaming one
// breaks people's policies.

// Facts is everything a rule can see of one platform manifest.
type Facts struct {
	Image    *Image
	Packages []Package
	// Findings that affect the image, as far as anybody knows.
	Findings []Finding
	// Suppressed are findings that do not, by a VEX statement.
	Suppressed   []Finding
	Attestations []Attestation
	Advisories   Advisories
	Now          time.Time
}

// Image describes the platform manifest that is judged.
type Image struct {
	// Reference as it was pushed: registry/repository:tag@digest.
	Reference  string `cel:"reference"`
	Registry   string `cel:"registry"`
	Repository string `cel:"repository"`
	// Tag is what the digest was called when it was resolved; may be empty.
	Tag string `cel:"tag"`
	// Digest of the platform manifest.
	Digest string `cel:"digest"`
	// Platform as os/architecture[/variant].
	Platform string `cel:"platform"`
	// Created is the creation time that the configuration claims; the Unix epoch
	// if it claims none.
	Created time.Time         `cel:"created"`
	Labels  map[string]string `cel:"labels"`
	// User as written; empty means root.
	User         string   `cel:"user"`
	Entrypoint   []string `cel:"entrypoint"`
	Cmd          []string `cel:"cmd"`
	ExposedPorts []string `cel:"exposed_ports"`
	EnvNames     []string `cel:"env_names"`
	Distro       Distro   `cel:"distro"`
}

// Distro is the distribution that os-release names; empty if there is none.
type Distro struct {
	ID      string `cel:"id"`
	Version string `cel:"version"`
}

// Package is one package in the image.
type Package struct {
	Purl          string   `cel:"purl"`
	Name          string   `cel:"name"`
	Version       string   `cel:"version"`
	Ecosystem     string   `cel:"ecosystem"`
	SourceName    string   `cel:"source_name"`
	SourceVersion string   `cel:"source_version"`
	Location      string   `cel:"location"`
	Licenses      []string `cel:"licenses"`
}

// Finding is one vulnerability of one package.
type Finding struct {
	ID      string   `cel:"id"`
	Aliases []string `cel:"aliases"`
	// Severity is the name of SeverityRank.
	Severity     string `cel:"severity"`
	SeverityRank int64  `cel:"severity_rank"`
	// CVSS is the highest base score known, 0 if none.
	CVSS float64 `cel:"cvss"`
	// EPSS is the probability of exploitation in 30 days, 0 if not known.
	EPSS float64 `cel:"epss"`
	// KEV tells whether CISA lists it as exploited.
	KEV bool `cel:"kev"`
	// Package is the package's name.
	Package string `cel:"package"`
	// Version is the package's version.
	Version string `cel:"version"`
	// Purl is the package's URL.
	Purl string `cel:"purl"`
	// FixedVersions is empty if there is no fix.
	FixedVersions []string `cel:"fixed_versions"`
	// VexStatus is that of the newest VEX statement about it; empty if there is none.
	VexStatus string `cel:"vex_status" json:"-"`
	Location  string `cel:"location"`
}

// Attestation is one verified attestation.
type Attestation struct {
	PredicateType string `cel:"predicate_type"`
	// ManifestDigest names the attestation in the registry.
	ManifestDigest string `cel:"manifest_digest"`
	// KeyID is the key that it verified against.
	KeyID string `cel:"key_id"`
	// Signer is the subject of the certificate, or the key if it is signed with one.
	Signer string `cel:"signer" json:",omitempty"`
	// Issuer vouched for the subject of the certificate; empty for a key.
	Issuer string `cel:"issuer" json:",omitempty"`
	// SignTime is when it was signed, as far as it is proven or stated.
	SignTime time.Time `cel:"sign_time"`
	// Predicate is the decoded predicate, as JSON has it. Empty for scan reports
	// and bills of material, which rules see as findings and packages.
	Predicate map[string]any `cel:"predicate"`
}

// Advisories describes the advisory snapshot behind the findings.
type Advisories struct {
	Digest string `cel:"digest"`
	// Age is the evaluation time less DataTime.
	Age time.Duration `cel:"age"`
	// DataTime is the newest modification time of any advisory in it.
	DataTime time.Time `cel:"data_time"`
}

// Report is a decoded scan report out of verified evidence.
type Report struct {
	// Source is the attestation that carried the report.
	Source Attestation
	// Image holds the facts of the image's configuration; Judge fills in what the
	// reference says.
	Image    Image
	Platform Platform
	Packages []Package
	Findings []Finding
	// AdvisoryDigest and AdvisoryTime name the snapshot that was matched.
	AdvisoryDigest string
	AdvisoryTime   time.Time
	// Incomplete is set when the scanner could not read all of the image.
	Incomplete bool
	Problems   []string
}

// Rejected is an attestation that was found but is no evidence.
type Rejected struct {
	// PredicateType that it claims to be of; not verified.
	PredicateType  string
	ManifestDigest string
	// Why it is no evidence, for people.
	Why string
}

// PlatformEvidence is what was found for one platform manifest.
type PlatformEvidence struct {
	Digest   string
	Platform Platform
	// Report is nil if no sound report was found.
	Report *Report
	// Attestations verified, at most one a predicate type and key: the newest.
	Attestations []Attestation
	Rejected     []Rejected
	// VEX holds the documents of trusted authors that are attached.
	VEX []VexDocument `json:",omitempty"`
	// NotBefore is the signing time of the newest report that was judged before. An
	// older report is a replay: somebody took the newer one away.
	NotBefore time.Time
}
