package obs

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/seaworthy-dev/seaworthy/pkg/testkit/output"
)

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"no URL":                         "no URL",
		"pkg:deb/debian/zlib?arch=amd64": "pkg:deb/debian/zlib?arch=amd64",
		`Get "https://s3.test/b/k?X-Amz-Signature=SECRET": EOF`:        `Get "https://s3.test/b/k?REDACTED": EOF`,
		"https://user:SECRET@reg.test/v2/":                             "https://reg.test/v2/",
		"postgres://app:SECRET@db.test:5432/seaworthy?password=SECRET": "postgres://db.test:5432/seaworthy?REDACTED",
		"postgres://app:SEC/RET@db.test/x":                             "postgres://db.test/x",
		"nats://SECRET@bus.test:4222, next":                            "nats://bus.test:4222, next",
		"https://[::1]:5000/a@sha256:12":                               "https://[::1]:5000/a@sha256:12",
		"https://reg.test:5000/team/app@sha256:12":                     "https://reg.test:5000/team/app@sha256:12",
		"https://a.test/#SECRET and https://b.test/?t=SECRET":          "https://a.test/?REDACTED and https://b.test/?REDACTED",
		`Authorization: Bearer SECRET-SECRET-SECRET`:                   `Authorization: Bearer REDACTED`,
		`{"Authorization":["BASIC U0VDUkVUOlNFQ1JFVA=="]}`:             `{"Authorization":["BASIC REDACTED"]}`,
		"authorization=Bearer%20SECRET-SECRET-SECRET":                  "authorization=Bearer REDACTED",
		"basic authentication is required":                             "basic authentication is required",
		"azurekms://vault.test/key?client_secret=SECRET":               "azurekms://vault.test/key?REDACTED",
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRedactErrorKeepsTheCause(t *testing.T) {
	err := RedactError(&url.Error{Op: "Get", URL: "https://s3.test/?sig=SECRET", Err: io.ErrUnexpectedEOF})
	if strings.Contains(err.Error(), "SECRET") || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("RedactError() = %v", err)
	}
	if RedactError(nil) != nil || !errors.Is(RedactError(io.EOF), io.EOF) {
		t.Error("an error without URL is changed")
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("https://user", "path")
	f.Add("s://a/b", " x")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "s3cr3t-s3cr3t"
		if !strings.Contains(before, secret) && !strings.Contains(after, secret) {
			if got := Redact(before + " https://host.test/p?" + secret + " " + after); strings.Contains(got, secret) {
				t.Errorf("query stays: %q", got)
			}
			if got := Redact(before + " https://u:" + secret + "@host.test/ " + after); strings.Contains(got, secret) {
				t.Errorf("password stays: %q", got)
			}
		}
	})
}

func TestSecretsOfURLsStayInside(t *testing.T) {
	const secret = "https://app:SECRET@host.test/p?token=SECRET"
	failure := &url.Error{Op: "Post", URL: secret, Err: io.EOF}
	for _, format := range []string{"json", "text"} {
		logs := &output.Buffer{}
		tel, err := Start(t.Context(), "notifier", Config{LogFormat: format}, logs)
		if err != nil {
			t.Fatal(err)
		}
		tel.Logger.Info("sent to "+secret, "url", secret, "error", failure, "servers", []string{secret})
		tel.Logger.WithGroup("g").With("url", secret).Warn("again", "error", failure)
		if err := tel.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if got := logs.String(); strings.Contains(got, "SECRET") || !strings.Contains(got, "host.test/p") {
			t.Errorf("%s log: %s", format, got)
		}
	}
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(redactingExporter{spans}))
	_, span := provider.Tracer("x").Start(t.Context(), "x")
	span.SetAttributes(attribute.String("url.full", secret))
	span.RecordError(failure)
	span.SetStatus(codes.Error, failure.Error())
	span.End()
	for _, s := range spans.GetSpans() {
		for _, kv := range append(s.Attributes, s.Events[0].Attributes...) {
			if strings.Contains(kv.Value.String(), "SECRET") {
				t.Errorf("span has %s = %s", kv.Key, kv.Value.String())
			}
		}
		if strings.Contains(s.Status.Description, "SECRET") || s.Status.Description == "" {
			t.Errorf("status %q", s.Status.Description)
		}
	}
	if len(spans.GetSpans()) != 1 {
		t.Error("no span was exported")
	}
}
