package registry

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// withETags gives the registry in process what few registries have: a version of
// each tag, and writes on condition of it. It counts what it refused.
type withETags struct {
	mu       sync.Mutex
	refused  int
	meetings int
	// strange refuses every condition.
	strange bool
	// between runs once, between a reader's read and its write.
	between func()
}

func (e *withETags) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if !strings.Contains(r.URL.Path, "/manifests/sha256-") {
		next.ServeHTTP(w, r)
		return
	}
	e.mu.Lock()
	between := e.between
	if r.Method == http.MethodPut {
		e.between = nil
	}
	e.mu.Unlock()
	if r.Method == http.MethodPut && between != nil {
		between()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	before := httptest.NewRecorder()
	next.ServeHTTP(before, httptest.NewRequestWithContext(r.Context(), http.MethodHead, r.URL.Path, http.NoBody))
	version := fmt.Sprintf("%q", before.Header().Get("Docker-Content-Digest"))
	if want := r.Header.Get("If-Match"); r.Method == http.MethodPut && want != "" {
		e.meetings++
		if want != version || e.strange {
			e.refused++
			registryError(w, http.StatusPreconditionFailed, "DENIED", "another version is there")
			return
		}
	}
	if r.Method == http.MethodGet {
		w.Header().Set("ETag", version)
	}
	next.ServeHTTP(w, r)
}

// TestPutReferrer_Conditional: where the registry can, it refuses a write that
// would lose another's; the writer reads again and loses nothing, without a lock
// and without the second look.
func TestPutReferrer_Conditional(t *testing.T) {
	f := newFixture(t, false)
	ours, theirs := f.client(t), f.client(t)
	subject := f.push(t, ours, "v1")
	if _, err := ours.PutReferrer(t.Context(), f.repo(), subject, artifact(0)); err != nil {
		t.Fatal(err)
	}
	e := &withETags{}
	e.between = func() {
		if _, err := theirs.PutReferrer(context.WithoutCancel(t.Context()), f.repo(), subject, artifact(1)); err != nil {
			t.Error(err)
		}
	}
	f.intercept(e.serve)
	if _, err := ours.PutReferrer(t.Context(), f.repo(), subject, artifact(2)); err != nil {
		t.Fatal(err)
	}
	list, err := listAll(t, ours, f.repo().WithDigest(subject.Digest))
	if err != nil || len(list) != 3 {
		t.Errorf("%d referrers, %v, want 3", len(list), err)
	}
	if e.refused != 1 || e.meetings < 2 {
		t.Errorf("%d of %d conditional writes refused, want 1", e.refused, e.meetings)
	}
	if err := ours.DeleteReferrer(t.Context(), f.repo().WithDigest(subject.Digest), list[0].Digest); err != nil {
		t.Fatal(err)
	}
	if list, err := listAll(t, ours, f.repo().WithDigest(subject.Digest)); err != nil || len(list) != 2 {
		t.Errorf("after a delete %d referrers, %v, want 2", len(list), err)
	}
}

// TestPutReferrer_StrangeConditions: a registry that refuses although nobody wrote
// is written to without a condition.
func TestPutReferrer_StrangeConditions(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	e := &withETags{strange: true}
	f.intercept(e.serve)
	var last Descriptor
	for n := range 3 {
		var err error
		if last, err = c.PutReferrer(t.Context(), f.repo(), subject, artifact(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.DeleteReferrer(t.Context(), f.repo().WithDigest(subject.Digest), last.Digest); err != nil {
		t.Fatal(err)
	}
	list, err := listAll(t, c, f.repo().WithDigest(subject.Digest))
	if err != nil || len(list) != 2 || e.refused == 0 {
		t.Errorf("%d referrers, %v, want 2; %d writes refused", len(list), err, e.refused)
	}
}
