package core

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Sink sends notifications to one subscriber. Queue, order, retries and the log of
// deliveries are not its business.
type Sink interface {
	// Render returns the message to send, within the limits of the sink.
	Render(n Notification) ([]byte, error)
	// Deliver makes one attempt to send the message of a notification.
	Deliver(ctx context.Context, n Notification, message []byte) Result
}

// Outcome is what an attempt means for the delivery.
type Outcome int

// Outcomes of an attempt.
const (
	// Retry: the attempt failed and a later one may succeed.
	Retry Outcome = iota
	// Delivered: the subscriber accepted the notification.
	Delivered
	// Permanent: no later attempt can succeed.
	Permanent
	// Gone: the subscriber wants no notifications at all.
	Gone
	// Canceled: the context ended before the attempt did.
	Canceled
)

// Result is how an attempt ended.
type Result struct {
	Outcome Outcome
	// RetryAfter is how long the subscriber asked to wait; 0 if it did not.
	RetryAfter time.Duration
	// Code is the subscriber's response in the sink's own terms, such as an HTTP status;
	// 0 if there was none. It is shown to operators and decides nothing.
	Code int
	// Detail says what went wrong, without anything that the subscriber sent.
	Detail string
}

const maxDetail = 500

// Failed is the result of an attempt that got no response.
func Failed(err error) Result {
	if errors.Is(err, context.Canceled) {
		return Result{Outcome: Canceled, Detail: "canceled"}
	}
	detail := err.Error()
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "")
	}
	return Result{Detail: detail}
}
