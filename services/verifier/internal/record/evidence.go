package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unsafe"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// PackEvidence records the evidence of one platform manifest.
func PackEvidence(e core.PlatformEvidence) (Document, error) {
	if e.Report == nil || !e.NotBefore.After(e.Report.Source.SignTime) {
		// Without effect on the verdict; left out, the same evidence is one document.
		e.NotBefore = time.Time{}
	}
	content, err := json.Marshal(e)
	if err != nil {
		return Document{}, fmt.Errorf("record evidence of %s: %w", e.Digest, err)
	}
	if len(content) <= MaxDocument {
		d := Document{Digest: digest(content)}
		if packed, ok := store(d.Digest, e); ok {
			d.Packed = packed
			// The proof of a verdict needs these bytes again. What does not give them is
			// stored as they are.
			if _, again, err := restore(d); err == nil && bytes.Equal(again, content) {
				return d, nil
			}
		}
	}
	return Pack(content)
}

// UnpackEvidence reads recorded evidence and proves that it is what its digest says. A
// field that this release does not know makes it unreadable: a verdict made without it
// would be another one.
func UnpackEvidence(d Document) (core.PlatformEvidence, error) {
	if isStored(d.Packed) {
		e, _, err := restore(d)
		return e, err
	}
	content, err := Unpack(d)
	if err != nil {
		return core.PlatformEvidence{}, err
	}
	var e core.PlatformEvidence
	if err := decodeStrict(content, &e); err != nil {
		return core.PlatformEvidence{}, fmt.Errorf("%w: %s: %w", ErrDamaged, d.Digest, err)
	}
	return e, nil
}

// Reading is evidence that was read in parts.
type Reading struct {
	core.PlatformEvidence
	// Has are the parts that were read; the lists of others are nil.
	Has core.Parts
	// Size is about the memory that it takes, in bytes.
	Size int64
}

// ReadEvidence reads recorded evidence to judge by it: the parts that are asked for, or
// all where that costs nothing more. Whatever was damaged where it is kept is
// ErrDamaged, by checksums; the digest itself is proven by UnpackEvidence.
func ReadEvidence(d Document, want core.Parts) (Reading, error) {
	if isStored(d.Packed) {
		return read(d, want)
	}
	e, err := UnpackEvidence(d)
	return Reading{PlatformEvidence: e, Has: core.AllParts, Size: int64(len(d.Packed)) * unpackedSize}, err
}

// Memory of evidence, roughly: how many times that of gzip, of JSON and of texts it
// takes, and what a finding and a package take without their texts.
const (
	unpackedSize = 25
	headSize     = 4 << 10
	jsonSize     = 5
	textSize     = 2
	findingSize  = int64(unsafe.Sizeof(core.Finding{}))
	packageSize  = int64(unsafe.Sizeof(core.Package{}))
)

// restore reads stored evidence whole and proves that its content has the digest.
func restore(d Document) (core.PlatformEvidence, []byte, error) {
	r, err := read(d, core.AllParts)
	if err != nil {
		return core.PlatformEvidence{}, nil, err
	}
	content, err := json.Marshal(r.PlatformEvidence)
	if err != nil {
		return core.PlatformEvidence{}, nil, fmt.Errorf("%w: %s: %w", ErrDamaged, d.Digest, err)
	}
	if len(content) > MaxDocument || digest(content) != d.Digest {
		return core.PlatformEvidence{}, nil, fmt.Errorf("%w: %s", ErrDamaged, d.Digest)
	}
	return r.PlatformEvidence, content, nil
}

func decodeStrict(content []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

// store returns the stored form of evidence; false if it is beyond the form's limits.
//
// Its sections are what rules seldom ask for apart from what they always do: the
// evidence without its lists, the findings, the packages and the predicates of the
// attestations.
func store(digest string, e core.PlatformEvidence) ([]byte, bool) {
	var f form
	if e.Report != nil {
		report := *e.Report
		if len(report.Findings) > maxFindings || len(report.Packages) > maxPackages {
			return nil, false
		}
		var ok bool
		if f[sectionFindings], ok = writeFindings(report.Findings); !ok {
			return nil, false
		}
		if f[sectionPackages], ok = writePackages(report.Packages); !ok {
			return nil, false
		}
		report.Findings, report.Packages = nil, nil
		e.Report = &report
	}
	var err error
	if e, f[sectionPredicates], err = takePredicates(e); err != nil {
		return nil, false
	}
	var ok bool
	if f[sectionHead], ok = writeHead(e); !ok {
		return nil, false
	}
	return f.write(digest)
}

// read reads a stored form.
func read(d Document, want core.Parts) (Reading, error) {
	e := Reading{Has: want}
	err := func() error {
		f, err := openForm(d)
		if err != nil {
			return err
		}
		if err := f.read(sectionHead, func(b []byte) (err error) { e.PlatformEvidence, err = readHead(b); return err }); err != nil {
			return err
		}
		e.Size = int64(f.lengths[sectionHead])*textSize + headSize
		if want&core.PartPredicates != 0 {
			if err := f.read(sectionPredicates, func(b []byte) error { return givePredicates(&e.PlatformEvidence, b) }); err != nil {
				return err
			}
			e.Size += int64(f.lengths[sectionPredicates]) * jsonSize
		}
		if e.Report == nil {
			return nil
		}
		if err := f.read(sectionFindings, func(b []byte) (err error) { e.Report.Findings, err = readFindings(b); return err }); err != nil {
			return err
		}
		e.Size += int64(f.lengths[sectionFindings])*textSize + int64(len(e.Report.Findings))*findingSize
		if want&core.PartPackages == 0 {
			return nil
		}
		err = f.read(sectionPackages, func(b []byte) (err error) { e.Report.Packages, err = readPackages(b); return err })
		e.Size += int64(f.lengths[sectionPackages])*textSize + int64(len(e.Report.Packages))*packageSize
		return err
	}()
	if err != nil {
		return Reading{}, fmt.Errorf("%w: %s: %w", ErrDamaged, d.Digest, err)
	}
	return e, nil
}

// takePredicates takes the predicates out of a copy of evidence: a JSON list, first
// that of the report's attestation.
func takePredicates(e core.PlatformEvidence) (core.PlatformEvidence, []byte, error) {
	var all []map[string]any
	some := false
	if e.Report != nil {
		report := *e.Report
		all = append(all, report.Source.Predicate)
		some = report.Source.Predicate != nil
		report.Source.Predicate = nil
		e.Report = &report
	}
	e.Attestations = append(e.Attestations[:0:0], e.Attestations...)
	for i := range e.Attestations {
		a := &e.Attestations[i]
		all = append(all, a.Predicate)
		some = some || a.Predicate != nil
		a.Predicate = nil
	}
	if !some {
		return e, nil, nil
	}
	b, err := json.Marshal(all)
	return e, b, err
}

// givePredicates puts them back.
func givePredicates(e *core.PlatformEvidence, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	var all []map[string]any
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	n := len(e.Attestations)
	if e.Report != nil {
		n++
	}
	if len(all) != n {
		return fmt.Errorf("%d predicates of %d attestations", len(all), n)
	}
	if e.Report != nil {
		e.Report.Source.Predicate, all = all[0], all[1:]
	}
	for i := range e.Attestations {
		e.Attestations[i].Predicate = all[i]
	}
	return nil
}
