// Package policykit is the verifier's policy engine for tools that have no service at
// hand: it checks policies, runs their unit tests and gives out the packs. It is what
// the verifier itself judges by, so both say the same.
package policykit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policytest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
)

// Packs lists the names of the built-in policy packs.
func Packs() []string { return policy.Packs() }

// Pack returns the document of a built-in policy pack.
func Pack(name string) ([]byte, error) { return policy.Pack(name) }

// Document is a policy that was checked.
type Document struct {
	// Name of the policy.
	Name string
	// Digest is `sha256:` and the SHA-256 of the text.
	Digest string
	// Text is the YAML as it is written.
	Text string
	// Rules is the number of rules.
	Rules int
}

// Kit checks and runs policies. It is safe for concurrent use.
type Kit struct{ loader *policy.Loader }

// New returns a kit.
func New() (*Kit, error) {
	l, err := policy.NewLoader()
	if err != nil {
		return nil, err
	}
	return &Kit{loader: l}, nil
}

// Check reads the policies of one file, at most 1 MiB. The error joins every fault,
// each with name, line and column.
func (k *Kit) Check(name string, data []byte) ([]Document, error) {
	set, err := k.loader.Parse(name, data)
	if err != nil {
		return nil, err
	}
	out := make([]Document, 0, len(set))
	for _, p := range set {
		out = append(out, Document{Name: p.Name, Digest: p.Digest, Text: p.Document, Rules: len(p.Rules)})
	}
	return out, nil
}

// Result is the outcome of one test case.
type Result struct {
	Name string `json:"name"`
	// State that the policies gave: PASS, FAIL or UNKNOWN.
	State string `json:"state"`
	// Problems are what differs from what was expected; none is a case that holds.
	Problems []string `json:"problems,omitempty"`
}

// Test runs the cases of a test file. Files that it names are relative to its folder.
// The error is for a test that cannot be run.
func (k *Kit) Test(ctx context.Context, file string) ([]Result, error) {
	data, err := read(file, policytest.MaxFile)
	if err != nil {
		return nil, err
	}
	suite, err := policytest.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	policies, err := k.policies(file, suite.Policies)
	if err != nil {
		return nil, err
	}
	out := make([]Result, 0, len(suite.Cases))
	for i := range suite.Cases {
		c := &suite.Cases[i]
		r, err := policytest.Run(ctx, c, policies, func(name string) ([]byte, error) { return read(beside(file, name), record.MaxDocument) })
		if err != nil {
			return nil, fmt.Errorf("%s: case %q: %w", file, c.Name, err)
		}
		out = append(out, Result{Name: r.Name, State: r.State, Problems: r.Problems})
	}
	return out, nil
}

func (k *Kit) policies(file string, names []string) ([]policy.Policy, error) {
	var files []policy.File
	for _, name := range names {
		f := policy.File{Name: name}
		var err error
		if pack, ok := strings.CutPrefix(name, "pack:"); ok {
			f.Data, err = policy.Pack(pack)
		} else {
			f.Name = beside(file, name)
			f.Data, err = read(f.Name, policy.MaxFile)
		}
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return k.loader.ParseFiles(files)
}

func beside(file, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(file), name)
}

func read(file string, limit int64) ([]byte, error) {
	f, err := regularfile.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errors.New(file + ": the file is too large")
	}
	return data, nil
}
