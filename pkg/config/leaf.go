package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// leaf is one key that can be set on its own.
type leaf struct {
	path  string
	value reflect.Value
	// unsetOthers clears the alternatives of the same secret, so that a
	// stronger layer can replace "value" by "file".
	unsetOthers func()
	// secretValue marks text that must not be shown.
	secretValue bool
}

var (
	secretType      = reflect.TypeFor[Secret]()
	timeType        = reflect.TypeFor[time.Time]()
	unmarshalerType = reflect.TypeFor[yaml.Unmarshaler]()
)

// leaves walks the struct by the rules of the yaml package: the tag's name or
// the lower-case field name, "-" left out, inline structs merged.
func leaves(v reflect.Value) []leaf {
	var out []leaf
	walk(v, "", &out)
	return out
}

func walk(v reflect.Value, prefix string, out *[]leaf) {
	t := v.Type()
	for i := range t.NumField() {
		name, inline, ok := yamlName(t.Field(i))
		if !ok {
			continue
		}
		f := v.Field(i)
		path := prefix
		if !inline {
			path = join(prefix, name)
		}
		switch {
		case f.Type() == secretType:
			walkSecret(f, path, out)
		case isSection(f.Type()):
			walk(f, path, out)
		case !inline:
			*out = append(*out, leaf{path: path, value: f})
		}
	}
}

func walkSecret(f reflect.Value, path string, out *[]leaf) {
	part := func(name string, field reflect.Value) leaf {
		return leaf{path: join(path, name), value: field, unsetOthers: f.SetZero}
	}
	value := part("value", f.FieldByName("Value"))
	value.secretValue = true
	*out = append(*out, value, part("file", f.FieldByName("File")), part("env", f.FieldByName("Env")))
}

// isSection tells a struct that groups keys from one that is a value itself.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != timeType && !reflect.PointerTo(t).Implements(unmarshalerType)
}

func yamlName(f reflect.StructField) (name string, inline, ok bool) {
	if !f.IsExported() {
		return "", false, false
	}
	tag, _ := f.Tag.Lookup("yaml")
	if tag == "-" {
		return "", false, false
	}
	name, flags, _ := strings.Cut(tag, ",")
	for flag := range strings.SplitSeq(flags, ",") {
		inline = inline || flag == "inline"
	}
	if name == "" {
		name = strings.ToLower(f.Name)
	}
	return name, inline, true
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// set reads the text as the key's type. Text for a string is taken as it is;
// anything else is YAML, and a list of scalars may also be separated by commas.
func (l leaf) set(text string) error {
	if l.unsetOthers != nil {
		l.unsetOthers()
	}
	// Decoded aside, so that a list or map replaces the weaker layer's
	// instead of being mixed with it.
	fresh := reflect.New(l.value.Type())
	if l.value.Kind() == reflect.String && !fresh.Type().Implements(unmarshalerType) {
		l.value.SetString(text)
		return nil
	}
	if text == "" {
		return errors.New("the value is empty")
	}
	if l.value.Kind() == reflect.Slice && !strings.HasPrefix(strings.TrimSpace(text), "[") {
		text = "[" + text + "]"
	}
	dec := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	dec.KnownFields(true)
	if err := dec.Decode(fresh.Interface()); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("the value is empty")
		}
		return fmt.Errorf("%s: %w", l.path, plain(err))
	}
	l.value.Set(fresh.Elem())
	return nil
}
