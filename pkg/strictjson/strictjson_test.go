package strictjson

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
)

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

type base struct {
	MediaType string `json:"mediaType"`
}

// either is a string or an object, as products of OpenVEX are.
type either struct{ ID string }

func (e *either) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return Unmarshal(b, &e.ID)
	}
	var doc struct {
		ID string `json:"id"`
	}
	if err := Unmarshal(b, &doc); err != nil {
		return err
	}
	e.ID = doc.ID
	return nil
}

type document struct {
	base
	Manifests []struct {
		Digest      string            `json:"digest"`
		Size        int64             `json:"size"`
		Platform    *platform         `json:"platform,omitempty"`
		Annotations map[string]string `json:"annotations"`
	} `json:"manifests"`
	ByName    map[string]platform `json:"byName"`
	Kind      string              `json:"kind"`
	Untagged  int
	Predicate json.RawMessage `json:"predicate"`
	Free      any             `json:"free"`
	Either    *either         `json:"either"`
	Self      *document       `json:"self"`
	hidden    string          //nolint:unused // its name must not count
	Ignored   string          `json:"-"`
}

func TestUnmarshal_Refuses(t *testing.T) {
	for name, test := range map[string]struct{ in, want string }{
		"duplicate":                    {`{"manifests":[],"manifests":[]}`, `the name "manifests" is there twice`},
		"duplicate, escaped":           {`{"manifests":[],"m\u0061nifests":[]}`, `there twice`},
		"duplicate of an unknown name": {`{"x":1,"x":2}`, `the name "x" is there twice`},
		"duplicate in undecoded value": {`{"unknown":{"a":[{"b":1,"b":2}]}}`, `there twice (at "/unknown/a/0/b")`},
		"duplicate in raw value":       {`{"predicate":{"a":1,"a":2}}`, `there twice`},
		"duplicate in free value":      {`{"free":{"a":1,"a":2}}`, `there twice`},
		"duplicate key of a map":       {`{"manifests":[{"annotations":{"a":"1","a":"2"}}]}`, `there twice`},
		"duplicate empty name":         {`{"":1,"":2}`, `there twice`},
		"other case":                   {`{"Manifests":[]}`, `the name "Manifests" is not "manifests"`},
		"both cases":                   {`{"manifests":[],"Manifests":[]}`, `is not "manifests"`},
		"both cases, the other first":  {`{"MANIFESTS":[],"manifests":[]}`, `is not "manifests"`},
		"long s":                       {`{"manifeſts":[]}`, `is not "manifests"`},
		"long s, escaped":              {`{"manife\u017fts":[]}`, `is not "manifests"`},
		"Kelvin sign":                  {"{\"\u212aind\":\"\"}", `is not "kind"`},
		"in a list":                    {`{"manifests":[{},{"PLATFORM":{}}]}`, `(at "/manifests/1/PLATFORM")`},
		"below a pointer":              {`{"manifests":[{"platform":{"OS":""}}]}`, `is not "os"`},
		"below a map":                  {`{"byName":{"OS":{"Os":""}}}`, `is not "os"`},
		"in a type within itself":      {`{"self":{"self":{"Kind":""}}}`, `is not "kind"`},
		"embedded":                     {`{"MediaType":""}`, `is not "mediaType"`},
		"field without tag":            {`{"untagged":1}`, `is not "Untagged"`},
		"in an own UnmarshalJSON":      {`{"either":{"ID":"x"}}`, `is not "id"`},
		"duplicate before an own one":  {`{"either":{"id":"x","id":"y"}}`, `there twice`},
		"invalid UTF-8":                {"{\"x\":\"\xff\"}", `UTF-8`},
		"invalid UTF-8 in a name":      {"{\"\xff\":1}", `UTF-8`},
		"unpaired surrogate":           {`{"x":"\ud800"}`, `surrogate`},
		"trailing document":            {`{} {}`, `more data follows`},
		"trailing scalar":              {`{}1`, `more data follows`},
		"trailing garbage":             {`{}}`, `invalid JSON`},
		"byte order mark":              {"\ufeff{}", `invalid JSON`},
		"nothing":                      {``, `ends early`},
		"cut":                          {`{"kind":`, `ends early`},
		"wrong type":                   {`{"kind":1}`, `number where string is expected, in field kind`},
		"number out of range":          {`{"manifests":[{"size":1e30}]}`, `expected`},
		"too deep":                     {strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1), `more than 512 levels`},
		"too deep in undecoded value":  {`{"x":` + strings.Repeat(`{"x":`, MaxDepth) + `1` + strings.Repeat("}", MaxDepth+1), `more than 512 levels`},
	} {
		t.Run(name, func(t *testing.T) {
			var d document
			err := Unmarshal([]byte(test.in), &d)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want one with %s", err, test.want)
			}
		})
	}
}

func TestUnmarshal_Accepts(t *testing.T) {
	for name, in := range map[string]string{
		"unknown names":                  `{"x":1,"X":2,"schemaVersion":2}`,
		"map keys that differ in case":   `{"manifests":[{"annotations":{"a":"1","A":"2"}}]}`,
		"map keys that equal known name": `{"byName":{"Manifests":{"os":"x"}}}`,
		"a known name elsewhere":         `{"manifests":[{"Manifests":1}],"Digest":2}`,
		"case in raw values":             `{"predicate":{"A":1,"a":2}}`,
		"case in free values":            `{"free":{"A":1,"a":2}}`,
		"ignored and unexported fields":  `{"ignored":1,"Hidden":2,"-":3}`,
		"null":                           `{"manifests":null,"either":null}`,
		"spaces around":                  " \r\n\t{} \n",
		"as deep as allowed":             `{"free":` + strings.Repeat("[", MaxDepth-1) + strings.Repeat("]", MaxDepth-1) + `}`,
		"one of two forms":               `{"either":"x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			var d document
			if err := Unmarshal([]byte(in), &d); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestUnmarshal_Limits(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"":0`)
	for range MaxMembers {
		b.WriteByte(',')
		name, _ := json.Marshal(string(rune(0x10000 + b.Len()%0x8000)))
		b.WriteString(strings.TrimSuffix(string(name), `"`))
		n, _ := json.Marshal(b.Len())
		b.Write(n)
		b.WriteString(`":0`)
	}
	b.WriteByte('}')
	if err := Check([]byte(b.String())); err == nil || !strings.Contains(err.Error(), "more than 262144 members") {
		t.Errorf("members: error %v", err)
	}
	if err := Check(make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "bytes are more than") {
		t.Errorf("size: error %v", err)
	}
	long := strings.Repeat("x", 1<<20)
	err := Check([]byte(`{"` + long + `":1,"` + long + `":2}`))
	if err == nil || len(err.Error()) > 1000 {
		t.Errorf("an error repeats the document: %d bytes", len(err.Error()))
	}
	err = Check([]byte(`{"` + "\x1b[31m" + `":1}`))
	if err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("an error has control characters: %q", err)
	}
	err = Check([]byte(`{"\u001b[31m\u202e":{"a":1,"a":2}}`))
	if err == nil || strings.ContainsAny(err.Error(), "\x1b\u202e") {
		t.Errorf("an error has control characters: %q", err)
	}
}

func TestUnmarshalKnown(t *testing.T) {
	var p platform
	if err := UnmarshalKnown([]byte(`{"os":"linux"}`), &p); err != nil || p.OS != "linux" {
		t.Errorf("%v, error %v", p, err)
	}
	if err := UnmarshalKnown([]byte(`{"os":"linux","x":1}`), &p); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("error %v", err)
	}
}

func TestUnmarshalMessage(t *testing.T) {
	for name, test := range map[string]struct{ in, want string }{
		"valid":                    {`{"mediaType":"x","dsseEnvelope":{"payload":"eA==","signatures":[{"sig":"eA==","x":1}]}}`, ""},
		"proto name":               {`{"media_type":"x"}`, ""},
		"both names":               {`{"media_type":"x","mediaType":"y"}`, `is there twice`},
		"both names, one null":     {`{"dsse_envelope":null,"dsseEnvelope":{}}`, `is there twice`},
		"duplicate":                {`{"mediaType":"x","mediaType":"y"}`, `is there twice`},
		"duplicate of unknown":     {`{"x":{"y":1,"y":2}}`, `is there twice`},
		"other case":               {`{"MediaType":"x"}`, `is not "mediaType"`},
		"other case of proto name": {`{"Media_Type":"x"}`, `is not "media_type"`},
		"in a list":                {`{"dsseEnvelope":{"signatures":[{"Sig":"eA=="}]}}`, `(at "/dsseEnvelope/signatures/0/Sig")`},
		"long s":                   {`{"dſſeEnvelope":{}}`, `is not "dsseEnvelope"`},
		"wrong type":               {`{"mediaType":1}`, `invalid value for string`},
		"too deep":                 {`{"x":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`, `more than 512 levels`},
	} {
		t.Run(name, func(t *testing.T) {
			var b protobundle.Bundle
			err := UnmarshalMessage([]byte(test.in), &b)
			if test.want == "" {
				if err != nil || b.GetMediaType() != "x" {
					t.Fatalf("%v, error %v", &b, err)
				}
				return
			}
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want one with %s", err, test.want)
			}
		})
	}
}

// FuzzUnmarshal: what is accepted, a reader that folds case and takes the last of two
// names and one that distinguishes case read alike.
func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{
		`{"manifests":[{"digest":"sha256:x","size":5,"platform":{"os":"linux"},"annotations":{"a":"b"}}],"kind":"x"}`,
		`{"Manifests":[],"manifests":[{}]}`, `{"manifeſts":[]}`, "{\"\u212aind\":\"\"}", `{"byName":{"a":{"os":"x","OS":"y"}}}`,
		`{"self":{"predicate":{"a":[1,2]}},"free":{"b":1e3},"Untagged":3}`, `null`, `[]`, `{"mediaType":"\ud83d\ude00"}`,
	} {
		f.Add([]byte(seed))
	}
	// json/v2 has its own rules for types with an UnmarshalJSON; without those.
	type plain struct {
		MediaType string `json:"mediaType"`
		Manifests []struct {
			Digest      string            `json:"digest"`
			Size        int64             `json:"size"`
			Platform    *platform         `json:"platform"`
			Annotations map[string]string `json:"annotations"`
		} `json:"manifests"`
		ByName   map[string]platform `json:"byName"`
		Kind     string              `json:"kind"`
		Untagged int
		Free     any  `json:"free"`
		Flag     bool `json:"flag"`
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var ours, folding, exact plain
		if err := Unmarshal(data, &ours); err != nil {
			if !errors.Is(err, ErrInvalid) || len(err.Error()) > 2000 {
				t.Fatalf("error %v", err)
			}
			return
		}
		if err := json.Unmarshal(data, &folding); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if err := jsonv2.Unmarshal(data, &exact, jsonv2.MatchCaseInsensitiveNames(false)); err != nil {
			t.Fatalf("json/v2 refuses it: %v", err)
		}
		if !reflect.DeepEqual(ours, folding) || !reflect.DeepEqual(ours, exact) {
			t.Fatalf("read differently:\n%+v\n%+v\n%+v", ours, folding, exact)
		}
		again, err := json.Marshal(ours)
		if err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal(again, &folding); err != nil {
			t.Fatalf("what encoding/json writes is refused: %v", err)
		}
	})
}
