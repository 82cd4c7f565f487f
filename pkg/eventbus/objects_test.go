package eventbus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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

// TestObjects_Lost: a lost store is made again by the provisioner, empty.
func TestObjects_Lost(t *testing.T) {
	e := newEnv(t)
	worker, ctx := e.bus("worker"), e.ctx()
	if _, err := worker.HasObject(ctx, "THINGS", "a"); !errors.Is(err, eventbus.ErrUnavailable) {
		t.Fatalf("before the store was made: %v", err)
	}
	e.provision()
	put := func() error { return worker.PutObject(ctx, "THINGS", "a", bytes.NewReader([]byte("x"))) }
	if err := put(); err != nil {
		t.Fatal(err)
	}
	if err := e.root().DeleteStream(ctx, "THINGS"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store is there again", func() bool { return put() == nil })
	if has, err := worker.HasObject(ctx, "THINGS", "a"); err != nil || !has {
		t.Errorf("put: %v, %v", has, err)
	}
}

// TestObjects_LeavesNothing: replaced, removed and abandoned versions take no room.
func TestObjects_LeavesNothing(t *testing.T) {
	e := newEnv(t)
	_, worker, _ := e.buses()
	ctx, root := e.ctx(), e.root()
	large := bytes.Repeat([]byte("0123456789"), 100_000)
	for range 3 {
		if err := worker.PutObject(ctx, "THINGS", "a", bytes.NewReader(large)); err != nil {
			t.Fatal(err)
		}
	}
	if n := e.stored(root, "THINGS"); n != 5 { // four chunks and the head
		t.Errorf("%d messages after the object was replaced twice, want 5", n)
	}
	failing := io.MultiReader(bytes.NewReader(large), errReader{})
	if err := worker.PutObject(ctx, "THINGS", "b", failing); !errors.Is(err, errRead) {
		t.Fatal(err)
	}
	if n := e.stored(root, "THINGS"); n != 5 {
		t.Errorf("%d messages after a failed write, want 5", n)
	}
	sum := strings.Repeat("0", 64)
	for _, version := range []string{"1-dead", fmt.Sprintf("%d-alive", time.Now().Unix())} {
		if _, err := root.Publish(ctx, "test.obj.worker."+sum+"."+version, []byte("part")); err != nil {
			t.Fatal(err)
		}
	}
	if err := worker.RemoveObjects(ctx, "THINGS", func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if n := e.stored(root, "THINGS"); n != 6 {
		t.Errorf("%d messages, want 6: the object and what is being written now", n)
	}
	if err := worker.RemoveObjects(ctx, "THINGS", func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if n := e.stored(root, "THINGS"); n != 1 {
		t.Errorf("%d messages, want 1: what is being written now", n)
	}
}

// TestObjects_Damaged: content that is not what the head says is not given out as whole.
func TestObjects_Damaged(t *testing.T) {
	e := newEnv(t)
	_, worker, _ := e.buses()
	ctx, root := e.ctx(), e.root()
	if err := worker.PutObject(ctx, "THINGS", "a", strings.NewReader("content")); err != nil {
		t.Fatal(err)
	}
	s, err := root.Stream(ctx, "THINGS")
	if err != nil {
		t.Fatal(err)
	}
	chunk, err := s.GetMsg(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(ctx, 1); err != nil {
		t.Fatal(err)
	}
	read := func() error {
		r, err := worker.GetObject(ctx, "THINGS", "a")
		if err != nil {
			return err
		}
		_, err = io.ReadAll(r)
		return err
	}
	if err := read(); !errors.Is(err, eventbus.ErrUnavailable) {
		t.Errorf("a chunk is missing: %v", err)
	}
	if _, err := root.Publish(ctx, chunk.Subject, []byte("another")); err != nil {
		t.Fatal(err)
	}
	if err := read(); !errors.Is(err, eventbus.ErrUnavailable) {
		t.Errorf("a chunk is another: %v", err)
	}
}
