package exception

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/strictyaml"
)

// MaxFile is the size of one file in bytes.
const MaxFile = 1 << 20

type document struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Spec struct {
		Target       string    `yaml:"target"`
		Repositories string    `yaml:"repositories"`
		ImageDigest  string    `yaml:"image_digest"`
		Purl         string    `yaml:"purl"`
		Owner        string    `yaml:"owner"`
		Reason       string    `yaml:"reason"`
		Ticket       string    `yaml:"ticket"`
		Expires      time.Time `yaml:"expires"`
		// Justification is of the exception.
		Justification string `yaml:"justification"`
	} `yaml:"spec"`
}

// paths are where the fields of an exception stand in a document; others have their
// own name in spec.
var paths = map[string]string{"name": "metadata.name", "expire_time": "spec.expires"}

func path(field string) string {
	if p, ok := paths[field]; ok {
		return p
	}
	return "spec." + field
}

// Parse reads the exceptions of one file. The error joins every fault found, each a
// *strictyaml.Fault as `name:line:column: path: message`.
func Parse(name string, data []byte) ([]Exception, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%s: the file has %d bytes, more than %d", name, len(data), MaxFile)
	}
	documents, fault := strictyaml.Documents(data)
	if fault != nil {
		return nil, prefix(name, fault)
	}
	var (
		out    []Exception
		faults []error
		seen   = map[string]bool{}
	)
	for _, n := range documents {
		var d document
		found := strictyaml.Decode(n, &d)
		if len(found) == 0 && d == (document{}) {
			continue // nothing between two markers
		}
		e := d.exception()
		if len(found) == 0 {
			found = d.check(n, &e, seen[e.Name])
		}
		for _, f := range found {
			faults = append(faults, prefix(name, f))
		}
		seen[e.Name] = true
		out = append(out, e)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return out, nil
}

// prefix names the file in front of a fault.
func prefix(name string, f *strictyaml.Fault) error {
	if f.Column > 0 {
		return fmt.Errorf("%s:%w", name, f)
	}
	return fmt.Errorf("%s: %w", name, f)
}

func (d *document) exception() Exception {
	return Exception{
		Name: d.Metadata.Name, Target: d.Spec.Target, Repositories: d.Spec.Repositories, ImageDigest: d.Spec.ImageDigest,
		Purl: d.Spec.Purl, Owner: d.Spec.Owner, Reason: d.Spec.Reason, Ticket: d.Spec.Ticket, ExpireTime: d.Spec.Expires.UTC(),
		Justification: d.Spec.Justification,
	}
}

// check lists what is wrong with a document that could be read.
func (d *document) check(n *yaml.Node, e *Exception, twice bool) []*strictyaml.Fault {
	var out []*strictyaml.Fault
	fault := func(path, problem string) {
		line, column := strictyaml.Place(n, path)
		out = append(out, &strictyaml.Fault{Path: path, Line: line, Column: column, Problem: problem})
	}
	if d.APIVersion != "seaworthy.dev/v1" {
		fault("apiVersion", "must be seaworthy.dev/v1")
	}
	if d.Kind != "Exception" {
		fault("kind", "must be Exception")
	}
	for _, f := range e.Check() {
		fault(path(f.Field), f.Problem)
	}
	if twice {
		fault("metadata.name", fmt.Sprintf("the name %q is used twice", e.Name))
	}
	return out
}

// Load reads files, and every .yaml and .yml file of a directory (empty for none),
// into one set with unique names.
func Load(dir string, files []string) ([]Exception, error) {
	if dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("read exceptions: %w", err)
		}
		for _, e := range entries {
			ext := filepath.Ext(e.Name())
			if !e.IsDir() && (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(e.Name(), ".") {
				files = append(files[:len(files):len(files)], filepath.Join(dir, e.Name()))
			}
		}
	}
	var (
		out    []Exception
		faults []error
		seen   = map[string]bool{}
	)
	for _, file := range files {
		data, err := readLimited(file)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		set, err := Parse(file, data)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		for _, e := range set {
			if seen[e.Name] {
				faults = append(faults, fmt.Errorf("%s: the name %q is used by another file", file, e.Name))
			}
			seen[e.Name] = true
		}
		out = append(out, set...)
	}
	if len(out) > MaxExceptions {
		faults = append(faults, fmt.Errorf("%d exceptions, more than %d", len(out), MaxExceptions))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return out, nil
}

func readLimited(file string) ([]byte, error) {
	f, err := regularfile.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read exceptions: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read exceptions: %w", err)
	}
	return data, nil
}
