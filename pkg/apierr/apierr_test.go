package apierr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestRoundTripThroughStatus(t *testing.T) {
	cause := errors.New("dial tcp 10.0.0.7:5432: secret detail")
	sent := New(codes.Unavailable, "REGISTRY_DOWN", "the registry does not answer").
		WithMetadata("registry", "r.example:5000").WithRetryAfter(3*time.Second).
		WithViolation("image.tag", "is unknown").WithCause(cause)

	// What a client holds: an error made from the status alone.
	got := From(status.ErrorProto(sent.GRPCStatus().Proto()))
	if got.Code() != sent.Code() || got.Reason() != sent.Reason() || got.Message() != sent.Message() || got.RetryAfter() != sent.RetryAfter() {
		t.Errorf("got %v, sent %v", got, sent)
	}
	if d := cmp.Diff(sent.Metadata(), got.Metadata()); d != "" {
		t.Errorf("metadata (-sent +got):\n%s", d)
	}
	if d := cmp.Diff(sent.Violations(), got.Violations()); d != "" {
		t.Errorf("violations (-sent +got):\n%s", d)
	}
	if text := sent.GRPCStatus().Proto().String(); strings.Contains(text, "secret detail") {
		t.Errorf("the private cause is on the wire: %s", text)
	}
	if !errors.Is(sent, cause) || !strings.Contains(sent.Error(), "secret detail") {
		t.Errorf("the log text lacks the cause: %v", sent)
	}
}

func TestFrom(t *testing.T) {
	own := New(codes.NotFound, "IMAGE_NOT_FOUND", "no such image")
	tests := map[string]struct {
		err        error
		wantCode   codes.Code
		wantReason string
		wantText   string
	}{
		"own, wrapped":       {fmt.Errorf("store: %w", own), codes.NotFound, "IMAGE_NOT_FOUND", "no such image"},
		"foreign status":     {status.Error(codes.Aborted, "try again"), codes.Aborted, "ABORTED", "try again"},
		"wrapped status":     {fmt.Errorf("call: %w", status.Error(codes.NotFound, "gone")), codes.NotFound, "NOT_FOUND", "gone"},
		"deadline":           {fmt.Errorf("query: %w", context.DeadlineExceeded), codes.DeadlineExceeded, ReasonDeadlineExceeded, "the deadline passed before the work was done"},
		"canceled":           {context.Canceled, codes.Canceled, ReasonCanceled, "the request was canceled"},
		"anything":           {io.ErrUnexpectedEOF, codes.Internal, ReasonInternal, "internal error"},
		"joined with own":    {errors.Join(io.EOF, own), codes.NotFound, "IMAGE_NOT_FOUND", "no such image"},
		"code OK is no code": {New(codes.OK, "ODD", "odd"), codes.Internal, "ODD", "odd"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := From(tt.err)
			if got.Code() != tt.wantCode || got.Reason() != tt.wantReason || got.Message() != tt.wantText {
				t.Errorf("From = %v %s %q, want %v %s %q", got.Code(), got.Reason(), got.Message(), tt.wantCode, tt.wantReason, tt.wantText)
			}
			if !HasReason(tt.err, tt.wantReason) {
				t.Errorf("HasReason(%s) = false", tt.wantReason)
			}
		})
	}
	if From(nil) != nil || HasReason(nil, "") {
		t.Error("nil is not nil")
	}
	if e := From(io.ErrUnexpectedEOF); !errors.Is(e, io.ErrUnexpectedEOF) {
		t.Error("the masked error lost its cause")
	}
}

func TestFromKeepsTheContextOfAStatus(t *testing.T) {
	err := fmt.Errorf("ask the scanner: %w", status.Error(codes.NotFound, "gone"))
	if got := From(err).Error(); !strings.Contains(got, "ask the scanner") {
		t.Errorf("log text %q lost what the caller added", got)
	}
}

func TestForeignErrorInfoIsNotOurs(t *testing.T) {
	st := New(codes.NotFound, "OURS", "x").GRPCStatus().Proto()
	for _, d := range st.GetDetails() {
		d.Value = []byte(strings.ReplaceAll(string(d.GetValue()), Domain, "elsewhere.dev"))
	}
	if got := From(status.ErrorProto(st)).Reason(); got != "NOT_FOUND" {
		t.Errorf("reason %s of another domain was taken as ours", got)
	}
}

func TestCopiesDoNotShare(t *testing.T) {
	base := InvalidField("a", "is bad").WithMetadata("k", "1")
	other := base.WithMetadata("k", "2").WithViolation("b", "is bad too")
	base.Metadata()["k"] = "3"
	base.Violations()[0].Field = "z"
	if base.Metadata()["k"] != "1" || len(base.Violations()) != 1 || base.Violations()[0].Field != "a" {
		t.Errorf("base changed: %v %v", base.Metadata(), base.Violations())
	}
	if other.Metadata()["k"] != "2" || len(other.Violations()) != 2 {
		t.Errorf("copy is wrong: %v %v", other.Metadata(), other.Violations())
	}
}

func TestTextThatIsNotUTF8StillHasACode(t *testing.T) {
	e := New(codes.NotFound, "X", "ok").WithMetadata("k", "\xff")
	if got := e.GRPCStatus().Code(); got != codes.NotFound {
		t.Errorf("code %v", got)
	}
}

func TestEveryCodeHasAReason(t *testing.T) {
	seen := map[string]codes.Code{}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		r := codeReason(c)
		if other, ok := seen[r]; ok {
			t.Errorf("%v and %v share the reason %s", c, other, r)
		}
		seen[r] = c
	}
}

func Example() {
	// A service refuses, with the cause for its own log only.
	err := New(codes.NotFound, "IMAGE_NOT_FOUND", "registry.example/app has no such digest").
		WithCause(errors.New("GET /v2/app/manifests/…: 404"))

	// The caller gets the public side back as the same type.
	got := From(status.ErrorProto(err.GRPCStatus().Proto()))
	fmt.Println(got.Code(), HasReason(got, "IMAGE_NOT_FOUND"))
	fmt.Println(got)
	// Output:
	// NotFound true
	// IMAGE_NOT_FOUND: registry.example/app has no such digest
}
