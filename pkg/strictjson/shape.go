package strictjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// shape says which names are known in a value. nil knows none.
type shape struct {
	// fields are the members of an object by their exact names.
	fields map[string]*field
	// folded gives the known name of each folded one.
	folded map[string]string
	// elements is the shape of the elements of an array and of the values of a map.
	elements *shape
}

// field is a member that is known. Messages have two names for some of them.
type field struct {
	shape *shape
	names int
}

func (s *shape) element() *shape {
	if s == nil {
		return nil
	}
	return s.elements
}

func (s *shape) add(f *field, names ...string) {
	for _, name := range names {
		if _, there := s.fields[name]; !there {
			f.names++
			s.fields[name] = f
			s.folded[fold(name)] = name
		}
	}
}

func newObject() *shape {
	return &shape{fields: map[string]*field{}, folded: map[string]string{}}
}

// fold gives the same string for all that are equal under simple Unicode case folding,
// which is what encoding/json compares names by.
func fold(s string) string {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		if r < utf8.RuneSelf {
			if 'a' <= r && r <= 'z' {
				r -= 'a' - 'A'
			}
			out = append(out, byte(r))
			continue
		}
		for next := unicode.SimpleFold(r); ; next = unicode.SimpleFold(next) {
			if next <= r {
				r = next // the smallest of those that fold to each other
				break
			}
			r = next
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}

var (
	shapesMu sync.Mutex
	shapes   = map[reflect.Type]*shape{}

	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func shapeOf(t reflect.Type) *shape {
	shapesMu.Lock()
	defer shapesMu.Unlock()
	return ofType(t)
}

// ofType finds the shape of a Go type. Types that refer to themselves are in shapes
// before they are complete.
func ofType(t reflect.Type) *shape {
	if t == nil {
		return nil
	}
	for t.Kind() == reflect.Pointer {
		if t.Implements(unmarshaler) {
			return nil
		}
		t = t.Elem()
	}
	if p := reflect.PointerTo(t); p.Implements(unmarshaler) || p.Implements(textUnmarshaler) {
		return nil
	}
	if s, ok := shapes[t]; ok {
		return s
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map:
		s := &shape{}
		shapes[t] = s
		s.elements = ofType(t.Elem())
		return s
	case reflect.Struct:
		s := newObject()
		shapes[t] = s
		s.addFields(t, map[reflect.Type]bool{})
		return s
	default:
		return nil
	}
}

// addFields adds what encoding/json fills in of a struct, the outer fields first.
func (s *shape) addFields(t reflect.Type, done map[reflect.Type]bool) {
	if done[t] {
		return
	}
	done[t] = true
	var embedded []reflect.Type
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if f.Anonymous && name == "" && inner.Kind() == reflect.Struct {
			embedded = append(embedded, inner)
			continue
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		s.add(&field{shape: ofType(f.Type)}, name)
	}
	for _, e := range embedded {
		s.addFields(e, done)
	}
}
