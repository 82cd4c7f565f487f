package server

import (
	"net/http"

	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/problem"
)

// The kinds of answers that are not a success. Their type URIs are part of the API.
var (
	unauthorized     = problem.Kind("unauthorized", http.StatusUnauthorized, "Unknown source or wrong secret")
	notFound         = problem.Kind("not-found", http.StatusNotFound, "Not found")
	methodNotAllowed = problem.Kind("method-not-allowed", http.StatusMethodNotAllowed, "Method not allowed")
	unsupportedType  = problem.Kind("unsupported-media-type", http.StatusUnsupportedMediaType, "Unsupported content type")
	bodyTooLarge     = problem.Kind("body-too-large", http.StatusRequestEntityTooLarge, "Body too large")
	bodyTooSlow      = problem.Kind("body-too-slow", http.StatusRequestTimeout, "Body not received in time")
	bodyIncomplete   = problem.Kind("body-incomplete", http.StatusBadRequest, "Incomplete body")
	invalidEnvelope  = problem.Kind("invalid-envelope", http.StatusBadRequest, "Invalid envelope")
	invalidEvent     = problem.Kind("invalid-event", http.StatusBadRequest, "Invalid event in the envelope")
	tooManyRequests  = problem.Kind("too-many-requests", http.StatusTooManyRequests, "Too many requests from this source")
	overloaded       = problem.Kind("overloaded", http.StatusServiceUnavailable, "Too many concurrent requests")
	busUnavailable   = problem.Kind("event-bus-unavailable", http.StatusServiceUnavailable, "Events cannot be stored at the moment")
	busFull          = problem.Kind("event-bus-full", http.StatusServiceUnavailable, "The event stream is full")
	notReady         = problem.Kind("not-ready", http.StatusServiceUnavailable, "The gateway is not ready")
	internalError    = problem.Kind("internal", http.StatusInternalServerError, "Internal error")
)
