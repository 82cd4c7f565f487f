package exception

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
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

// Parse reads the exceptions of one file. The error joins every fault found.
func Parse(name string, data []byte) ([]Exception, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%s: the file has %d bytes, more than %d", name, len(data), MaxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	var (
		out    []Exception
		faults []error
		seen   = map[string]bool{}
	)
	for n := 1; ; n++ {
		var d document
		err := dec.Decode(&d)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", name, n, err)
		}
		if d == (document{}) {
			continue // nothing between two markers
		}
		e := Exception{
			Name: d.Metadata.Name, Target: d.Spec.Target, Repositories: d.Spec.Repositories, ImageDigest: d.Spec.ImageDigest,
			Purl: d.Spec.Purl, Owner: d.Spec.Owner, Reason: d.Spec.Reason, Ticket: d.Spec.Ticket, ExpireTime: d.Spec.Expires.UTC(),
			Justification: d.Spec.Justification,
		}
		if d.APIVersion != "seaworthy.dev/v1" || d.Kind != "Exception" {
			faults = append(faults, fmt.Errorf("%s: document %d: apiVersion must be seaworthy.dev/v1 and kind Exception", name, n))
		}
		for _, f := range e.Check() {
			faults = append(faults, fmt.Errorf("%s: document %d: %s: %s", name, n, f.Field, f.Problem))
		}
		if seen[e.Name] {
			faults = append(faults, fmt.Errorf("%s: document %d: the name %q is used twice", name, n, e.Name))
		}
		seen[e.Name] = true
		out = append(out, e)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return out, nil
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
	f, err := os.Open(file)
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
