package server

import (
	"net/http"

	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/problem"
)

// The kinds of answers that are not a success. Their type URIs are part of the API.
var (
	unauthorized     = problem.Kind("unauthorized", http.StatusUnauthorized, "The source or its secret is wrong")
	notFound         = problem.Kind("not-found", http.StatusNotFound, "There is nothing at this path")
	methodNotAllowed = problem.Kind("method-not-allowed", http.StatusMethodNotAllowed, "The path does not take this method")
	unsupportedType  = problem.Kind("unsupported-media-type", http.StatusUnsupportedMediaType, "The content type is not that of the envelope")
	bodyTooLarge     = problem.Kind("body-too-large", http.StatusRequestEntityTooLarge, "The body is over the limit")
	bodyTooSlow      = problem.Kind("body-too-slow", http.StatusRequestTimeout, "The body did not arrive in time")
	bodyIncomplete   = problem.Kind("body-incomplete", http.StatusBadRequest, "The body ended too early")
	invalidEnvelope  = problem.Kind("invalid-envelope", http.StatusBadRequest, "The envelope cannot be read")
	invalidEvent     = problem.Kind("invalid-event", http.StatusBadRequest, "An event of the envelope cannot be")
	tooManyRequests  = problem.Kind("too-many-requests", http.StatusTooManyRequests, "The source sends too fast")
	overloaded       = problem.Kind("overloaded", http.StatusServiceUnavailable, "Too many requests are under way")
	busUnavailable   = problem.Kind("event-bus-unavailable", http.StatusServiceUnavailable, "Events cannot be stored now")
	busFull          = problem.Kind("event-bus-full", http.StatusServiceUnavailable, "The event stream is full")
	notReady         = problem.Kind("not-ready", http.StatusServiceUnavailable, "The gateway waits for something it needs")
	internalError    = problem.Kind("internal", http.StatusInternalServerError, "The gateway failed")
)
