package policy

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/strictyaml"
)

// Limits of policy documents.
const (
	// MaxDocument is the size of one document in bytes.
	MaxDocument = 256 << 10
	// MaxFile is the size of one file in bytes.
	MaxFile = 1 << 20
	// MaxDocuments is the number of documents in one file.
	MaxDocuments = 64
	// MaxPolicies is the number of policies in force at a time.
	MaxPolicies = 500
	// MaxRules is the number of rules in one policy.
	MaxRules = 100
	// MaxGlobs is the number of repository globs in one policy.
	MaxGlobs = 100
	// MaxRequirements is the number of required attestations in one policy.
	MaxRequirements = 20
	// MaxEnvironments is the number of environments of one policy.
	MaxEnvironments = 20
	// MaxSigners is the number of signers of one policy, and of the keys and of the
	// identities of one signer.
	MaxSigners = 20
	// MaxMessage is the length of a rule's message and control in bytes.
	MaxMessage = 500
	// MaxExpression is the length of one expression in characters.
	MaxExpression = 8 << 10
)

const (
	apiVersion = "seaworthy.dev/v1"
	kind       = "Policy"
)

var (
	namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	daysPattern = regexp.MustCompile(`^([0-9]{1,5})d$`)
)

// IsName tells whether a text may name a policy, a rule, a signer or an environment.
func IsName(s string) bool { return namePattern.MatchString(s) }

// document is the YAML form of a policy.
type document struct {
	APIVersion text     `yaml:"apiVersion"`
	Kind       text     `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
	Spec       spec     `yaml:"spec"`
}

type metadata struct {
	Name        text `yaml:"name"`
	Description text `yaml:"description"`
}

type spec struct {
	Match        match         `yaml:"match"`
	Environments []text        `yaml:"environments"`
	Trust        *trust        `yaml:"trust"`
	Require      []requirement `yaml:"require"`
	Advisories   advisories    `yaml:"advisories"`
	Default      text          `yaml:"default"`
	Rules        []rule        `yaml:"rules"`
}

type match struct {
	Repositories []text `yaml:"repositories"`
}

type requirement struct {
	PredicateType text `yaml:"predicate_type"`
	Signer        text `yaml:"signer"`
	MaxAge        text `yaml:"max_age"`
}

type advisories struct {
	MaxAge text `yaml:"max_age"`
}

type rule struct {
	Name       text `yaml:"name"`
	Expression text `yaml:"expression"`
	Items      text `yaml:"items"`
	Message    text `yaml:"message"`
	Severity   text `yaml:"severity"`
	Control    text `yaml:"control"`
}

// text is a scalar that remembers where it stands.
type text struct {
	Value string
	// Path is that of the field, also if it is missing.
	Path         string
	Line, Column int
	style        yaml.Style
}

// UnmarshalYAML takes scalars only.
func (t *text) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: a text is expected here", n.Line)
	}
	*t = text{Value: n.Value, Line: n.Line, Column: n.Column, style: n.Style}
	return nil
}

// name gives every text below v its path.
func name(v reflect.Value, path string) {
	switch {
	case v.Type() == reflect.TypeFor[text]():
		v.FieldByName("Path").SetString(path)
	case v.Kind() == reflect.Pointer:
		if !v.IsNil() {
			name(v.Elem(), path)
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			name(v.Index(i), path+"["+strconv.Itoa(i)+"]")
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i).Tag.Get("yaml")
			if path != "" {
				field = path + "." + field
			}
			name(v.Field(i), field)
		}
	}
}

// raw is one document of a file as it is written.
type raw struct {
	text []byte
	// line is the number of lines before it in the file.
	line int
}

// split cuts a file at its document markers. In YAML a line that begins with
// `---` is a marker wherever it stands.
func split(data []byte) ([]raw, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("the file has %d bytes, more than %d", len(data), MaxFile)
	}
	var out []raw
	start, startLine, line := 0, 0, 0
	emit := func(end int) {
		if part := data[start:end]; !blank(part) {
			out = append(out, raw{text: part, line: startLine})
		}
	}
	for pos := 0; pos < len(data); {
		next := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			next = pos + i + 1
		}
		if isMarker(bytes.TrimRight(data[pos:next], "\r\n")) {
			emit(pos)
			start, startLine = next, line+1
		}
		line++
		pos = next
		if len(out) >= MaxDocuments {
			return nil, fmt.Errorf("the file has %d documents or more, at most %d are taken", MaxDocuments, MaxDocuments-1)
		}
	}
	emit(len(data))
	return out, nil
}

func isMarker(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && len(bytes.TrimLeft(rest, " \t")) == 0
}

func blank(part []byte) bool {
	for line := range bytes.Lines(part) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// decode reads one document strictly. Line numbers are those of the file.
func decode(r raw) (*document, []error) {
	whole := func(format string, args ...any) []error {
		return []error{&strictyaml.Fault{Line: r.line + 1, Problem: fmt.Sprintf(format, args...)}}
	}
	if len(r.text) > MaxDocument {
		return nil, whole("the document has %d bytes, more than %d", len(r.text), MaxDocument)
	}
	nodes, fault := strictyaml.Documents(append(bytes.Repeat([]byte{'\n'}, r.line), r.text...))
	switch {
	case fault != nil:
		return nil, []error{fault}
	case len(nodes) != 1:
		return nil, whole("one document is expected between two `---` lines")
	}
	var d document
	if faults := strictyaml.Decode(nodes[0], &d); len(faults) > 0 {
		out := make([]error, 0, len(faults))
		for _, f := range faults {
			out = append(out, f)
		}
		return nil, out
	}
	name(reflect.ValueOf(&d), "")
	return &d, nil
}

// duration reads a Go duration or a number of days, `30d`.
func duration(s string) (time.Duration, error) {
	if m := daysPattern.FindStringSubmatch(s); m != nil {
		days, err := strconv.Atoi(m[1])
		if err != nil {
			return 0, fmt.Errorf("invalid duration %q: %w", s, err)
		}
		s = strconv.Itoa(days*24) + "h"
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("invalid duration %q; write for example 36h or 30d", s)
	}
	if d <= 0 {
		return 0, fmt.Errorf("%q: a maximum age is more than zero", s)
	}
	return d, nil
}
