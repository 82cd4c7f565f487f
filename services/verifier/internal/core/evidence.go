package core

import "time"

// What was recorded by an earlier release must be the same bytes when it is recorded
// again, or its verdicts can no longer be proven: a new field is left out of the JSON
// while it is empty.
//
// The structs with `cel` tags are what rules see: the tag is the name of the
// field in an expression, and docs/policies.md documents each. Renaming one
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
	// There is no tag: a verdict is about a digest, and a tag can be moved without a new
	// verdict.
	Registry   string `cel:"registry"`
	Repository string `cel:"repository"`
	// Digest of the platform manifest.
	Digest string `cel:"digest"`
	// Platform as os/architecture[/variant].
	Platform string `cel:"platform"`
	// Created is the creation time that the configuration claims; the Unix epoch
	// if it claims none.
	Created time.Time         `cel:"created"`
	Labels  map[string]string `cel:"labels"`
	// User as written; empty means root.
	User string `cel:"user"`
	// NonRoot says that the user is certainly not root, by the image's own /etc/passwd.
	NonRoot      bool     `cel:"non_root" json:",omitempty"`
	Entrypoint   []string `cel:"entrypoint"`
	Cmd          []string `cel:"cmd"`
	ExposedPorts []string `cel:"exposed_ports"`
	EnvNames     []string `cel:"env_names"`
	Distro       Distro   `cel:"distro"`
	// DistroEndTime is when the distribution's support of this version ends or ended;
	// for rules the Unix epoch if that is not known.
	DistroEndTime time.Time `cel:"distro_end_time" json:",omitzero"`
	BaseImage     BaseImage `cel:"base_image" json:",omitzero"`
	// SetuidFiles, PackageManagers and Shells are what the scanner found installed.
	SetuidFiles     []string `cel:"setuid_files" json:",omitempty"`
	PackageManagers []string `cel:"package_managers" json:",omitempty"`
	Shells          []string `cel:"shells" json:",omitempty"`
	Secrets         []Secret `cel:"secrets" json:",omitempty"`
}

// BaseImage is the image that another was built on; empty if that is not known.
type BaseImage struct {
	Name       string `cel:"name" json:",omitempty"`
	Digest     string `cel:"digest" json:",omitempty"`
	LayerCount int64  `cel:"layer_count" json:",omitempty"`
}

// Secret is a credential in an image, without the credential.
type Secret struct {
	Kind string `cel:"kind"`
	// Location is a path, or `env:NAME`.
	Location    string `cel:"location"`
	LayerDigest string `cel:"layer_digest" json:",omitempty"`
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
	// InBaseImage tells whether a layer of the base image brought it.
	InBaseImage bool `cel:"in_base_image" json:",omitempty"`
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
	// FirstSeen is when the verifier first judged a report of the image with this finding,
	// without one between that did not have it.
	FirstSeen time.Time `cel:"first_seen" json:",omitzero"`
	// VexStatus is that of the newest VEX statement about it; empty if there is none.
	VexStatus string `cel:"vex_status" json:"-"`
	Location  string `cel:"location"`
	// InBaseImage tells whether a layer of the base image brought the package.
	InBaseImage bool `cel:"in_base_image" json:",omitempty"`
}

// Attestation is one verified attestation.
type Attestation struct {
	PredicateType string `cel:"predicate_type"`
	// ManifestDigest names the attestation in the registry.
	ManifestDigest string `cel:"manifest_digest"`
	// KeyID is the key or the trusted identity that it verified against.
	KeyID string `cel:"key_id"`
	// Identity is the subject of the certificate that signed and Issuer who vouched
	// for it; both are empty for a key.
	Identity string `cel:"identity" json:",omitempty"`
	Issuer   string `cel:"issuer" json:",omitempty"`
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
	// ExploitedKnown tells that it knows which vulnerabilities are exploited, so that a
	// finding without KEV says something; ScoresKnown that it has the scores of EPSS.
	ExploitedKnown bool `cel:"exploited_known"`
	ScoresKnown    bool `cel:"scores_known"`
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
	// NoExploited and NoScores tell that the advisories knew nothing of KEV or EPSS.
	NoExploited bool `json:",omitempty"`
	NoScores    bool `json:",omitempty"`
	// ScanTime is when the scan ended, as the report states, and Content the digest of
	// what rules can read of it. They are not recorded with the evidence: no verdict is
	// made from them.
	ScanTime time.Time `json:"-"`
	Content  string    `json:"-"`
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
	// Unread says why there may be attestations that were not read; empty if all were.
	Unread string `json:",omitempty"`
	// NotBefore is the signing time of the newest report that was judged before. An
	// older report is a replay: somebody took the newer one away.
	NotBefore time.Time
}
