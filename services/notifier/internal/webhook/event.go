package webhook

import (
	"encoding/json"
	"fmt"
	"time"
)

// ContentType is the media type of a notification: a CloudEvent, structured JSON.
const ContentType = "application/cloudevents+json"

// TypeVerdictReached is the CloudEvents type of a notification about a verdict. The
// data behind it only ever gains fields; a change that breaks has a new version.
const TypeVerdictReached = "dev.seaworthy.verdict.reached.v1"

// MaxBody bounds a notification, in bytes, as Standard Webhooks recommends.
const MaxBody = 20_000

// Verdict is what a notification says.
type Verdict struct {
	// Image is `registry/repository`.
	Image string `json:"image"`
	// Tag is what the image was pushed as; may be empty.
	Tag string `json:"tag,omitempty"`
	// Digest is the digest of the image.
	Digest string `json:"digest"`
	// State is PASS, FAIL or UNKNOWN.
	State string `json:"state"`
	// PreviousState is the state before; empty for the first verdict of an image.
	PreviousState string `json:"previous_state,omitempty"`
	// Reasons say why, most important first.
	Reasons []string `json:"reasons"`
	// ReasonsOmitted is the number of reasons left out for the size of the body.
	ReasonsOmitted int `json:"reasons_omitted,omitempty"`
	// VerdictDigest is the identity of the verdict's content.
	VerdictDigest string `json:"verdict_digest"`
	// TraceID is the W3C trace id of the push that led here.
	TraceID string `json:"trace_id"`
}

// Event is a notification as it goes out.
type Event struct {
	// ID is the same at every attempt and equal to the header webhook-id.
	ID string
	// Source is who reached the verdict, as a URI.
	Source string
	// Time is when it was reached.
	Time time.Time
	// Traceparent is the trace context in which the notification was made.
	Traceparent string
	// Verdict is the data.
	Verdict Verdict
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
	Data            Verdict `json:"data"`
}

// Encode returns the body of a notification, at most MaxBody bytes. Reasons are left
// out from the end until it fits.
func (e Event) Encode() ([]byte, error) {
	ce := cloudEvent{
		SpecVersion: "1.0", ID: e.ID, Source: e.Source, Type: TypeVerdictReached,
		Subject:         e.Verdict.Image + "@" + e.Verdict.Digest,
		Time:            e.Time.UTC().Format(time.RFC3339Nano),
		DataContentType: "application/json",
		Traceparent:     e.Traceparent,
		Data:            e.Verdict,
	}
	if ce.Data.Reasons == nil {
		ce.Data.Reasons = []string{}
	}
	for {
		body, err := json.Marshal(ce)
		if err != nil {
			return nil, fmt.Errorf("encode notification: %w", err)
		}
		if len(body) <= MaxBody {
			return body, nil
		}
		last := len(ce.Data.Reasons) - 1
		if last < 0 {
			return nil, fmt.Errorf("notification has %d bytes without its reasons, the limit is %d", len(body), MaxBody)
		}
		ce.Data.Reasons = ce.Data.Reasons[:last]
		ce.Data.ReasonsOmitted++
	}
}
