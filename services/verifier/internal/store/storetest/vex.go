package storetest

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

func testVex(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	by, cause := auditor(), store.Cause{Kind: core.CauseVex, Detail: "test"}
	limits := store.VexLimits{Documents: 2, Bytes: 100}
	revision := func() int64 {
		t.Helper()
		n, err := s.RulesRevision(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a := store.Vex{Digest: "sha256:a", Document: []byte("doc"), Bundle: []byte("bundle"), ImportTime: start}
	for range 2 { // the second time changes nothing
		if got, err := s.ImportVex(ctx, a, limits, cause, by()); err != nil || cmp.Diff(a, got) != "" {
			t.Fatalf("import: %+v, %v", got, err)
		}
	}
	if revision() != 1 {
		t.Errorf("revision %d after one import", revision())
	}
	b := store.Vex{Digest: "sha256:b", Document: []byte{}, Bundle: []byte("bundle"), ImportTime: start}
	if _, err := s.ImportVex(ctx, b, limits, cause, by()); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]store.VexLimits{"documents": limits, "bytes": {Documents: 10, Bytes: 20}} {
		if _, err := s.ImportVex(ctx, store.Vex{Digest: "sha256:c", Bundle: []byte("x23456")}, v, cause, by()); !errors.Is(err, store.ErrTooMany) {
			t.Errorf("too many %s: %v", name, err)
		}
	}
	list, err := s.VexDocuments(ctx, "sha256:a", 10)
	if d := cmp.Diff([]store.Vex{b}, list, cmpopts.EquateEmpty()); err != nil || d != "" {
		t.Errorf("after the first: %v\n%s", err, d)
	}
	file := store.Vex{Digest: "sha256:f", FromFile: true, Document: []byte{}, Bundle: []byte("x"), ImportTime: start}
	for range 2 {
		if err := s.SyncVex(ctx, []store.Vex{file, a}, []byte("authors"), cause, by()); err != nil {
			t.Fatal(err)
		}
	}
	if revision() != 3 {
		t.Errorf("revision %d after the files were taken over twice", revision())
	}
	if err := s.SyncVex(ctx, []store.Vex{file}, []byte("others"), cause, by()); err != nil || revision() != 4 {
		t.Errorf("other authors: revision %d, %v", revision(), err)
	}
	for digest, want := range map[string]error{"sha256:none": store.ErrNotFound, "sha256:f": store.ErrFromFile, "sha256:a": nil} {
		if err := s.DeleteVex(ctx, digest, cause, by()); !errors.Is(err, want) {
			t.Errorf("delete %s: %v", digest, err)
		}
	}
	if err := s.SyncVex(ctx, nil, []byte("others"), cause, by()); err != nil {
		t.Fatal(err)
	}
	if list, err = s.VexDocuments(ctx, "", 10); err != nil || len(list) != 1 || list[0].Digest != "sha256:b" {
		t.Errorf("what is left: %+v, %v", list, err)
	}
	told := resources(t, s)
	for _, want := range []string{"VEX document sha256:a", "VEX document sha256:f", "authors of VEX documents", "VEX document sha256:a (deleted)", "VEX document sha256:f (deleted)"} {
		if !slices.Contains(told, want) {
			t.Errorf("no audit of %s: %q", want, told)
		}
	}
	if len(told) != 7 { // and b, and the authors once more
		t.Errorf("audits = %q", told)
	}
}
