// Package distribution reads the notification envelope of the CNCF Distribution
// registry (docs/content/about/notifications.md of distribution/distribution).
package distribution

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook"
)

// MediaType is the content type of an envelope.
const MediaType = "application/vnd.docker.distribution.events.v2+json"

// Adapter implements webhook.Adapter.
//
// There is no limit on the length of a text or the number of references: clients of the
// registry choose those (a user agent, a media type, the layers of a manifest), and a
// registry repeats an envelope that is refused and holds back all that follow.
type Adapter struct{}

var _ webhook.Adapter = Adapter{}

// Authenticate implements webhook.Adapter: the registry sends the secret as a bearer token.
func (Adapter) Authenticate(h http.Header, secret webhook.Secret) bool {
	return webhook.BearerToken(h, secret)
}

// MediaTypes implements webhook.Adapter.
func (Adapter) MediaTypes() []string { return []string{MediaType} }

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

// Parse implements webhook.Adapter. Unknown fields are allowed, as later registries add some.
func (Adapter) Parse(data []byte, l webhook.Limits) ([]core.Event, error) {
	if !utf8.Valid(data) {
		return nil, webhook.Errorf("not UTF-8")
	}
	if err := checkShape(data, l); err != nil {
		return nil, err
	}
	var env envelope
	if err := strictjson.Unmarshal(data, &env); err != nil {
		var typeErr *json.UnmarshalTypeError
		if errors.As(err, &typeErr) {
			return nil, webhook.Errorf("%s: a %s where %s is expected", field(typeErr.Field), typeErr.Value, typeErr.Type)
		}
		return nil, webhook.Errorf("%v", err)
	}
	if env.Events == nil {
		return nil, webhook.Errorf("events is missing")
	}
	if n := len(*env.Events); n > l.Events {
		return nil, webhook.Errorf("%d events, at most %d are read", n, l.Events)
	}
	events := make([]core.Event, 0, len(*env.Events))
	for i, e := range *env.Events {
		if e.Action == "" {
			return nil, webhook.Errorf("events[%d].action is missing", i)
		}
		events = append(events, e.core(fmt.Sprintf("events[%d].target", i)))
	}
	return events, nil
}

var actions = map[string]core.Action{"push": core.ActionPush, "delete": core.ActionDelete}

func (e event) core(path string) core.Event {
	out := core.Event{
		ID: e.ID, Path: path, Action: actions[e.Action], Host: clip(e.Request.Host),
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
func checkShape(data []byte, l webhook.Limits) error {
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
			return webhook.Errorf("not JSON: %v", err)
		}
		if first && tok != json.Delim('{') {
			return webhook.Errorf("not a JSON object")
		}
		if !first && depth == 0 {
			return webhook.Errorf("something follows the envelope")
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > l.Depth {
			return webhook.Errorf("nested deeper than %d", l.Depth)
		}
	}
}

func field(path string) string {
	if path == "" {
		return "envelope"
	}
	return path
}
