// Package oneshot scans one image without a server: from a registry, a directory
// or an archive, or from its bill of materials. It puts the parts of the service
// together and adds none of its own to what is found.
package oneshot

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/sbom"
)

// Options say what is scanned and how.
type Options struct {
	// Target is an image reference, `oci:DIR`, `oci:DIR:TAG`, `tar:FILE`,
	// `docker-archive:FILE` or `sbom:FILE`.
	Target string
	// Platform chooses from an index. A zero Platform takes the only image of an
	// index, or that of Default.
	Platform core.Platform
	// Default is the platform to choose when none is asked for.
	Default core.Platform
	// Matcher gives the findings; nil makes an inventory alone.
	Matcher core.Matcher
	Limits  extract.Limits
	// Layers is the number of layers read at a time.
	Layers int
	// Version is that of the scanner.
	Version string
	// Keychain has the credentials of registries; nil means none.
	Keychain authn.Keychain
	// PlainHTTP asks the registry without TLS, as loopback registries always are.
	PlainHTTP bool
	// Progress is told what was read; nil if nobody looks.
	Progress *Progress
}

// Scan makes the report of one image, and tells what the image is called. Faults
// of the image are core.FaultErrors.
func Scan(ctx context.Context, o Options) (*core.Report, string, error) {
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	if o.Matcher == nil {
		o.Matcher = noAdvisories{}
	}
	if kind, file := split(o.Target); kind == kindSBOM {
		return fromSBOM(file, o)
	}
	img, err := open(ctx, o)
	if err != nil {
		return nil, "", err
	}
	defer img.close()
	extractor, err := extract.New(counted{img.source, o.Progress}, o.Limits, o.Layers)
	if err != nil {
		return nil, "", err
	}
	kept := &keep{}
	engine := &core.Engine{Source: img.source, Extractor: extractor, Advisories: always{o.Matcher}, Archive: kept, Version: o.Version}
	ref, m, err := choose(ctx, engine, img, o)
	if err != nil {
		return nil, "", err
	}
	o.Progress.expect(m.Layers)
	if _, err := engine.Scan(ctx, ref, ref.Digest, m); err != nil {
		return nil, "", err
	}
	if o.Platform.OS != "" && kept.report.Platform != o.Platform {
		return nil, "", core.NewFault(core.ReasonImageNotFound, "the image is for %s, not for %s", show(kept.report.Platform), show(o.Platform))
	}
	return kept.report, img.name, nil
}

// choose resolves the image down to one manifest.
func choose(ctx context.Context, e *core.Engine, img *image, o Options) (imageref.Ref, *core.Manifest, error) {
	ref, roots := img.ref, img.roots
	// A layout's index, an index in it, and the manifest.
	for range 3 {
		if roots != nil {
			d, err := pick(roots, o)
			if err != nil {
				return ref, nil, err
			}
			ref = ref.WithDigest(d.Digest)
		}
		digest, m, err := e.Resolve(ctx, ref)
		if err != nil {
			return ref, nil, err
		}
		ref = ref.WithDigest(digest)
		if !m.Index {
			return ref, m, nil
		}
		roots = m.Platforms
	}
	return ref, nil, core.NewFault(core.ReasonNotAnImage, "an index within an index")
}

func pick(from []core.Descriptor, o Options) (core.Descriptor, error) {
	want := o.Platform
	if want.OS == "" {
		if len(from) == 1 {
			return from[0], nil
		}
		want = o.Default
	}
	var have []string
	for _, d := range from {
		if d.Platform == nil {
			if len(from) == 1 {
				return d, nil
			}
			have = append(have, d.Digest)
			continue
		}
		// Variants of a default are not told apart.
		if *d.Platform == want || o.Platform.OS == "" && d.Platform.OS == want.OS && d.Platform.Architecture == want.Architecture {
			return d, nil
		}
		have = append(have, show(*d.Platform))
	}
	slices.Sort(have)
	return core.Descriptor{}, core.NewFault(core.ReasonImageNotFound, "there is no image for %s, but for %s", show(want), strings.Join(have, ", "))
}

func show(p core.Platform) string {
	if p.Variant == "" {
		return p.OS + "/" + p.Architecture
	}
	return p.OS + "/" + p.Architecture + "/" + p.Variant
}

// fromSBOM matches what a bill of materials lists.
func fromSBOM(file string, o Options) (*core.Report, string, error) {
	f, err := regularfile.Open(file)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, sbom.MaxDocument+1))
	if err != nil {
		return nil, "", err
	}
	doc, err := sbom.Read(content, o.Limits.MaxPackages)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", file, err)
	}
	r := &doc.Report
	r.ScannerURI, r.ScannerVersion = core.ScannerURI, o.Version
	r.Match(o.Matcher)
	if doc.Name == "" {
		doc.Name = localName(file)
	}
	return r, doc.Name, nil
}

// always gives one snapshot.
type always struct{ m core.Matcher }

// Current implements core.Advisories.
func (a always) Current() core.Matcher { return a.m }

// noAdvisories finds nothing.
type noAdvisories struct{}

// Info implements core.Matcher.
func (noAdvisories) Info() core.SnapshotInfo { return core.SnapshotInfo{} }

// Match implements core.Matcher.
func (noAdvisories) Match([]core.Package) (findings []core.Finding, problems []string) {
	return nil, nil
}

// keep is an archive of the one report that is made.
type keep struct{ report *core.Report }

// Find implements core.Archive.
func (*keep) Find(context.Context, string, string, string) (core.ReportRef, bool, error) {
	return core.ReportRef{}, false, nil
}

// Save implements core.Archive.
func (k *keep) Save(_ context.Context, r *core.Report) (core.ReportRef, error) {
	k.report = r
	return core.ReportRef{ImageDigest: r.ImageDigest, Platform: r.Platform}, nil
}
