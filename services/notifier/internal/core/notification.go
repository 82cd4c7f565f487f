package core

import "time"

// Notification tells a subscriber that the verdict of an image changed.
type Notification struct {
	// ID identifies the delivery at every attempt.
	ID string
	// Source is the URI of the service that evaluated the image, Time is when it did.
	Source string
	Time   time.Time
	// Traceparent is the W3C trace context of the delivery.
	Traceparent string

	// Image is `registry/repository`.
	Image string
	// Tag is what the image was pushed as; may be empty.
	Tag    string
	Digest string
	// State is PASS, FAIL or UNKNOWN. PreviousState is empty for the first verdict of an image.
	State, PreviousState string
	// Reasons say why, most important first.
	Reasons []string
	// VerdictDigest identifies the content of the verdict.
	VerdictDigest string
	// TraceID is the W3C trace id of the push that led here.
	TraceID string
}
