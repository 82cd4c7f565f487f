package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	unknownField = regexp.MustCompile(`^line (\d+): field (.+) not found in type (\S+)$`)
	lineError    = regexp.MustCompile(`^(?:yaml: )?line (\d+): ((?s:.+))$`)
)

// explain turns the yaml package's words about Go types into file:line and
// words about keys.
func explain(root reflect.Type, path string, err error) error {
	texts := []string{err.Error()}
	if te, ok := errors.AsType[*yaml.TypeError](err); ok {
		texts = te.Errors
	}
	known := map[string][]string{}
	keysByType(root, known, map[reflect.Type]bool{})
	errs := make([]error, 0, len(texts))
	for _, text := range texts {
		if m := unknownField.FindStringSubmatch(text); m != nil {
			errs = append(errs, fmt.Errorf("%s:%s: unknown key %q%s", path, m[1], m[2], didYouMean(m[2], known[m[3]])))
		} else if m := lineError.FindStringSubmatch(text); m != nil {
			errs = append(errs, fmt.Errorf("%s:%s: %s", path, m[1], m[2]))
		} else {
			errs = append(errs, fmt.Errorf("%s: %s", path, strings.TrimPrefix(text, "yaml: ")))
		}
	}
	return errors.Join(errs...)
}

// plain takes the line number off a single value's error: a variable has no lines.
func plain(err error) error {
	if te, ok := errors.AsType[*yaml.TypeError](err); ok {
		var texts []string
		for _, t := range te.Errors {
			if m := lineError.FindStringSubmatch(t); m != nil {
				t = m[2]
			}
			texts = append(texts, t)
		}
		return errors.New(strings.Join(texts, "; "))
	}
	return err
}

// keysByType collects the key names of every struct type under t, for suggestions.
func keysByType(t reflect.Type, out map[string][]string, seen map[reflect.Type]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return
	}
	seen[t] = true
	out[t.String()] = append(out[t.String()], directKeys(t)...)
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			keysByType(f.Type, out, seen)
		}
	}
}

func directKeys(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		name, inline, ok := yamlName(t.Field(i))
		switch {
		case !ok:
		case inline && t.Field(i).Type.Kind() == reflect.Struct:
			keys = append(keys, directKeys(t.Field(i).Type)...)
		case !inline:
			keys = append(keys, name)
		}
	}
	return keys
}

// didYouMean is a remark about the nearest known name, or "" if none is near.
func didYouMean(name string, known []string) string {
	best, bestDistance := "", max(2, len(name)/3)+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(name, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
