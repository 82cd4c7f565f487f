package obs

import (
	"context"
	"log/slog"
	"regexp"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// urls finds URLs inside a text. It takes in more than a URL may hold, so that nothing
// behind an odd character stays.
var urls = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"<>]+`)

var hostPort = regexp.MustCompile(`^(\[[0-9A-Za-z:.%]*\]|[^:\[\]]*)(:[0-9]*)?$`)

// credentials finds what the header Authorization holds. Words that follow "basic" in a
// sentence are shorter.
var credentials = regexp.MustCompile(`(?i)\b(bearer|basic)(\s+|%20)[A-Za-z0-9._~+/=-]{16,}`)

// Redact removes from a text what is secret in it: user info, query and fragment of all
// URLs, which hold passwords, tokens and signatures of presigned requests, and what a
// header Authorization holds. Errors of net/http and of drivers quote the URL they were
// given, and servers that refuse a request may repeat all of it.
func Redact(text string) string {
	if strings.Contains(text, "://") {
		text = urls.ReplaceAllStringFunc(text, redactURL)
	}
	return credentials.ReplaceAllString(text, "$1 REDACTED")
}

func redactURL(u string) string {
	scheme, rest, _ := strings.Cut(u, "://")
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		rest = rest[at+1:]
	} else if at := strings.LastIndexByte(rest, '@'); at >= 0 && !hostPort.MatchString(authority) {
		// A password with a slash or question mark that is not escaped, as users write it.
		rest = rest[at+1:]
	}
	if end := strings.IndexAny(rest, "?#"); end >= 0 {
		rest = rest[:end] + "?REDACTED"
	}
	return scheme + "://" + rest
}

// RedactError is err with Redact applied to its text.
func RedactError(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if redacted := Redact(text); redacted != text {
		return &redactedError{err: err, text: redacted}
	}
	return err
}

type redactedError struct {
	err  error
	text string
}

func (e *redactedError) Error() string { return e.text }

func (e *redactedError) Unwrap() error { return e.err }

// redactAttr keeps secrets out of log lines.
func redactAttr(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Redact(a.Value.String()))
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			a.Value = slog.StringValue(Redact(v.Error()))
		case []string:
			redacted := make([]string, len(v))
			for i := range v {
				redacted[i] = Redact(v[i])
			}
			a.Value = slog.AnyValue(redacted)
		}
	default:
	}
	return a
}

// redactingExporter keeps secrets out of what is exported: errors are
// recorded in spans by libraries, too.
type redactingExporter struct{ sdktrace.SpanExporter }

func (e redactingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	redacted := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, s := range spans {
		redacted[i] = redactedSpan{s}
	}
	return e.SpanExporter.ExportSpans(ctx, redacted)
}

type redactedSpan struct{ sdktrace.ReadOnlySpan }

func (s redactedSpan) Attributes() []attribute.KeyValue {
	return redactAttributes(s.ReadOnlySpan.Attributes())
}

func (s redactedSpan) Events() []sdktrace.Event {
	events := s.ReadOnlySpan.Events()
	redacted := make([]sdktrace.Event, len(events))
	for i, e := range events {
		e.Attributes = redactAttributes(e.Attributes)
		redacted[i] = e
	}
	return redacted
}

func (s redactedSpan) Status() sdktrace.Status {
	status := s.ReadOnlySpan.Status()
	status.Description = Redact(status.Description)
	return status
}

func redactAttributes(attrs []attribute.KeyValue) []attribute.KeyValue {
	redacted := make([]attribute.KeyValue, len(attrs))
	for i, a := range attrs {
		if a.Value.Type() == attribute.STRING {
			a.Value = attribute.StringValue(Redact(a.Value.AsString()))
		}
		redacted[i] = a
	}
	return redacted
}
