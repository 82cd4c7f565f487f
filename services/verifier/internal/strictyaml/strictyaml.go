// Package strictyaml says what is wrong with a YAML document, and where: by the path of
// the field as well as by line and column.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	// maxFaults of one document are told.
	maxFaults = 20
	// maxNodes are looked at; a document that repeats itself by aliases can have very
	// many.
	maxNodes = 100_000
)

// Fault is one thing that is wrong with a document.
type Fault struct { //nolint:errname // what is wrong with a field is a fault, not a failure
	// Path of the field, for example `spec.rules[2].expression`; empty for the
	// document as a whole.
	Path string
	// Line and Column count from 1; 0 is unknown.
	Line, Column int
	// Problem says what is wrong, and shows the place where that helps.
	Problem string
}

// Place is `line:column: `, `line N: ` or nothing.
func (f *Fault) Place() string {
	switch {
	case f.Line > 0 && f.Column > 0:
		return fmt.Sprintf("%d:%d: ", f.Line, f.Column)
	case f.Line > 0:
		return fmt.Sprintf("line %d: ", f.Line)
	default:
		return ""
	}
}

// Error gives place, path and problem.
func (f *Fault) Error() string {
	if f.Path == "" {
		return f.Place() + f.Problem
	}
	return f.Place() + f.Path + ": " + f.Problem
}

// Documents reads all documents of a file. The lines of their nodes are those of the file.
func Documents(data []byte) ([]*yaml.Node, *Fault) {
	var out []*yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		n := &yaml.Node{}
		switch err := dec.Decode(n); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fromDecoder(err.Error())
		}
		out = append(out, n)
	}
}

// Decode fills a struct from a document and refuses fields that the struct does not have.
func Decode(document *yaml.Node, into any) []*Fault {
	err := document.Decode(into)
	c := checker{left: maxNodes}
	c.check(document, reflect.TypeOf(into), "")
	var te *yaml.TypeError
	switch {
	case len(c.faults) > 0:
		return c.faults
	case errors.As(err, &te):
		out := make([]*Fault, 0, len(te.Errors))
		for _, e := range te.Errors[:min(len(te.Errors), maxFaults)] {
			out = append(out, fromDecoder(e))
		}
		return out
	case err != nil:
		return []*Fault{fromDecoder(err.Error())}
	case c.left < 0:
		return []*Fault{{Problem: fmt.Sprintf("the document has more than %d fields and items", maxNodes)}}
	default:
		return nil
	}
}

var decoderPlace = regexp.MustCompile(`^(?:yaml: )?(?:line ([0-9]+): )?`)

// fromDecoder takes the line out of an error of the decoder, which knows no more.
func fromDecoder(s string) *Fault {
	m := decoderPlace.FindStringSubmatch(s)
	f := &Fault{Problem: s[len(m[0]):]}
	if line, err := strconv.Atoi(m[1]); err == nil {
		f.Line = line
	}
	return f
}

// checker finds the faults that the decoder only told the lines of.
type checker struct {
	faults []*Fault
	left   int
}

func (c *checker) fault(n *yaml.Node, path, format string, args ...any) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, &Fault{Path: path, Line: n.Line, Column: n.Column, Problem: fmt.Sprintf(format, args...)})
	}
}

func (c *checker) check(n *yaml.Node, t reflect.Type, path string) {
	if c.left--; c.left < 0 {
		return
	}
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	switch {
	case isScalar(t):
		c.scalar(n, t, path)
	case t.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			c.fault(n, path, "a list is expected here")
			return
		}
		for i, item := range n.Content {
			c.check(item, t.Elem(), path+"["+strconv.Itoa(i)+"]")
		}
	case n.Kind != yaml.MappingNode:
		c.fault(n, path, "fields are expected here")
	default:
		c.fields(n, t, path)
	}
}

func (c *checker) scalar(n *yaml.Node, t reflect.Type, path string) {
	switch {
	case n.Kind != yaml.ScalarNode:
		c.fault(n, path, "a text is expected here")
	case t == reflect.TypeFor[time.Time]() && n.Decode(new(time.Time)) != nil:
		c.fault(n, path, "must be a time, for example 2026-12-31T00:00:00Z")
	}
}

func (c *checker) fields(n *yaml.Node, t reflect.Type, path string) {
	known := map[string]reflect.Type{}
	names := make([]string, 0, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		known[name] = t.Field(i).Type
		names = append(names, name)
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		field, ok := known[key.Value]
		switch before, twice := lines[key.Value]; {
		case key.Value == "<<" && key.Tag == "!!merge":
			c.merged(value, t, path)
		case !ok:
			c.fault(key, at, "unknown field; there are %s", strings.Join(names, ", "))
		case twice:
			c.fault(key, at, "the field is there already in line %d", before)
		default:
			lines[key.Value] = key.Line
			c.check(value, field, at)
		}
	}
}

// merged looks at fields that are taken from elsewhere; those that are written here win.
func (c *checker) merged(n *yaml.Node, t reflect.Type, path string) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.SequenceNode {
		c.check(n, t, path)
		return
	}
	for _, item := range n.Content {
		c.check(item, t, path)
	}
}

// isScalar tells whether a value of a type is written as one text.
func isScalar(t reflect.Type) bool {
	return t.Kind() != reflect.Struct && t.Kind() != reflect.Slice || t == reflect.TypeFor[time.Time]() ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[yaml.Unmarshaler]())
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// Place finds a field by its path, or what it is missing in.
func Place(root *yaml.Node, path string) (line, column int) {
	n := root
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	line, column = n.Line, n.Column
	for _, name := range strings.Split(path, ".") {
		i := -1
		if n.Kind == yaml.MappingNode {
			i = slices.IndexFunc(n.Content, func(k *yaml.Node) bool { return k.Value == name })
		}
		if i < 0 || i%2 == 1 || i+1 >= len(n.Content) {
			break
		}
		// A field that is missing is missing in what the key names.
		line, column = n.Content[i].Line, n.Content[i].Column
		if n = n.Content[i+1]; n.Kind == yaml.ScalarNode {
			line, column = n.Line, n.Column
		}
	}
	return line, column
}
