package extract

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// TestImageWork: what all files of an image take is bounded, too, and a second walk of a layer
// counts.
func TestImageWork(t *testing.T) {
	b := newBudget(DefaultLimits())
	again := *newBudget(DefaultLimits())
	again.work = b.work
	if err := b.spendWork(maxImageWork - time.Second); err != nil {
		t.Fatal(err)
	}
	err := again.spendWork(2 * time.Second)
	if f := core.AsFault(err); f == nil || f.Reason != core.ReasonLimitExceeded || f.Temporary {
		t.Errorf("error %v", err)
	}
	// The files of an image run into it.
	ps, err := newPlugins(DefaultLimits(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ps.run(t.Context(), b, &file{}, job{path: "etc/passwd", plugins: []*plugin{ps.byName["passwd"]}}, "etc/passwd", nil, inMemory([]byte("x"))); core.AsFault(err) == nil {
		t.Errorf("a file of an image over the limit: %v", err)
	}
}

// TestWork: an extractor that does not come to an end is stopped, whatever it asks for,
// and the file is named.
func TestWork(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the time of a thread is known on Linux only")
	}
	for name, look := range map[string]func(context.Context, *content) error{
		"reads": func(_ context.Context, c *content) error {
			for {
				if _, err := io.Copy(io.Discard, c.reader()); err != nil {
					return err
				}
			}
		},
		"asks": func(ctx context.Context, _ *content) error {
			for {
				if err := ctx.Err(); err != nil {
					return err
				}
			}
		},
	} {
		p := &plugin{name: name, lenient: true, look: func(ctx context.Context, _ string, c *content, _ *file) error { return look(ctx, c) }}
		out := &file{}
		c := inMemory(make([]byte, 100))
		if _, err := p.measured(t.Context(), 10*time.Millisecond, "etc/x", nil, c, out); !errors.Is(err, errOver) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: error %v", name, err)
		}
		if c.work != nil {
			t.Errorf("%s: the next extractor has no time left", name)
		}
	}
	// Waiting is not work.
	p := &plugin{name: "waits", look: func(ctx context.Context, _ string, c *content, _ *file) error {
		time.Sleep(30 * time.Millisecond)
		for range 10 * workEvery {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	}}
	if _, err := p.measured(t.Context(), 20*time.Millisecond, "etc/x", nil, inMemory(nil), &file{}); err != nil {
		t.Errorf("waiting: %v", err)
	}
}
