package core

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/artifact"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// Source is the registry an image is pulled from. Its errors are faults.
type Source interface {
	// Manifest returns a manifest and its digest by tag or by digest, verified.
	Manifest(ctx context.Context, ref imageref.Ref) (Descriptor, []byte, error)
	// Config returns the image's configuration, verified.
	Config(ctx context.Context, ref imageref.Ref, d Descriptor) ([]byte, error)
}

// Extractor takes the inventory of the layers of one manifest.
type Extractor interface {
	Extract(ctx context.Context, ref imageref.Ref, layers []Descriptor) (Inventory, error)
	// Secrets returns the kinds of credentials in a value of the environment.
	Secrets(name, value string) []string
}

// Matcher is an advisory snapshot. It is immutable.
type Matcher interface {
	Info() SnapshotInfo
	// Match returns the findings of packages, and problems: packages that could
	// not be judged.
	Match(packages []Package) (findings []Finding, problems []string)
}

// Advisories gives the snapshot in use, or nil before the first import.
type Advisories interface {
	Current() Matcher
}

// ReportRef names a stored report.
type ReportRef struct {
	ImageDigest  string
	Platform     Platform
	ReportDigest string
	// ContentDigest is of what rules can read of the report; empty for a report that an
	// earlier release stored.
	ContentDigest string
}

// Archive keeps reports.
type Archive interface {
	// Find returns the report of an image made with a snapshot by a version of the
	// scanner.
	Find(ctx context.Context, imageDigest, snapshotDigest, scannerVersion string) (ReportRef, bool, error)
	// Save stores a report. Saving an equal one again is no error.
	Save(ctx context.Context, r *Report) (ReportRef, error)
}

// ScannerURI names the scanner in reports.
const ScannerURI = "https://seaworthy.dev/scanner"

// Engine scans images.
type Engine struct {
	Source     Source
	Extractor  Extractor
	Advisories Advisories
	Archive    Archive
	// Lineage may be nil: only what images claim is known of base images then.
	Lineage Lineage
	// Version is the version of the scanner. A new version scans again.
	Version string
	// NotCovered is told of each problem of a new report that says that there are no
	// advisories about an ecosystem; nil if nobody asks.
	NotCovered func(ctx context.Context, problem string)
}

// Result is the outcome of a scan.
type Result struct {
	// Digest is the resolved digest, of the index if the image is one.
	Digest string
	// Reports are the reports of its platforms, in the order of the index.
	Reports []ReportRef
}

// take takes over what the layers say of the image.
func (f *Facts) take(inv *Inventory) {
	f.Distro, f.DistroEnd = inv.Distro, SupportEnd(inv.Distro)
	f.SetuidFiles, f.Secrets, f.PackageManagers, f.Shells = inv.SetuidFiles, inv.Secrets, inv.PackageManagers, inv.Shells
}

// Resolve returns the digest of an image and its parsed manifest.
func (e *Engine) Resolve(ctx context.Context, ref imageref.Ref) (string, *Manifest, error) {
	d, content, err := e.Source.Manifest(ctx, ref)
	if err != nil {
		return "", nil, err
	}
	m, err := ParseManifest(d.MediaType, content)
	if f := AsFault(err); f != nil && f.Reason == ReasonNotAnImage && artifact.IsEvidence("", "", ref.Tag) {
		f.Evidence = true
	}
	if err != nil {
		return d.Digest, nil, err
	}
	return d.Digest, m, nil
}

// Scan makes the reports of a resolved image. A manifest that was scanned with
// the snapshot in use before is not pulled again.
func (e *Engine) Scan(ctx context.Context, ref imageref.Ref, digest string, m *Manifest) (*Result, error) {
	matcher := e.Advisories.Current()
	if matcher == nil {
		return nil, NewTemporary(ReasonNoSnapshot, "no advisories are in use: import some (seaworthyctl advisories import)")
	}
	res := &Result{Digest: digest}
	if !m.Index {
		r, err := e.scanManifest(ctx, ref.WithDigest(digest), m, matcher)
		if err != nil {
			return nil, err
		}
		res.Reports = []ReportRef{r}
		return res, nil
	}
	var evidence error
	for i, p := range slices.Concat(m.Platforms, m.Claims) {
		if err := imageref.CheckDigest(p.Digest); err != nil {
			return nil, NewFault(ReasonNotAnImage, "the index names a malformed digest").WithCause(err)
		}
		r, err := e.scanPlatform(ctx, ref.WithDigest(p.Digest), matcher)
		f := AsFault(err)
		if f != nil && f.Evidence {
			// Evidence that the index does not call so; the images beside it count.
			evidence = err
			continue
		}
		if f != nil && f.Artifact && i >= len(m.Platforms) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("platform manifest %s: %w", p.Digest, err)
		}
		res.Reports = append(res.Reports, r)
	}
	if len(res.Reports) == 0 && evidence != nil {
		return nil, evidence
	}
	return res, nil
}

func (e *Engine) scanPlatform(ctx context.Context, ref imageref.Ref, matcher Matcher) (ReportRef, error) {
	r, ok, err := e.Archive.Find(ctx, ref.Digest, matcher.Info().Digest, e.Version)
	if err != nil {
		return ReportRef{}, fmt.Errorf("find report: %w", err)
	}
	if ok {
		return r, nil
	}
	_, m, err := e.Resolve(ctx, ref)
	if err != nil {
		return ReportRef{}, err
	}
	if m.Index {
		return ReportRef{}, NewFault(ReasonNotAnImage, "an index within an index")
	}
	return e.scanManifest(ctx, ref, m, matcher)
}

func (e *Engine) scanManifest(ctx context.Context, ref imageref.Ref, m *Manifest, matcher Matcher) (ReportRef, error) {
	found, ok, err := e.Archive.Find(ctx, ref.Digest, matcher.Info().Digest, e.Version)
	if err != nil {
		return ReportRef{}, fmt.Errorf("find report: %w", err)
	}
	if ok {
		return found, nil
	}
	config, err := e.Source.Config(ctx, ref, m.Config)
	if err != nil {
		return ReportRef{}, fmt.Errorf("read image config: %w", err)
	}
	facts, platform, env, err := ParseConfig(config)
	if err != nil {
		return ReportRef{}, err
	}
	for _, l := range m.Layers {
		facts.Layers = append(facts.Layers, l.Digest)
	}
	layers := slices.Clone(m.Layers)
	diffIDs, err := diffIDs(config, len(layers))
	if err != nil {
		return ReportRef{}, err
	}
	for i, d := range diffIDs {
		layers[i].DiffID = d
	}
	inv, err := e.Extractor.Extract(ctx, ref, layers)
	if err != nil {
		return ReportRef{}, fmt.Errorf("extract packages: %w", err)
	}
	facts.take(&inv)
	facts.NonRoot = NonRoot(facts.User, platform.OS, inv.Passwd)
	if facts.Base = claimedBase(m.Annotations, facts.Labels); e.Lineage != nil {
		if facts.Base, err = e.Lineage.Base(ctx, ref.Digest, facts.Layers, facts.Base); err != nil {
			return ReportRef{}, err
		}
	}
	for name, value := range env {
		for _, kind := range e.Extractor.Secrets(name, value) {
			facts.Secrets = append(facts.Secrets, Secret{Kind: kind, Location: "env:" + name})
		}
	}
	SortSecrets(facts.Secrets)
	r := &Report{
		ImageDigest:    ref.Digest,
		Platform:       platform,
		Facts:          facts,
		Packages:       inv.Packages,
		ScannerURI:     ScannerURI,
		ScannerVersion: e.Version,

		InventoryProblems: inv.Problems,
	}
	r.Match(matcher)
	if e.NotCovered != nil {
		for _, p := range r.Problems {
			if strings.HasPrefix(p, ProblemNotCovered) {
				e.NotCovered(ctx, p)
			}
		}
	}
	saved, err := e.Archive.Save(ctx, r)
	if err != nil {
		return ReportRef{}, fmt.Errorf("save report: %w", err)
	}
	return saved, nil
}
