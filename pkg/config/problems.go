package config

import (
	"errors"
	"fmt"
	"slices"
)

// Validator is a configuration that can tell what is wrong with itself. It
// reports through p and never stops at the first mistake.
type Validator interface {
	Validate(p *Problems)
}

// Problems collects what is wrong (errors) and what works but is not recommended
// (warnings). The zero value is ready; not for concurrent use. A text that was
// reported already is not reported twice.
type Problems struct {
	found  *findings
	prefix string
}

// findings is what a Problems and all its sections share.
type findings struct {
	errs     []string
	warnings []string
}

// In returns a Problems that reports to p, with section put before each path,
// so that the type of a section needs not know where it is used.
func (p *Problems) In(section string) *Problems {
	return &Problems{found: p.all(), prefix: join(p.prefix, section)}
}

// Errorf reports that the key at path cannot be used as it is.
func (p *Problems) Errorf(path, format string, a ...any) {
	f := p.all()
	f.errs = add(f.errs, p.path(path), format, a...)
}

// Warnf reports that the key at path is usable but unwise.
func (p *Problems) Warnf(path, format string, a ...any) {
	f := p.all()
	f.warnings = add(f.warnings, p.path(path), format, a...)
}

// Warnings returns every warning, "path: text", in the order of reporting.
func (p *Problems) Warnings() []string { return slices.Clone(p.all().warnings) }

// Err joins every error, one a line, or is nil.
func (p *Problems) Err() error {
	texts := p.all().errs
	errs := make([]error, 0, len(texts))
	for _, text := range texts {
		errs = append(errs, errors.New(text))
	}
	return errors.Join(errs...)
}

func (p *Problems) all() *findings {
	if p.found == nil {
		p.found = &findings{}
	}
	return p.found
}

func (p *Problems) path(path string) string {
	if path == "" {
		return p.prefix
	}
	return join(p.prefix, path)
}

func add(list []string, path, format string, a ...any) []string {
	text := fmt.Sprintf(format, a...)
	if path != "" {
		text = path + ": " + text
	}
	if slices.Contains(list, text) {
		return list
	}
	return append(list, text)
}
