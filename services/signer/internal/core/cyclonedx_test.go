package core

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func cyclonedx() []byte {
	return []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","serialNumber":"urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79","version":1,` +
		`"metadata":{"timestamp":"2026-03-01T12:00:00Z","component":{"bom-ref":"Image","type":"container","name":"registry.example/app",` +
		`"hashes":[{"alg":"SHA-256","content":"` + strings.TrimPrefix(imageDigest, "sha256:") + `"}]}},"components":[]}`)
}

func TestCheckCycloneDX(t *testing.T) {
	replace := func(old, by string) []byte { return bytes.Replace(cyclonedx(), []byte(old), []byte(by), 1) }
	hex := strings.TrimPrefix(imageDigest, "sha256:")
	hashes := `"hashes":[{"alg":"SHA-256","content":"` + hex + `"}]`
	tests := []struct {
		name string
		doc  []byte
		ok   bool
	}{
		{"hash", cyclonedx(), true},
		{"version", replace(hashes, `"version":"`+imageDigest+`"`), true},
		{"purl", replace(hashes, `"purl":"pkg:oci/app@sha256%3A`+hex+`?repository_url=r/app"`), true},
		{"purl of another type", replace(hashes, `"purl":"pkg:generic/app@sha256%3A`+hex+`"`), false},
		{"other hash", replace(hex, strings.Repeat("5", 64)), false},
		{"other algorithm", replace("SHA-256", "SHA-1"), false},
		{"a library", replace(`"container"`, `"library"`), false},
		{"no component", replace(`"component":`, `"other":`), false},
		{"the digest is of a component inside", replace(`"component":{`, `"component":{"type":"container","name":"x"},"other":{`), false},
		{"other format", replace(`"CycloneDX"`, `"SPDX"`), false},
		{"other version", replace(`"1.6"`, `"1.5"`), false},
		{"no serial number", replace("urn:uuid:", "x"), false},
		{"no time", replace(`"timestamp":"2026-03-01T12:00:00Z",`, ""), false},
		{"no name", replace(`"name":"registry.example/app",`, ""), false},
		{"two documents", append(cyclonedx(), cyclonedx()...), false},
		{"XML", []byte("<bom/>"), false},
		{"empty", nil, false},
		{"null", []byte("null"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := check(CycloneDXJSON, tt.doc, imageDigest)
			if (err == nil) != tt.ok || (err != nil && !errors.Is(err, ErrCycloneDX)) {
				t.Errorf("check() = %v", err)
			}
		})
	}
	if err := check(CycloneDXJSON, replace(hashes, `"version":""`), ""); err == nil {
		t.Error("an empty digest was found in a document")
	}
}

func FuzzCheckCycloneDX(f *testing.F) {
	f.Add(cyclonedx(), imageDigest)
	f.Add([]byte(`{"bomFormat":"CycloneDX","metadata":{"component":{"hashes":[{}]}}}`), "sha256:")
	f.Add([]byte(`{"metadata":{"component":null}}`), "")
	f.Fuzz(func(t *testing.T, doc []byte, digest string) {
		if err := check(CycloneDXJSON, doc, digest); err == nil && !json.Valid(doc) {
			t.Error("accepted what is not JSON")
		} else if err != nil && !errors.Is(err, ErrCycloneDX) {
			t.Errorf("error of another kind: %v", err)
		}
	})
}
