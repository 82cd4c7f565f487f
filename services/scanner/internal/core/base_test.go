package core_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// world is a registry with one image of three layers, and all else an engine needs.
type world struct {
	labels map[string]string
	// diffIDs are those of the configuration; nil for one a layer.
	diffIDs []string
	report  *core.Report
	base    core.BaseImage
	claim   core.BaseImage
	err     error
}

func (*world) Manifest(context.Context, imageref.Ref) (core.Descriptor, []byte, error) {
	return core.Descriptor{}, nil, errors.New("not asked for")
}

func (w *world) Config(context.Context, imageref.Ref, core.Descriptor) ([]byte, error) {
	diffIDs := w.diffIDs
	if diffIDs == nil {
		diffIDs = slices.Repeat([]string{"sha256:" + strings.Repeat("0", 64)}, 3)
	}
	return json.Marshal(map[string]any{"config": map[string]any{"Labels": w.labels}, "rootfs": map[string]any{"diff_ids": diffIDs}})
}

func (*world) Extract(context.Context, imageref.Ref, []core.Descriptor) (core.Inventory, error) {
	return core.Inventory{Packages: []core.Package{{PURL: "a", LayerDigest: "l1"}, {PURL: "b", LayerDigest: "l3"}}}, nil
}

func (*world) Secrets(string, string) []string { return nil }

func (w *world) Current() core.Matcher { return w }

func (*world) Info() core.SnapshotInfo { return core.SnapshotInfo{} }

func (*world) Match(packages []core.Package) (out []core.Finding, problems []string) {
	for _, p := range packages {
		out = append(out, core.Finding{ID: "CVE", PURL: p.PURL, LayerDigest: p.LayerDigest})
	}
	return out, nil
}

func (*world) Find(context.Context, string, string, string) (core.ReportRef, bool, error) {
	return core.ReportRef{}, false, nil
}

func (w *world) Save(_ context.Context, r *core.Report) (core.ReportRef, error) {
	w.report = r
	return core.ReportRef{}, nil
}

func (w *world) Base(_ context.Context, _ string, _ []string, claim core.BaseImage) (core.BaseImage, error) {
	w.claim = claim
	return w.base, w.err
}

// TestScan_DiffIDs: an image whose configuration does not name its layers cannot run, and is
// not scanned: what a runtime would make of it is not what the layers have.
func TestScan_DiffIDs(t *testing.T) {
	good := "sha256:" + strings.Repeat("0", 64)
	for name, diffIDs := range map[string][]string{
		"none": {}, "too few": {good, good}, "too many": {good, good, good, good}, "malformed": {good, good, ""},
	} {
		w := &world{diffIDs: diffIDs}
		e := &core.Engine{Source: w, Extractor: w, Advisories: w, Archive: w}
		m := &core.Manifest{Layers: []core.Descriptor{{Digest: "l1"}, {Digest: "l2"}, {Digest: "l3"}}}
		_, err := e.Scan(t.Context(), imageref.Ref{}, good, m)
		if f := core.AsFault(err); f == nil || f.Reason != core.ReasonNotAnImage || f.Temporary || w.report != nil {
			t.Errorf("%s: %v, report %v", name, err, w.report)
		}
	}
}

// TestBaseImage: a claim reaches who knows the images, and what comes back marks
// packages and findings.
func TestBaseImage(t *testing.T) {
	digest := "sha256:0000000000000000000000000000000000000000000000000000000000000001"
	annotations := func(name, digest string) map[string]string {
		return map[string]string{"org.opencontainers.image.base.name": name, "org.opencontainers.image.base.digest": digest}
	}
	claimed := core.BaseImage{Name: "debian:12", Digest: digest}
	known := core.BaseImage{Name: "debian:12", Digest: digest, LayerCount: 2}
	for _, c := range []struct {
		name                string
		annotations, labels map[string]string
		lineage             bool
		base                core.BaseImage
		claim, want         core.BaseImage
		inBase              bool
	}{
		{"nothing", nil, nil, true, core.BaseImage{}, core.BaseImage{}, core.BaseImage{}, false},
		{"annotations", annotations("debian:12", digest), annotations("x", digest), true, known, claimed, known, true},
		{"labels", nil, annotations("debian:12", digest), true, known, claimed, known, true},
		{"malformed digest", annotations("debian:12", "x"), nil, true, known, core.BaseImage{Name: "debian:12"}, known, true},
		{"a claim alone marks nothing", annotations("debian:12", digest), nil, false, core.BaseImage{}, core.BaseImage{}, claimed, false},
		{"more layers than there are", nil, nil, true, core.BaseImage{LayerCount: 9}, core.BaseImage{}, core.BaseImage{LayerCount: 9}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{labels: c.labels, base: c.base}
			e := &core.Engine{Source: w, Extractor: w, Advisories: w, Archive: w}
			if c.lineage {
				e.Lineage = w
			}
			m := &core.Manifest{Layers: []core.Descriptor{{Digest: "l1"}, {Digest: "l2"}, {Digest: "l3"}}, Annotations: c.annotations}
			if _, err := e.Scan(t.Context(), imageref.Ref{}, digest, m); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]core.BaseImage{c.claim, c.want}, []core.BaseImage{w.claim, w.report.Facts.Base}); diff != "" {
				t.Errorf("claim and base (-want +got):\n%s", diff)
			}
			if w.report.Packages[0].InBase != c.inBase || w.report.Findings[0].InBase != c.inBase {
				t.Errorf("packages %+v, findings %+v", w.report.Packages, w.report.Findings)
			}
			if last := c.base.LayerCount == 9; w.report.Packages[1].InBase != last {
				t.Errorf("the image's own package: %+v", w.report.Packages[1])
			}
		})
	}
	w := &world{err: errors.New("database is down"), diffIDs: []string{}}
	e := &core.Engine{Source: w, Extractor: w, Advisories: w, Archive: w, Lineage: w}
	if _, err := e.Scan(t.Context(), imageref.Ref{}, digest, &core.Manifest{}); !errors.Is(err, w.err) {
		t.Errorf("error %v", err)
	}
}
