package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

// TestException creates an exception, lets it end and creates and deletes another:
// every change reaches the verdict without anybody asking, from recorded evidence.
func TestException(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	v := f.startWith(clock)
	image := f.registry.PushImage("team/app", "v1")
	f.pushed(t.Context(), "push", image)
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), time.Now())
	f.attested(t.Context(), "one", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Fatalf("without an exception: %v", e)
	}
	// From here on the verifier has what it recorded, and nothing else.
	f.registry.Down.Store(true)

	end := time.Now().Add(time.Hour).UTC()
	exception := &verifierv1.Exception{
		Name: "text-cve", Target: "CVE-2022-32149", Repositories: image.Registry + "/team/*", Owner: "team-a",
		Reason: "not reachable", ExpireTime: timestamppb.New(end),
		Justification: "vulnerable_code_not_in_execute_path", Ticket: "https://t.example/1",
	}
	if _, err := v.except.CreateException(t.Context(), &verifierv1.CreateExceptionRequest{Exception: exception}); err != nil {
		t.Fatal(err)
	}
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS || e.GetPreviousState() != eventv1.VerdictReachedEvent_STATE_FAIL ||
		!strings.Contains(e.GetReasons()[0], "RULE_EXCEPTED: would be FAIL: a critical vulnerability that has a fix: CVE-2022-32149") ||
		!strings.Contains(e.GetReasons()[0], "excepted by text-cve (team-a) until "+end.Format("2006-01-02")) {
		t.Errorf("with an exception: %v", e)
	}
	got := v.get(t, image)
	if len(got.GetExceptions()) != 1 || got.GetExceptions()[0].GetName() != "text-cve" || !got.GetExpireTime().AsTime().Equal(end) {
		t.Errorf("verdict: %v", got)
	}
	if u := got.GetExceptions()[0]; u.GetJustification() != exception.GetJustification() || u.GetTicket() != exception.GetTicket() ||
		len(u.GetPurls()) != 1 || !strings.HasPrefix(u.GetPurls()[0], "pkg:golang/golang.org/x/text@") {
		t.Errorf("use of the exception: %v", u)
	}
	r, err := v.verdicts.ExplainVerdict(t.Context(), &verifierv1.ExplainVerdictRequest{VerdictDigest: got.GetDigest()})
	if err != nil || !r.GetEqual() {
		t.Errorf("explanation: %v, %v", r, err)
	}

	ahead.Store(int64(61 * time.Minute))
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL || e.GetPreviousState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("after its end: %v", e)
	}

	exception.Name, exception.ExpireTime = "second", timestamppb.New(end.Add(24*time.Hour))
	if _, err := v.except.CreateException(t.Context(), &verifierv1.CreateExceptionRequest{Exception: exception}); err != nil {
		t.Fatal(err)
	}
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("with the second exception: %v", e)
	}
	v.stop()
	v = f.startWith(clock)
	if _, err := v.except.DeleteException(t.Context(), &verifierv1.DeleteExceptionRequest{Name: "second"}); err != nil {
		t.Fatal(err)
	}
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL {
		t.Errorf("after the second was deleted: %v", e)
	}
	history, err := v.verdicts.GetVerdictHistory(t.Context(), &verifierv1.GetVerdictHistoryRequest{Image: message(image)})
	if err != nil {
		t.Fatal(err)
	}
	var causes []string
	for _, c := range history.GetChanges() {
		causes = append(causes, c.GetCause().String()+": "+c.GetDetail())
	}
	want := "CAUSE_EXCEPTION: exception second was deleted\n" +
		"CAUSE_EXCEPTION: exception second for CVE-2022-32149 was created by team-a\n" +
		"CAUSE_EXPIRY: exception text-cve ended at " + end.Format(time.RFC3339) + "\n" +
		"CAUSE_EXCEPTION: exception text-cve for CVE-2022-32149 was created by team-a\n" +
		"CAUSE_FIRST: the first verdict of the image"
	if got := strings.Join(causes, "\n"); got != want {
		t.Errorf("history:\n%s\nwant:\n%s", got, want)
	}
	list, err := v.except.ListExceptions(t.Context(), &verifierv1.ListExceptionsRequest{PageSize: 1})
	if err != nil || len(list.GetExceptions()) != 1 || list.GetNextPageToken() != "" || list.GetExceptions()[0].GetName() != "text-cve" {
		t.Errorf("list: %v, %v", list, err)
	}
}

// TestExpiryOverRestart lets an exception end while no verifier runs: the replicas that
// start later flip the verdict, and only once.
func TestExpiryOverRestart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	v := f.startWith(clock)
	image := f.registry.PushImage("team/app", "v1")
	f.pushed(t.Context(), "push", image)
	f.registry.Attest(f.key, image, image.Digest, evidencetest.Report(image.Digest, evidencetest.Critical()), time.Now())
	if _, err := v.except.CreateException(t.Context(), &verifierv1.CreateExceptionRequest{Exception: &verifierv1.Exception{
		Name: "text-cve", Target: "CVE-2022-32149", Repositories: "**", Owner: "team-a", Reason: "r", ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}}); err != nil {
		t.Fatal(err)
	}
	f.attested(t.Context(), "one", image)
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Fatalf("with an exception: %v", e)
	}
	v.stop()
	f.registry.Down.Store(true)
	ahead.Store(int64(61 * time.Minute))
	replicas := []*verifier{f.startWith(clock), f.startWith(clock)}
	if e := f.next(); e.GetState() != eventv1.VerdictReachedEvent_STATE_FAIL || e.GetPreviousState() != eventv1.VerdictReachedEvent_STATE_PASS {
		t.Errorf("after the start: %v", e)
	}
	time.Sleep(2500 * time.Millisecond) // both look every second
	for _, v := range replicas {
		if got := v.get(t, image); got.GetState() != verifierv1.Verdict_STATE_FAIL {
			t.Errorf("verdict: %v", got)
		}
		history, err := v.verdicts.GetVerdictHistory(t.Context(), &verifierv1.GetVerdictHistoryRequest{Image: message(image)})
		if err != nil || len(history.GetChanges()) != 2 || history.GetChanges()[0].GetCause() != verifierv1.VerdictChange_CAUSE_EXPIRY {
			t.Errorf("history: %v, %v", history, err)
		}
	}
}

func TestExceptionRequests(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	file := filepath.Join(t.TempDir(), "e.yaml")
	if err := os.WriteFile(file, []byte(`apiVersion: seaworthy.dev/v1
kind: Exception
metadata: {name: from-file}
spec: {target: "rule:not-root", repositories: "**", owner: o, reason: r, expires: 2020-01-01T00:00:00Z}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	f.cfg.Exceptions.Files = []string{file}
	v := f.start()
	create := func(change func(*verifierv1.Exception)) error {
		e := &verifierv1.Exception{
			Name: "a", Target: "CVE-1", Repositories: "**", Owner: "o", Reason: "r", ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
		}
		change(e)
		_, err := v.except.CreateException(t.Context(), &verifierv1.CreateExceptionRequest{Exception: e, RequestId: "r-" + e.GetName()})
		return err
	}
	same := func(*verifierv1.Exception) {}
	for range 2 { // the same request twice creates one
		if err := create(same); err != nil {
			t.Fatal(err)
		}
	}
	one, err := v.except.GetException(t.Context(), &verifierv1.GetExceptionRequest{Name: "from-file"})
	if err != nil || !one.GetException().GetFromFile() || one.GetException().GetDigest() == "" {
		t.Errorf("one of a file: %v, %v", one, err)
	}
	for name, tc := range map[string]struct {
		err    error
		reason string
		field  string
	}{
		"no end":      {create(func(e *verifierv1.Exception) { e.ExpireTime = nil }), "INVALID_ARGUMENT", "exception.expire_time"},
		"end in past": {create(func(e *verifierv1.Exception) { e.ExpireTime = timestamppb.New(time.Now().Add(-time.Second)) }), "INVALID_ARGUMENT", "exception.expire_time"},
		"two faults":  {create(func(e *verifierv1.Exception) { e.Owner, e.Reason = "", "" }), "INVALID_ARGUMENT", "exception.owner,exception.reason"},
		"digest of another algorithm": {create(func(e *verifierv1.Exception) {
			e.Repositories, e.ImageDigest = "", "sha512:"+strings.Repeat("a", 128)
		}), "INVALID_ARGUMENT", "exception.image_digest"},
		"bad word":     {create(func(e *verifierv1.Exception) { e.Justification = "trust_me" }), "INVALID_ARGUMENT", "exception.justification"},
		"name is used": {create(func(e *verifierv1.Exception) { e.Name = "from-file" }), "EXCEPTION_EXISTS", ""},
		"get none": {func() error {
			_, err := v.except.GetException(t.Context(), &verifierv1.GetExceptionRequest{Name: "none"})
			return err
		}(), "EXCEPTION_NOT_FOUND", ""},
		"delete none": {func() error {
			_, err := v.except.DeleteException(t.Context(), &verifierv1.DeleteExceptionRequest{Name: "none"})
			return err
		}(), "EXCEPTION_NOT_FOUND", ""},
		"delete one of a file": {func() error {
			_, err := v.except.DeleteException(t.Context(), &verifierv1.DeleteExceptionRequest{Name: "from-file"})
			return err
		}(), "EXCEPTION_FROM_FILE", ""},
		"page token": {func() error {
			_, err := v.except.ListExceptions(t.Context(), &verifierv1.ListExceptionsRequest{PageToken: "x"})
			return err
		}(), "INVALID_PAGE_TOKEN", "page_token"},
	} {
		var fields []string
		for _, violation := range apierr.From(tc.err).Violations() {
			fields = append(fields, violation.Field)
		}
		if !apierr.HasReason(tc.err, tc.reason) || tc.field != "" && strings.Join(fields, ",") != tc.field {
			t.Errorf("%s: %v, fields %v", name, tc.err, fields)
		}
	}
}
