package webhook

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
)

// ContentType is the media type of a notification: a CloudEvent, structured JSON.
const ContentType = "application/cloudevents+json"

// TypeVerdictReached is the CloudEvents type of a notification about a verdict. The
// data behind it only ever gains fields; a change that breaks has a new version.
const TypeVerdictReached = "dev.seaworthy.verdict.reached.v1"

// MaxBody bounds a notification, in bytes, as Standard Webhooks recommends.
const MaxBody = 20_000

// verdict is the data of a notification.
type verdict struct {
	Image         string   `json:"image"`
	Tag           string   `json:"tag,omitempty"`
	Digest        string   `json:"digest"`
	State         string   `json:"state"`
	PreviousState string   `json:"previous_state,omitempty"`
	Reasons       []string `json:"reasons"`
	// ReasonsOmitted is the number of reasons left out to keep the body within MaxBody.
	ReasonsOmitted int    `json:"reasons_omitted,omitempty"`
	VerdictDigest  string `json:"verdict_digest"`
	TraceID        string `json:"trace_id"`
}

// cloudEvent is the JSON format of CloudEvents 1.0 with the extension attribute
// `traceparent` of its distributed tracing extension.
type cloudEvent struct {
	SpecVersion     string  `json:"specversion"`
	ID              string  `json:"id"`
	Source          string  `json:"source"`
	Type            string  `json:"type"`
	Subject         string  `json:"subject"`
	Time            string  `json:"time"`
	DataContentType string  `json:"datacontenttype"`
	Traceparent     string  `json:"traceparent,omitempty"`
	Data            verdict `json:"data"`
}

// Render implements core.Sink: a CloudEvent of at most MaxBody bytes. Reasons are left out
// from the end until it fits.
func (s *Sink) Render(n core.Notification) ([]byte, error) {
	e := cloudEvent{
		SpecVersion: "1.0", ID: n.ID, Source: n.Source, Type: TypeVerdictReached,
		Subject:         n.Image + "@" + n.Digest,
		Time:            n.Time.UTC().Format(time.RFC3339Nano),
		DataContentType: "application/json",
		Traceparent:     n.Traceparent,
		Data: verdict{
			Image: n.Image, Tag: n.Tag, Digest: n.Digest, State: n.State, PreviousState: n.PreviousState,
			Reasons: n.Reasons, VerdictDigest: n.VerdictDigest, TraceID: n.TraceID,
		},
	}
	if e.Data.Reasons == nil {
		e.Data.Reasons = []string{}
	}
	for {
		body, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode notification: %w", err)
		}
		if len(body) <= MaxBody {
			return body, nil
		}
		last := len(e.Data.Reasons) - 1
		if last < 0 {
			return nil, fmt.Errorf("notification of %d bytes without its reasons exceeds the limit of %d", len(body), MaxBody)
		}
		e.Data.Reasons = e.Data.Reasons[:last]
		e.Data.ReasonsOmitted++
	}
}
