// Package policytest runs people's unit tests of policies: cases in YAML, with facts
// that are written down or with the recorded evidence of an image, and what the
// policies are to say of them. It needs no service.
package policytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
)

// Limits of test files.
const (
	// MaxFile is the size of a test file in bytes.
	MaxFile = 1 << 20
	// MaxCases is the number of cases of one file.
	MaxCases = 1000
	// maxPolicies is the number of policy files of one test file.
	maxPolicies = 100
)

// document is a test file.
type document struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name        string `yaml:"name"`
		Description string `yaml:"description"`
	} `yaml:"metadata"`
	Spec struct {
		Policies []string  `yaml:"policies"`
		Now      time.Time `yaml:"now"`
		Cases    []Case    `yaml:"cases"`
	} `yaml:"spec"`
}

// Case is one case.
type Case struct {
	Name string `yaml:"name"`
	// Image is a reference; registry.example/app if it is empty.
	Image       string `yaml:"image"`
	Environment string `yaml:"environment"`
	// Recorded is a file of recorded evidence.
	Recorded string    `yaml:"recorded"`
	Facts    yaml.Node `yaml:"facts"`
	Now      time.Time `yaml:"now"`
	Expect   Expect    `yaml:"expect"`

	ref imageref.Ref
}

// Expect is what the policies are to say. What is left out may be anything.
type Expect struct {
	// State is PASS, FAIL or UNKNOWN.
	State string `yaml:"state"`
	// Rules are outcomes by RULE or POLICY/RULE: passed, denied, warned or error.
	Rules map[string]string `yaml:"rules"`
	// Items are all that broke a rule, in any order.
	Items map[string][]string `yaml:"items"`
	// Reasons are codes that must be among the verdict's.
	Reasons []string `yaml:"reasons"`
}

// Suite is a test file that has been read.
type Suite struct {
	Name string
	// Policies are files, or `pack:NAME`.
	Policies []string
	Cases    []Case
}

var (
	states   = []string{"PASS", "FAIL", "UNKNOWN"}
	outcomes = []string{"passed", "denied", "warned", "error"}
	codeText = regexp.MustCompile(`^[A-Z][A-Z_]{1,40}$`)
)

// yamlError takes the noise out of the decoder's errors.
func yamlError(err error) error {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	texts := make([]string, 0, len(te.Errors))
	for _, e := range te.Errors {
		field, _, ok := strings.Cut(e, " not found in type ")
		if ok {
			e = strings.Replace(field, "field ", "unknown field ", 1)
		}
		texts = append(texts, e)
	}
	return errors.New(strings.Join(texts, "\n"))
}

// Parse reads a test file. The error joins every fault found.
func Parse(data []byte) (Suite, error) {
	if len(data) > MaxFile {
		return Suite{}, fmt.Errorf("the file has %d bytes, more than %d", len(data), MaxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	var d document
	if err := dec.Decode(&d); err != nil {
		return Suite{}, yamlError(err)
	}
	if err := dec.Decode(&document{}); !errors.Is(err, io.EOF) {
		return Suite{}, errors.New("a test file holds one document")
	}
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if d.APIVersion != "seaworthy.dev/v1" || d.Kind != "PolicyTest" {
		fault("apiVersion must be seaworthy.dev/v1 and kind PolicyTest")
	}
	if len(d.Spec.Policies) == 0 || len(d.Spec.Policies) > maxPolicies {
		fault("spec.policies must have 1 to %d files, or packs as pack:NAME", maxPolicies)
	}
	if len(d.Spec.Cases) == 0 || len(d.Spec.Cases) > MaxCases {
		fault("spec.cases must have 1 to %d cases", MaxCases)
	}
	s := Suite{Name: d.Metadata.Name, Policies: d.Spec.Policies, Cases: d.Spec.Cases}
	names := map[string]bool{}
	for i := range s.Cases {
		c := &s.Cases[i]
		where := fmt.Sprintf("case %d", i+1)
		if c.Name == "" {
			fault("%s: a name is needed", where)
		} else {
			where = fmt.Sprintf("case %q", c.Name)
		}
		if names[c.Name] {
			fault("%s: the name is used by another case", where)
		}
		names[c.Name] = true
		if c.Now.IsZero() {
			c.Now = d.Spec.Now
		}
		for _, err := range c.check() {
			fault("%s: %w", where, err)
		}
	}
	return s, errors.Join(faults...)
}

func (c *Case) check() (faults []error) {
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if (c.Recorded == "") == c.Facts.IsZero() {
		fault("either facts or a recorded image is needed")
	}
	if c.Image != "" {
		if c.Recorded != "" {
			fault("a recorded image has its own name; leave image out")
		}
		var err error
		if c.ref, err = imageref.Parse(c.Image); err != nil {
			fault("image: %w", err)
		}
	}
	if c.Environment != "" && !policy.IsName(c.Environment) {
		fault("environment must be 1 to 63 lower-case letters, digits and dashes")
	}
	e := c.Expect
	if e.State == "" && len(e.Rules) == 0 && len(e.Items) == 0 && len(e.Reasons) == 0 {
		fault("expect must say something: state, rules, items or reasons")
	}
	if e.State != "" && !slices.Contains(states, e.State) {
		fault("expect.state %q is none of %s", e.State, strings.Join(states, ", "))
	}
	for rule, outcome := range e.Rules {
		if !slices.Contains(outcomes, outcome) {
			fault("expect.rules.%s: %q is none of %s", rule, outcome, strings.Join(outcomes, ", "))
		}
	}
	for _, r := range e.Reasons {
		if !codeText.MatchString(r) {
			fault("expect.reasons: invalid reason code %q, want one such as EVIDENCE_MISSING", r)
		}
	}
	return faults
}
