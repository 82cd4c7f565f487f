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

// Problems collects what is wrong (errors) and what works but is unwise
// (warnings). The zero value is ready; not for concurrent use. A text that was
// reported already is not reported twice.
type Problems struct {
	errs     []string
	warnings []string
}

// Errorf reports that the key at path cannot be used as it is.
func (p *Problems) Errorf(path, format string, a ...any) {
	p.errs = add(p.errs, path, format, a...)
}

// Warnf reports that the key at path is usable but unwise.
func (p *Problems) Warnf(path, format string, a ...any) {
	p.warnings = add(p.warnings, path, format, a...)
}

// Warnings returns every warning, "path: text", in the order of reporting.
func (p *Problems) Warnings() []string { return slices.Clone(p.warnings) }

// Err joins every error, one a line, or is nil.
func (p *Problems) Err() error {
	errs := make([]error, 0, len(p.errs))
	for _, e := range p.errs {
		errs = append(errs, errors.New(e))
	}
	return errors.Join(errs...)
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
