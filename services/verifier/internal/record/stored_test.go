package record

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)

// whole is evidence with something in every field.
func whole() core.PlatformEvidence {
	source := core.Attestation{PredicateType: core.PredicateReport, ManifestDigest: "sha256:r", KeyID: "k", SignTime: at}
	return core.PlatformEvidence{
		Digest: "sha256:x", Platform: core.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, NotBefore: at.Add(time.Hour),
		Report: &core.Report{
			Source: source, Platform: core.Platform{OS: "linux"}, AdvisoryDigest: "sha256:a", AdvisoryTime: at.In(time.FixedZone("", 7200)),
			Incomplete: true, Problems: []string{"one", "one"},
			Image: core.Image{
				Registry: "r", Repository: "a", Digest: "sha256:i", Platform: "linux/arm64",
				Created: at, Labels: map[string]string{"b": "<2>", "a": "\u2028"}, User: "1", NonRoot: true, Entrypoint: []string{"/a"}, Cmd: []string{},
				ExposedPorts: []string{"80/tcp"}, EnvNames: []string{"PATH"}, Distro: core.Distro{ID: "debian", Version: "12"}, DistroEndTime: at,
				BaseImage: core.BaseImage{Name: "n", Digest: "d", LayerCount: -3}, SetuidFiles: []string{"su"}, PackageManagers: []string{"apt"},
				Shells: []string{"sh"}, Secrets: []core.Secret{{Kind: "k", Location: "l", LayerDigest: "d"}},
			},
			Packages: []core.Package{
				{Purl: "pkg:a", Name: "a", Version: "1", Ecosystem: "e", SourceName: "s", SourceVersion: "2", Location: "l", Licenses: []string{"MIT", ""}, InBaseImage: true},
				{},
			},
			Findings: []core.Finding{
				{
					ID: "CVE-1", Aliases: []string{"A", "B"}, Severity: "HIGH", SeverityRank: core.SeverityHigh, CVSS: 7.5, EPSS: 0.1234567890123, KEV: true,
					Package: "a", Version: "1", Purl: "pkg:a", FixedVersions: []string{"2"}, FirstSeen: at, Location: "l", InBaseImage: true,
				},
				{SeverityRank: math.MinInt64, CVSS: math.MaxFloat64, Aliases: []string{}},
			},
		},
		Attestations: []core.Attestation{source, {
			PredicateType: "p", Identity: "i", Issuer: "o", SignTime: at,
			Predicate: map[string]any{"n": 1e21, "l": []any{nil, true, "x"}, "o": map[string]any{}},
		}},
		Rejected: []core.Rejected{{PredicateType: "t", ManifestDigest: "m", Why: "w"}},
		Unread:   "too many",
		VEX: []core.VexDocument{{Digest: "v", Author: "a", Attached: true, Statements: []core.VexStatement{{
			Vulnerabilities: []string{"CVE-1"}, Status: core.VexFixed, Time: at, Products: []core.VexProduct{{VexComponent: core.VexComponent{ID: "p"}}},
		}}}},
	}
}

func pack(t *testing.T, e core.PlatformEvidence) Document {
	t.Helper()
	d, err := PackEvidence(e)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestStoredForm reads evidence back, in parts and whole, and its content byte by byte.
func TestStoredForm(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*core.PlatformEvidence){
		"all":       func(*core.PlatformEvidence) {},
		"no report": func(e *core.PlatformEvidence) { e.Report, e.NotBefore = nil, time.Time{} },
		"nothing":   func(e *core.PlatformEvidence) { *e = core.PlatformEvidence{} },
		"empty lists": func(e *core.PlatformEvidence) {
			e.Report.Findings, e.Report.Packages, e.Attestations, e.Rejected = []core.Finding{}, []core.Package{}, []core.Attestation{}, []core.Rejected{}
		},
		"no lists": func(e *core.PlatformEvidence) {
			e.Report.Findings, e.Report.Packages, e.Attestations, e.Rejected, e.VEX = nil, nil, nil, nil, nil
		},
		"empty image": func(e *core.PlatformEvidence) {
			e.Report.Image = core.Image{Labels: map[string]string{}, Secrets: []core.Secret{}}
		},
		"report predicate":       func(e *core.PlatformEvidence) { e.Report.Source.Predicate = map[string]any{} },
		"no predicate":           func(e *core.PlatformEvidence) { e.Attestations[1].Predicate = nil },
		"no report, a predicate": func(e *core.PlatformEvidence) { e.Report, e.NotBefore = nil, time.Time{} },
		"many": func(e *core.PlatformEvidence) {
			for i := range 1000 {
				e.Report.Findings = append(e.Report.Findings, core.Finding{ID: fmt.Sprintf("CVE-%d", i), EPSS: float64(i) / 1000, FixedVersions: []string{fmt.Sprint(i)}})
			}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := whole()
			change(&e)
			d := pack(t, e)
			if !isStored(d.Packed) {
				t.Fatal("stored as JSON")
			}
			content, err := json.Marshal(e)
			if err != nil || digest(content) != d.Digest {
				t.Fatalf("digest %s of %s, %v", d.Digest, content, err)
			}
			if got, err := Unpack(d); err != nil || !bytes.Equal(got, content) {
				t.Errorf("content %s, want %s, %v", got, content, err)
			}
			got, err := UnpackEvidence(d)
			if diff := cmp.Diff(e, got); diff != "" || err != nil {
				t.Errorf("%v, (-want +got):\n%s", err, diff)
			}
			for want := range core.AllParts + 1 {
				r, err := ReadEvidence(d, want)
				less := lacking(e, want)
				if diff := cmp.Diff(less, r.PlatformEvidence); diff != "" || err != nil || r.Has != want || r.Size <= 0 {
					t.Errorf("parts %b: has %b, %d bytes, %v, (-want +got):\n%s", want, r.Has, r.Size, err, diff)
				}
			}
		})
	}
}

// lacking is evidence with some parts only.
func lacking(e core.PlatformEvidence, want core.Parts) core.PlatformEvidence {
	if e.Report != nil {
		r := *e.Report
		if want&core.PartPackages == 0 {
			r.Packages = nil
		}
		if want&core.PartPredicates == 0 {
			r.Source.Predicate = nil
		}
		e.Report = &r
	}
	if want&core.PartPredicates == 0 {
		e.Attestations = slices.Clone(e.Attestations)
		for i := range e.Attestations {
			e.Attestations[i].Predicate = nil
		}
	}
	return e
}

// TestEarlierForm reads what releases before the stored form wrote.
func TestEarlierForm(t *testing.T) {
	t.Parallel()
	content, err := json.Marshal(whole())
	if err != nil {
		t.Fatal(err)
	}
	d, err := Pack(content)
	if err != nil || isStored(d.Packed) {
		t.Fatalf("%v", err)
	}
	r, err := ReadEvidence(d, 0)
	if diff := cmp.Diff(whole(), r.PlatformEvidence); diff != "" || err != nil || r.Has != core.AllParts || r.Size <= 0 {
		t.Errorf("has %b, %d bytes, %v, (-want +got):\n%s", r.Has, r.Size, err, diff)
	}
	// Written again it is the same document.
	if again := pack(t, r.PlatformEvidence); again.Digest != d.Digest || !isStored(again.Packed) {
		t.Errorf("again %s, was %s", again.Digest, d.Digest)
	}
}

// TestStoredAsJSON keeps to JSON beyond the limits of the form.
func TestStoredAsJSON(t *testing.T) {
	t.Parallel()
	manyTexts := func(e *core.PlatformEvidence) { e.Report.Findings[0].Aliases = make([]string, maxTexts+1) }
	for name, change := range map[string]func(*core.PlatformEvidence){
		"findings":       func(e *core.PlatformEvidence) { e.Report.Findings = make([]core.Finding, maxFindings+1) },
		"packages":       func(e *core.PlatformEvidence) { e.Report.Packages = make([]core.Package, maxPackages+1) },
		"attestations":   func(e *core.PlatformEvidence) { e.Attestations = make([]core.Attestation, maxHead+1) },
		"refusals":       func(e *core.PlatformEvidence) { e.Rejected = make([]core.Rejected, maxHead+1) },
		"secrets":        func(e *core.PlatformEvidence) { e.Report.Image.Secrets = make([]core.Secret, maxHead+1) },
		"long text":      func(e *core.PlatformEvidence) { e.Report.Findings[0].Location = strings.Repeat("x", maxSection+1) },
		"texts of lists": manyTexts,
		"judged":         func(e *core.PlatformEvidence) { e.Report.Findings[0].VexStatus = "affected" },
	} {
		e := whole()
		change(&e)
		if _, ok := store("sha256:"+strings.Repeat("0", 64), e); ok {
			t.Errorf("%s: in the stored form", name)
		}
	}
	e := whole()
	manyTexts(&e)
	d := pack(t, e)
	if isStored(d.Packed) {
		t.Error("in the stored form")
	}
	if got, err := UnpackEvidence(d); err != nil || !reflect.DeepEqual(e, got) {
		t.Errorf("not read as it was, %v", err)
	}
}

// TestStoredDamage finds every flipped bit and every cut.
func TestStoredDamage(t *testing.T) {
	t.Parallel()
	d := pack(t, whole())
	check := func(what string, packed []byte) {
		if _, err := ReadEvidence(Document{Digest: d.Digest, Packed: packed}, core.AllParts); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := UnpackEvidence(Document{Digest: d.Digest, Packed: packed}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s, whole: %v", what, err)
		}
	}
	for i := range d.Packed {
		bad := bytes.Clone(d.Packed)
		bad[i] ^= 1 << (i % 8)
		check(fmt.Sprintf("bit in byte %d", i), bad)
		check(fmt.Sprintf("cut at %d", i), d.Packed[:i])
	}
	check("more", append(bytes.Clone(d.Packed), 0))
	newer := bytes.Clone(d.Packed)
	newer[3]++
	check("another version", reseal(newer))
	other := d
	other.Digest = "sha256:" + strings.Repeat("0", 64)
	if _, err := ReadEvidence(other, 0); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "it is of "+d.Digest) {
		t.Errorf("of another digest: %v", err)
	}
}

// reseal makes the checksum of a header right.
func reseal(packed []byte) []byte {
	binary.LittleEndian.PutUint32(packed[formHeader-4:], crc32.Checksum(packed[:formHeader-4], castagnoli))
	return packed
}

// TestStoredBomb refuses a section that unpacks to more than the limit, before it does.
func TestStoredBomb(t *testing.T) {
	t.Parallel()
	d := pack(t, whole())
	packed := d.Packed[:formHeader:formHeader]
	bomb := s2.Encode(nil, make([]byte, maxSection+1))
	for i := range sections {
		entry := packed[len(magic)+sumSize+i*sectionEntry:]
		clear(entry[:sectionEntry])
		if i == sectionHead {
			binary.LittleEndian.PutUint32(entry, uint32(len(bomb)))
			binary.LittleEndian.PutUint32(entry[4:], maxSection+1)
			binary.LittleEndian.PutUint32(entry[8:], crc32.Checksum(bomb, castagnoli))
		}
	}
	d.Packed = append(reseal(packed), bomb...)
	if _, err := ReadEvidence(d, 0); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "too large") {
		t.Errorf("%v", err)
	}
	// One that says less than it holds.
	binary.LittleEndian.PutUint32(d.Packed[len(magic)+sumSize+4:], 1000)
	reseal(d.Packed[:formHeader])
	if _, err := ReadEvidence(d, 0); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "says 1000 bytes") {
		t.Errorf("%v", err)
	}
}

// FuzzReadSection reads sections that passed their checksums, as somebody would write
// them who means harm. What is read can be written, and is read again as it was.
func FuzzReadSection(f *testing.F) {
	e := whole()
	findings, _ := writeFindings(e.Report.Findings)
	packages, _ := writePackages(e.Report.Packages)
	start, _ := writeHead(e)
	for _, b := range [][]byte{findings, packages, start, nil, {0, 0, 0, 0}, {0, 0, 0, 1}, {255, 255, 255, 255, 255, 255, 255, 255, 255, 1}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if all, err := readFindings(b); err == nil {
			again, ok := writeFindings(all)
			back, err := readFindings(again)
			if diff := cmp.Diff(all, back, equalNaNs); !ok || err != nil || diff != "" {
				t.Errorf("findings: %t, %v, %s", ok, err, diff)
			}
		}
		if all, err := readPackages(b); err == nil {
			again, ok := writePackages(all)
			back, err := readPackages(again)
			if diff := cmp.Diff(all, back); !ok || err != nil || diff != "" {
				t.Errorf("packages: %t, %v, %s", ok, err, diff)
			}
		}
		if e, err := readHead(b); err == nil {
			again, ok := writeHead(e)
			back, err := readHead(again)
			if diff := cmp.Diff(e, back); !ok || err != nil || diff != "" {
				t.Errorf("head: %t, %v, %s", ok, err, diff)
			}
		}
	})
}

var equalNaNs = cmp.Comparer(func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) })

// FuzzReadEvidence reads whole documents.
func FuzzReadEvidence(f *testing.F) {
	e := whole()
	d, err := PackEvidence(e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d.Packed)
	f.Add(d.Packed[:formHeader])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := ReadEvidence(Document{Digest: d.Digest, Packed: b}, core.AllParts)
		if err == nil && !bytes.Equal(b, d.Packed) && isStored(b) {
			// Another packing of the same sections would do; it is to be the same evidence.
			if _, err := UnpackEvidence(Document{Digest: d.Digest, Packed: b}); err != nil && !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	})
}
