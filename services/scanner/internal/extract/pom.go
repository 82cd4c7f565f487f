package extract

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// coordinates name a Maven package.
type coordinates struct{ group, artifact, version string }

// pom is what pom.properties and pom.xml of one directory say. Each may be missing or have
// unresolved properties; then the other one, the parent and the directory tell.
type pom struct {
	directory, listed, own, parent coordinates
	values                         map[string]string
}

const (
	// maxPomDepth is how deep the elements of a pom.xml may be nested.
	maxPomDepth = 100
	// maxPomValues is the number of properties that are kept.
	maxPomValues = 10_000
	// maxExpansions is the number of properties that are put into one value: values may name
	// others, and themselves.
	maxExpansions = 32
)

// properties reads pom.properties.
func (p *pom) properties(text []byte) {
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "groupId":
			p.listed.group = firstOf(p.listed.group, value)
		case "artifactId":
			p.listed.artifact = firstOf(p.listed.artifact, value)
		case "version":
			p.listed.version = firstOf(p.listed.version, value)
		}
	}
}

// project reads pom.xml, element by element, as far as it is well-formed.
func (p *pom) project(text []byte) error {
	if p.values == nil {
		p.values = map[string]string{}
	}
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(text, utf8BOM)))
	d.Strict = false
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // coordinates are ASCII
	var at []string
	var value strings.Builder
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return nil //nolint:nilerr // what came before counts; a version that is missing then is said
		}
		switch t := token.(type) {
		case xml.StartElement:
			if at = append(at, t.Name.Local); len(at) > maxPomDepth {
				return fmt.Errorf("%w: elements nested deeper than %d", errOver, maxPomDepth)
			}
			value.Reset()
		case xml.CharData:
			if value.Len() <= maxText {
				_, _ = value.Write(t)
			}
		case xml.EndElement:
			if len(at) > 0 {
				p.element(at, strings.TrimSpace(value.String()))
				at = at[:len(at)-1]
			}
			value.Reset()
		}
	}
}

// element takes the value of an element.
func (p *pom) element(at []string, value string) {
	if len(at) < 2 || at[0] != "project" || len(value) > maxText {
		return
	}
	into := &p.own
	switch {
	case len(at) == 3 && at[1] == "parent":
		into = &p.parent
	case len(at) == 3 && at[1] == "properties":
		if len(p.values) < maxPomValues {
			p.values[at[2]] = value
		}
		return
	case len(at) != 2:
		return
	}
	switch at[len(at)-1] {
	case "groupId":
		into.group = value
	case "artifactId":
		into.artifact = value
	case "version":
		into.version = value
	}
}

// coordinates are what the files say; what none of them says is empty.
func (p *pom) coordinates() coordinates {
	return coordinates{
		group:    firstOf(p.resolve(p.listed.group), p.resolve(p.own.group), p.resolve(p.parent.group), p.resolve(p.directory.group)),
		artifact: firstOf(p.resolve(p.listed.artifact), p.resolve(p.own.artifact), p.resolve(p.directory.artifact)),
		version:  firstOf(p.resolve(p.listed.version), p.resolve(p.own.version), p.resolve(p.parent.version)),
	}
}

// resolve puts the values of properties in. It is empty if one has no value: `${project.version}`
// is no version.
func (p *pom) resolve(s string) string {
	for range maxExpansions {
		start := strings.Index(s, "${")
		if start < 0 {
			break
		}
		length := strings.IndexByte(s[start:], '}')
		if length < 0 {
			return ""
		}
		value := p.property(s[start+2 : start+length])
		if s = s[:start] + value + s[start+length+1:]; value == "" || len(s) > maxText {
			return ""
		}
	}
	// `@version@` is what other build tools leave where they replaced nothing.
	if strings.ContainsAny(s, "${}@ \t\r\n") {
		return ""
	}
	return s
}

func (p *pom) property(name string) string {
	for _, prefix := range []string{"project.", "pom."} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			name = rest
			break
		}
	}
	switch name {
	case "version":
		return firstOf(p.own.version, p.parent.version)
	case "groupId":
		return firstOf(p.own.group, p.parent.group)
	case "artifactId":
		return p.own.artifact
	case "parent.version":
		return p.parent.version
	case "parent.groupId":
		return p.parent.group
	}
	return p.values[name]
}

// firstOf is the first that is not empty.
func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
