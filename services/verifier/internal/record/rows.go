package record

import (
	"math"
	"math/bits"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// Flags of a row.
const (
	flagKEV = 1 << iota
	flagInBaseImage
)

// A row has at least one byte for each of its numbers.
const (
	findingNumbers = 13
	packageNumbers = 9
)

func writeFindings(all []core.Finding) ([]byte, bool) {
	w := newWriter()
	for i := range all {
		f := &all[i]
		var flags uint64
		if f.KEV {
			flags |= flagKEV
		}
		if f.InBaseImage {
			flags |= flagInBaseImage
		}
		if f.VexStatus != "" {
			return nil, false // what a judgement adds is no evidence
		}
		w.text(f.ID)
		w.list(f.Aliases)
		w.text(f.Severity)
		w.signed(f.SeverityRank)
		w.float(f.CVSS)
		w.float(f.EPSS)
		w.number(flags)
		w.text(f.Package)
		w.text(f.Version)
		w.text(f.Purl)
		w.list(f.FixedVersions)
		w.time(f.FirstSeen)
		w.text(f.Location)
	}
	return w.finish(len(all), all == nil)
}

func readFindings(b []byte) ([]core.Finding, error) {
	r, n, err := newReader(b, maxFindings, findingNumbers)
	if err != nil || n < 0 {
		return nil, err
	}
	out := make([]core.Finding, n)
	for i := range out {
		f := &out[i]
		f.ID = r.text()
		f.Aliases = r.list()
		f.Severity = r.text()
		f.SeverityRank = r.signed()
		f.CVSS = r.float()
		f.EPSS = r.float()
		flags := r.number()
		f.KEV, f.InBaseImage = flags&flagKEV != 0, flags&flagInBaseImage != 0
		f.Package = r.text()
		f.Version = r.text()
		f.Purl = r.text()
		f.FixedVersions = r.list()
		f.FirstSeen = r.time()
		f.Location = r.text()
	}
	return out, r.end()
}

func writePackages(all []core.Package) ([]byte, bool) {
	w := newWriter()
	for i := range all {
		p := &all[i]
		var flags uint64
		if p.InBaseImage {
			flags |= flagInBaseImage
		}
		w.text(p.Purl)
		w.text(p.Name)
		w.text(p.Version)
		w.text(p.Ecosystem)
		w.text(p.SourceName)
		w.text(p.SourceVersion)
		w.text(p.Location)
		w.list(p.Licenses)
		w.number(flags)
	}
	return w.finish(len(all), all == nil)
}

func readPackages(b []byte) ([]core.Package, error) {
	r, n, err := newReader(b, maxPackages, packageNumbers)
	if err != nil || n < 0 {
		return nil, err
	}
	out := make([]core.Package, n)
	for i := range out {
		p := &out[i]
		p.Purl = r.text()
		p.Name = r.text()
		p.Version = r.text()
		p.Ecosystem = r.text()
		p.SourceName = r.text()
		p.SourceVersion = r.text()
		p.Location = r.text()
		p.Licenses = r.list()
		p.InBaseImage = r.number()&flagInBaseImage != 0
	}
	return out, r.end()
}

// Scores have few digits: the bytes that differ come last in a float and first in a
// number that is short when it is small.
func packFloat(f float64) uint64   { return bits.ReverseBytes64(math.Float64bits(f)) }
func unpackFloat(n uint64) float64 { return math.Float64frombits(bits.ReverseBytes64(n)) }
