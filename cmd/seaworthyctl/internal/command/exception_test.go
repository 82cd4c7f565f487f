package command_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

// fakeExceptions answers with the exceptions of the fake verifier, one a page.
type fakeExceptions struct {
	verifierv1.UnimplementedExceptionServiceServer
	verifier *fakeVerifier
}

func (e fakeExceptions) CreateException(_ context.Context, req *verifierv1.CreateExceptionRequest) (*verifierv1.CreateExceptionResponse, error) {
	e.verifier.record(req)
	return &verifierv1.CreateExceptionResponse{Exception: req.GetException()}, e.verifier.err
}

func (e fakeExceptions) ListExceptions(_ context.Context, req *verifierv1.ListExceptionsRequest) (*verifierv1.ListExceptionsResponse, error) {
	i := 0
	if t := req.GetPageToken(); t != "" {
		i = int(t[0] - '0')
	}
	if i >= len(e.verifier.exceptions) {
		return &verifierv1.ListExceptionsResponse{}, e.verifier.err
	}
	r := &verifierv1.ListExceptionsResponse{Exceptions: e.verifier.exceptions[i : i+1]}
	if i+1 < len(e.verifier.exceptions) {
		r.NextPageToken = string(rune('0' + i + 1))
	}
	return r, e.verifier.err
}

func (e fakeExceptions) DeleteException(_ context.Context, req *verifierv1.DeleteExceptionRequest) (*verifierv1.DeleteExceptionResponse, error) {
	e.verifier.record(req)
	return &verifierv1.DeleteExceptionResponse{}, e.verifier.err
}

func TestExceptions(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.golden("exception-create", f.run("exception", "create", "text-cve", "--target", "CVE-2022-32149", "--repositories", "r.example/shop/**",
		"--purl", "pkg:golang/golang.org/x/text", "--owner", "shop", "--reason", "not reachable", "--ticket", "https://t.example/1", "--for", "720h",
		"--justification", "vulnerable_code_not_in_execute_path"))
	want := &verifierv1.Exception{
		Name: "text-cve", Target: "CVE-2022-32149", Repositories: "r.example/shop/**", Purl: "pkg:golang/golang.org/x/text", Owner: "shop",
		Reason: "not reachable", Ticket: "https://t.example/1", ExpireTime: timestamppb.New(now.Add(720 * time.Hour)),
		Justification: "vulnerable_code_not_in_execute_path",
	}
	asked := f.verifier.asked().(*verifierv1.CreateExceptionRequest)
	if d := cmp.Diff(want, asked.GetException(), protocmp.Transform()); d != "" || asked.GetRequestId() == "" {
		t.Errorf("request %q (-want +got):\n%s", asked.GetRequestId(), d)
	}
	f.golden("exception-create-json", f.run("exception", "create", "one", "--target", "rule:strict/not-root", "--image-digest", digestA,
		"--owner", "shop", "--reason", "migration", "--until", "2026-12-31T00:00:00Z", "-o", "json"))
	for _, args := range [][]string{
		{}, {"a", "b"}, {"a"}, {"a", "--for", "1h", "--until", "2026-12-31T00:00:00Z"}, {"a", "--for", "-1h"}, {"a", "--until", "tomorrow"},
	} {
		if r := f.run(append([]string{"exception", "create"}, args...)...); r.code != 4 {
			t.Errorf("create %v: %+v", args, r)
		}
	}

	f.golden("exception-list-none", f.run("exception", "list"))
	f.verifier.exceptions = []*verifierv1.Exception{want, {
		Name: "old", Target: "rule:not-root", ImageDigest: digestA, Owner: "shop", Reason: "migration", FromFile: true, ExpireTime: at(-1),
	}}
	f.golden("exception-list", f.run("exception", "list"))
	if r := f.run("exception", "list", "-o", "json"); r.code != 0 {
		t.Errorf("as JSON: %+v", r)
	}

	f.golden("exception-delete", f.run("exception", "delete", "old"))
	if d := cmp.Diff(&verifierv1.DeleteExceptionRequest{Name: "old"}, f.verifier.asked(), protocmp.Transform()); d != "" {
		t.Errorf("request (-want +got):\n%s", d)
	}
	if r := f.run("exception", "delete"); r.code != 4 {
		t.Errorf("delete nothing: %+v", r)
	}
	f.verifier.err = apierr.New(codes.FailedPrecondition, "EXCEPTION_FROM_FILE", "the exception comes from a file")
	f.golden("exception-delete-from-file", f.run("exception", "delete", "old"))
	f.verifier.err = apierr.New(codes.AlreadyExists, "EXCEPTION_EXISTS", "there is an exception of that name")
	f.golden("exception-exists", f.run("exception", "create", "a", "--target", "CVE-1", "--for", "1h"))
}
