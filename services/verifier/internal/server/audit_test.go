package server_test

import (
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// Who gave an exception and who took it away is kept for the auditors, in the trace of
// the call; a request that changes nothing leaves no trace.
func TestExceptions_Audit(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldbtest.SQLite(t), "verifier")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(t.Context(), store.Migrations()); err != nil {
		t.Fatal(err)
	}
	kept, now := store.New(db), time.Unix(1000, 0)
	s := server.NewExceptions(kept, server.Auditor{
		Propagator: propagation.TraceContext{},
		Now:        func() time.Time { now = now.Add(time.Second); return now },
	})
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}))
	for range 2 {
		if _, err := s.CreateException(ctx, &verifierv1.CreateExceptionRequest{RequestId: "r", Exception: &verifierv1.Exception{
			Name: "a", Target: "CVE-1", Repositories: "**", Owner: "o", Reason: "r", ExpireTime: timestamppb.New(time.Unix(5000, 0)),
		}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.DeleteException(ctx, &verifierv1.DeleteExceptionRequest{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	audits, err := kept.Audits(ctx, 10)
	if err != nil || len(audits) != 2 {
		t.Fatalf("%d audits, %v", len(audits), err)
	}
	for i, want := range []store.Audit{
		{Action: verifierv1.ExceptionService_CreateException_FullMethodName, Resource: "exception a"},
		{Action: verifierv1.ExceptionService_DeleteException_FullMethodName, Resource: "exception a (deleted)"},
	} {
		got := audits[i]
		if got.Action != want.Action || got.Resource != want.Resource || got.ID == "" || got.Time.IsZero() || !strings.Contains(got.Headers, "-0100000000") {
			t.Errorf("audit %d = %+v", i, got)
		}
	}
}
