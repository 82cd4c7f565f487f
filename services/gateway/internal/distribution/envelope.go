// Package distribution reads the notification envelope of the CNCF Distribution
// registry (docs/content/about/notifications.md of distribution/distribution).
package distribution

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
)

// MediaType is the content type of an envelope.
const MediaType = "application/vnd.docker.distribution.events.v2+json"

// Limits bound an envelope beyond its size in bytes, which the caller bounds.
// There is none on the length of a text or the number of references: clients of
// the registry choose those (a user agent, a media type, the layers of a
// manifest), and a registry sends an envelope that is refused again and again and
// holds back all that follow.
type Limits struct {
	// Events is the largest number of events.
	Events int
	// Depth is the deepest nesting of objects and arrays. A real envelope needs 5.
	Depth int
}

// DefaultLimits are far above what a registry sends.
func DefaultLimits() Limits {
	return Limits{Events: 256, Depth: 16}
}

// ParseError says what is wrong with an envelope, in words that may be shown to
// the sender.
type ParseError struct{ Detail string }

// Error implements error.
func (e *ParseError) Error() string { return "envelope: " + e.Detail }

func refuse(format string, args ...any) error {
	return &ParseError{Detail: fmt.Sprintf(format, args...)}
}

type envelope struct {
	Events *[]event `json:"events"`
}

type event struct {
	ID     string `json:"id"`
	Action string `json:"action"`
	Target struct {
		descriptor
		Digest     string       `json:"digest"`
		Repository string       `json:"repository"`
		Tag        string       `json:"tag"`
		References []descriptor `json:"references"`
	} `json:"target"`
	Request struct {
		Host string `json:"host"`
	} `json:"request"`
}

type descriptor struct {
	MediaType    string `json:"mediaType"`
	ArtifactType string `json:"artifactType"`
}

// Parse returns the events of an envelope in their order. Unknown fields are
// allowed, as later registries add some. The error is a *ParseError.
func Parse(data []byte, l Limits) ([]core.Event, error) {
	if !utf8.Valid(data) {
		return nil, refuse("not UTF-8")
	}
	if err := checkShape(data, l); err != nil {
		return nil, err
	}
	var env envelope
	if err := strictjson.Unmarshal(data, &env); err != nil {
		var typeErr *json.UnmarshalTypeError
		if errors.As(err, &typeErr) {
			return nil, refuse("%s: a %s where %s is expected", field(typeErr.Field), typeErr.Value, typeErr.Type)
		}
		return nil, refuse("%v", err)
	}
	if env.Events == nil {
		return nil, refuse("events is missing")
	}
	if n := len(*env.Events); n > l.Events {
		return nil, refuse("%d events, at most %d are read", n, l.Events)
	}
	events := make([]core.Event, 0, len(*env.Events))
	for i, e := range *env.Events {
		if e.Action == "" {
			return nil, refuse("events[%d].action is missing", i)
		}
		events = append(events, e.core())
	}
	return events, nil
}

func (e event) core() core.Event {
	out := core.Event{
		ID: e.ID, Action: e.Action, Host: clip(e.Request.Host),
		Repository: e.Target.Repository, Tag: e.Target.Tag, Digest: e.Target.Digest,
		MediaType: e.Target.MediaType, ArtifactType: e.Target.ArtifactType,
	}
	for _, r := range e.Target.References {
		out.References = append(out.References, core.Reference{MediaType: r.MediaType, ArtifactType: r.ArtifactType})
	}
	return out
}

// maxHost is what is kept of a host, in bytes; a real one has at most 255 and a port.
const maxHost = 300

// clip bounds what is only ever logged.
func clip(s string) string {
	if len(s) <= maxHost {
		return s
	}
	return strings.ToValidUTF8(s[:maxHost], "")
}

// checkShape reads the tokens once before anything is allocated for them: it
// bounds the depth and finds what follows the envelope.
func checkShape(data []byte, l Limits) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	depth := 0
	for first := true; ; first = false {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) && !first && depth == 0 {
			return nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return refuse("not JSON: %v", err)
		}
		if first && tok != json.Delim('{') {
			return refuse("not a JSON object")
		}
		if !first && depth == 0 {
			return refuse("something follows the envelope")
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > l.Depth {
			return refuse("nested deeper than %d", l.Depth)
		}
	}
}

func field(path string) string {
	if path == "" {
		return "envelope"
	}
	return path
}
