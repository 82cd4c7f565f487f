package eventbus_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

func TestObjects(t *testing.T) {
	_, worker, observer := newEnv(t).buses()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	large := bytes.Repeat([]byte("0123456789"), 100_000) // several chunks
	read := func(name string) ([]byte, error) {
		r, err := worker.GetObject(ctx, "THINGS", name)
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(r)
		return content, errors.Join(err, r.Close())
	}
	if _, err := read("a"); !errors.Is(err, eventbus.ErrNotFound) {
		t.Errorf("nothing there: %v", err)
	}
	if err := worker.RemoveObjects(ctx, "THINGS", func(string) bool { return false }); err != nil {
		t.Errorf("remove of nothing: %v", err)
	}
	for name, content := range map[string][]byte{"a": large, "b": []byte("small"), "c": nil} {
		if err := worker.PutObject(ctx, "THINGS", name, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := read(name); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if err := worker.PutObject(ctx, "THINGS", "b", bytes.NewReader([]byte("again"))); err != nil {
		t.Fatal(err)
	}
	if got, err := read("b"); err != nil || string(got) != "again" {
		t.Errorf("replaced: %q, %v", got, err)
	}
	if err := worker.RemoveObjects(ctx, "THINGS", func(name string) bool { return name == "b" }); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a": false, "b": true} {
		if has, err := worker.HasObject(ctx, "THINGS", name); err != nil || has != want {
			t.Errorf("%s is there: %v, %v", name, has, err)
		}
	}
	if err := observer.PutObject(ctx, "THINGS", "x", bytes.NewReader(nil)); !errors.Is(err, eventbus.ErrNotAllowed) {
		t.Errorf("objects of another service: %v", err)
	}
	if _, err := worker.HasObject(ctx, "NONE", "x"); !errors.Is(err, eventbus.ErrNotAllowed) {
		t.Errorf("an unknown bucket: %v", err)
	}
	failing := io.MultiReader(bytes.NewReader(large), errReader{})
	if err := worker.PutObject(ctx, "THINGS", "d", failing); !errors.Is(err, errRead) {
		t.Errorf("a reader that fails: %v", err)
	}
	if has, err := worker.HasObject(ctx, "THINGS", "d"); err != nil || has {
		t.Errorf("half an object is there: %v, %v", has, err)
	}
	short, stop := context.WithTimeout(ctx, time.Nanosecond)
	defer stop()
	if _, err := worker.GetObject(short, "THINGS", "b"); !errors.Is(err, eventbus.ErrUnavailable) {
		t.Errorf("no time: %v", err)
	}
}

var errRead = errors.New("cannot be read")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errRead }

// TestObjects_BeforeEnsure uses a bucket that nobody made yet, and one that was lost.
func TestObjects_BeforeEnsure(t *testing.T) {
	e := newEnv(t)
	worker, ctx := e.bus("worker"), e.ctx()
	if has, err := worker.HasObject(ctx, "THINGS", "a"); err != nil || has {
		t.Fatalf("before Ensure: %v, %v", has, err)
	}
	if err := e.root().DeleteObjectStore(ctx, "THINGS"); err != nil {
		t.Fatal(err)
	}
	if err := worker.PutObject(ctx, "THINGS", "a", bytes.NewReader([]byte("x"))); err != nil {
		t.Fatalf("after it was lost: %v", err)
	}
	if has, err := worker.HasObject(ctx, "THINGS", "a"); err != nil || !has {
		t.Errorf("put: %v, %v", has, err)
	}
}
