package policytest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

const predicateSPDX = "https://spdx.dev/Document"

// written are facts as people write them down, with the names that rules know.
type written struct {
	Image        core.Image         `cel:"image"`
	Packages     []core.Package     `cel:"packages"`
	Findings     []core.Finding     `cel:"findings"`
	Attestations []core.Attestation `cel:"attestations"`
	Advisories   core.Advisories    `cel:"advisories"`
	// Incomplete is a scan that could not read all of the image.
	Incomplete bool `cel:"incomplete"`
}

// evidence makes evidence of facts. Unless attestations are written down, there is a
// scan report and an SPDX document, signed an hour ago.
func evidence(n *yaml.Node, image imageref.Ref, now time.Time) (core.PlatformEvidence, error) {
	var w written
	if err := decode(n, reflect.ValueOf(&w).Elem(), "facts"); err != nil {
		return core.PlatformEvidence{}, err
	}
	for i := range w.Findings {
		if err := severity(&w.Findings[i]); err != nil {
			return core.PlatformEvidence{}, err
		}
	}
	if w.Attestations == nil {
		w.Attestations = []core.Attestation{
			{PredicateType: core.PredicateReport, KeyID: "test"}, {PredicateType: predicateSPDX, KeyID: "test"},
		}
	}
	out := core.PlatformEvidence{
		Digest: image.Digest, Platform: core.Platform{OS: "linux", Architecture: "amd64"}, Attestations: w.Attestations,
	}
	for i := range out.Attestations {
		a := &out.Attestations[i]
		if a.SignTime.IsZero() {
			a.SignTime = now.Add(-time.Hour)
		}
		if a.PredicateType == core.PredicateReport && out.Report == nil {
			out.Report = &core.Report{
				Source: *a, Image: w.Image, Packages: w.Packages, Findings: w.Findings, Incomplete: w.Incomplete,
				AdvisoryDigest: w.Advisories.Digest, AdvisoryTime: dataTime(w.Advisories, now),
			}
		}
	}
	return out, nil
}

// dataTime is that of the advisories: as it is written, by their age, or an hour ago.
func dataTime(a core.Advisories, now time.Time) time.Time {
	switch {
	case !a.DataTime.IsZero():
		return a.DataTime
	case a.Age != 0:
		return now.Add(-a.Age)
	default:
		return now.Add(-time.Hour)
	}
}

// severity fills in the one of severity and severity_rank that is left out.
func severity(f *core.Finding) error {
	if f.Severity == "" {
		if f.SeverityRank == 0 {
			f.SeverityRank = core.SeverityUnknown
		}
		f.Severity = core.SeverityName(f.SeverityRank)
		return nil
	}
	for rank := core.SeverityUnknown; rank <= core.SeverityCritical; rank++ {
		if core.SeverityName(rank) == f.Severity {
			if f.SeverityRank != 0 && f.SeverityRank != rank {
				return fmt.Errorf("facts.findings: %s: severity is %s and severity_rank another", f.ID, f.Severity)
			}
			f.SeverityRank = rank
			return nil
		}
	}
	return fmt.Errorf("facts.findings: %s: there is no severity %q", f.ID, f.Severity)
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
)

// decode reads YAML into a value by the names in its `cel` tags, strictly.
func decode(n *yaml.Node, v reflect.Value, path string) error {
	if n.Kind == yaml.AliasNode {
		return at(n, path, errors.New("aliases are not taken here"))
	}
	switch {
	case v.Type() == durationType:
		d, err := time.ParseDuration(n.Value)
		if err != nil {
			return at(n, path, fmt.Errorf("invalid duration %q; write for example 36h", n.Value))
		}
		v.SetInt(int64(d))
		return nil
	case v.Type() == timeType || v.Kind() != reflect.Struct && v.Kind() != reflect.Slice:
		if err := n.Decode(v.Addr().Interface()); err != nil {
			return at(n, path, fmt.Errorf("%q is not a %s", n.Value, strings.ToLower(v.Type().Name())))
		}
		return nil
	case v.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return at(n, path, errors.New("a list is expected"))
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, c := range n.Content {
			if err := decode(c, v.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return at(n, path, errors.New("a mapping is expected"))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		f, ok := field(v, name)
		if !ok || seen[name] {
			return at(n.Content[i], path, fmt.Errorf("there is no field %q, or it is there twice", name))
		}
		seen[name] = true
		if err := decode(n.Content[i+1], f, path+"."+name); err != nil {
			return err
		}
	}
	return nil
}

func field(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if name != "" && v.Type().Field(i).Tag.Get("cel") == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func at(n *yaml.Node, path string, err error) error {
	return fmt.Errorf("line %d: %s: %w", n.Line, path, err)
}
