package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/seaworthy-dev/seaworthy/pkg/spool"
)

func TestSpool(t *testing.T) {
	for _, size := range []int{0, 1, 99, 100, 101, 5000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TMPDIR", dir)
			want := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
			s := spool.New(100)
			defer s.Close()
			if _, err := io.Copy(s, iotest.HalfReader(bytes.NewReader(want))); err != nil {
				t.Fatal(err)
			}
			if s.Size() != int64(size) || s.InMemory() != (size <= 100) {
				t.Errorf("size %d, in memory: %v", s.Size(), s.InMemory())
			}
			for range 2 {
				if err := iotest.TestReader(io.NewSectionReader(s, 0, s.Size()), want); err != nil {
					t.Error(err)
				}
			}
			got, release, err := s.Map()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("Map() = %d bytes, %v", len(got), err)
			}
			release()
			if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 0 {
				t.Errorf("files with names: %v, %v", left, err)
			}
		})
	}
}

func TestSpool_Closed(t *testing.T) {
	s := spool.New(2)
	if _, err := s.Write([]byte("more than two")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, written := s.Write([]byte("x"))
	_, read := s.ReadAt(make([]byte, 1), 0)
	_, _, mapped := s.Map()
	for _, err := range []error{written, read, mapped} {
		if !errors.Is(err, spool.ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	}
}

func TestSpool_NoDirectory(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	s := spool.New(2)
	if _, err := s.Write([]byte("12")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("3")); !errors.Is(err, spool.ErrDisk) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Write() = %v", err)
	}
	if _, err := s.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read before the begin")
	}
}

func Example() {
	s := spool.New(1 << 20)
	defer s.Close()
	fmt.Fprint(s, "a document")
	part, _ := io.ReadAll(io.NewSectionReader(s, 2, s.Size()-2))
	fmt.Println(string(part))
	// Output: document
}
