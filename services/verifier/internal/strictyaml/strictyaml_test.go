package strictyaml_test

import (
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/strictyaml"
)

type inner struct {
	Name string    `yaml:"name"`
	At   time.Time `yaml:"at"`
	Size int       `yaml:"size"`
}

type outer struct {
	Kind string   `yaml:"kind"`
	Main inner    `yaml:"main"`
	More []inner  `yaml:"more"`
	Tags []string `yaml:"tags"`
	Last *inner   `yaml:"last"`
}

func TestDecode(t *testing.T) {
	t.Parallel()
	bomb := "tags: [x]\nmore:\n  - &a {name: x}\n" + strings.Repeat("  - *a\n", 50_000)
	for name, tc := range map[string]struct{ doc, want string }{
		"sound":            {"kind: a\nmain: {name: b, at: 2026-01-02T03:04:05Z}\nmore: [{name: c}]\nlast: {size: 7}\n", ""},
		"nothing":          {"kind:\nmain:\nmore:\n", ""},
		"merged":           {"main: &m {name: a}\nlast: {<<: *m, size: 1}\nmore: [{<<: [*m, *m]}]\n", ""},
		"unknown":          {"kind: a\nmain:\n  nam: b\n", "3:3: main.nam: unknown field; there are name, at, size"},
		"unknown in list":  {"more:\n  - name: a\n  - {nam: b}\n", "3:6: more[1].nam: unknown field; there are name, at, size"},
		"unknown merged":   {"last: {<<: {nam: a}}\n", "1:13: last.nam: unknown field; there are name, at, size"},
		"twice":            {"main:\n  name: a\n  name: b\n", "3:3: main.name: the field is there already in line 2"},
		"no fields":        {"main: [a]\n", "1:7: main: fields are expected here"},
		"no list":          {"more: {name: a}\n", "1:7: more: a list is expected here"},
		"no text":          {"tags: [a, {b: c}]\n", "1:11: tags[1]: a text is expected here"},
		"no time":          {"main: {at: noon}\n", "1:12: main.at: must be a time, for example 2026-12-31T00:00:00Z"},
		"no number":        {"main:\n  size: many\n", "line 2: cannot unmarshal !!str `many` into int"},
		"a text":           {"just a text\n", "1:1: fields are expected here"},
		"through an alias": {"main: &m {nam: a}\n", "1:11: main.nam: unknown field; there are name, at, size"},
		"of many parts":    {bomb, "the document has more than 100000 fields and items"},
	} {
		docs, fault := strictyaml.Documents([]byte(tc.doc))
		if fault != nil || len(docs) != 1 {
			t.Fatalf("%s: %v", name, fault)
		}
		var o outer
		faults := strictyaml.Decode(docs[0], &o)
		switch {
		case tc.want == "" && len(faults) > 0:
			t.Errorf("%s: %v", name, faults[0])
		case tc.want != "" && (len(faults) != 1 || faults[0].Error() != tc.want):
			t.Errorf("%s: %v, want %s", name, faults, tc.want)
		}
	}
	if _, fault := strictyaml.Documents([]byte("a: b\nc: [\n")); fault == nil || fault.Line == 0 || fault.Path != "" {
		t.Errorf("no YAML: %v", fault)
	}
	many, fault := strictyaml.Documents([]byte(strings.Repeat("x: 1\n", 0) + "kind: a\n---\nkind: b\n---\n"))
	if fault != nil || len(many) != 3 {
		t.Errorf("%d documents, %v", len(many), fault)
	}
	docs, _ := strictyaml.Documents([]byte("a: 1\nb: 1\nc: 1\nd: 1\ne: 1\nf: 1\ng: 1\nh: 1\ni: 1\nj: 1\nk: 1\nl: 1\nm: 1\nn: 1\no: 1\np: 1\nq: 1\nr: 1\ns: 1\nt: 1\nu: 1\nv: 1\n"))
	if faults := strictyaml.Decode(docs[0], &outer{}); len(faults) != 20 {
		t.Errorf("%d faults are told", len(faults))
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	docs, _ := strictyaml.Documents([]byte("\nmain:\n  name: a\nkind: name\n"))
	for path, want := range map[string][2]int{"main.name": {3, 9}, "main.at": {2, 1}, "kind": {4, 7}, "last": {2, 1}, "kind.name": {4, 7}} {
		if line, column := strictyaml.Place(docs[0], path); line != want[0] || column != want[1] {
			t.Errorf("%s is at %d:%d", path, line, column)
		}
	}
	if line, column := strictyaml.Place(&yaml.Node{}, "a"); line != 0 || column != 0 {
		t.Errorf("nothing is at %d:%d", line, column)
	}
}
