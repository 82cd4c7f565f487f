package attest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

var compactSeeds = []string{
	`{}`, `[]`, ` { "a" : [ 1 , -0.5e+3 , true , false , null , "x\"\\\u00e9 y" ] , "b" : { } } `, "\t[\r\n]", `{"a":1,}`, `[1 2]`, `{"a" 1}`,
	`{"a":}`, `01`, `-`, `1.`, `1e`, `"\x"`, `"\u12g4"`, "\"\x01\"", `"`, `tru`, `{}{}`, ``, ` `, `{1:2}`, `[,]`, `]`, `{"a":[}]`,
	strings.Repeat("[", 600) + strings.Repeat("]", 600), "\"\xff\u2028<&>\"",
}

func TestCompact(t *testing.T) {
	for _, seed := range compactSeeds {
		sameAsStandard(t, []byte(seed))
	}
}

func sameAsStandard(t *testing.T, src []byte) {
	t.Helper()
	var want, got bytes.Buffer
	wantErr, gotErr := json.Compact(&want, src), compact(&got, src)
	if (wantErr == nil) != (gotErr == nil) || got.String() != want.String() {
		t.Errorf("%.100q: %.100q, %v, want %.100q, %v", src, got.String(), gotErr, want.String(), wantErr)
	}
}

func FuzzCompact(f *testing.F) {
	for _, seed := range compactSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) { sameAsStandard(t, src) })
}
