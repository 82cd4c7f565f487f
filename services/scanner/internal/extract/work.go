package extract

import (
	"context"
	"fmt"
	"io"
	"time"
)

// maxWork is how long the processor may be busy with one file. The largest files of real
// images take seconds.
const maxWork = time.Minute

// maxImageWork is how long the processor may be busy with all files of an image. Real images of
// some gigabytes take seconds. One over it would be over it at every try.
const maxImageWork = 5 * time.Minute

// spendWork counts what an extractor took.
func (b *budget) spendWork(d time.Duration) error {
	if b.work.Add(int64(d)) > int64(maxImageWork) {
		return exceeded("reading the files of the image takes more than %s of the processor", maxImageWork)
	}
	return nil
}

// workEvery is how many reads are not measured.
const workEvery = 16

// work measures what one extractor does with one file, by the time of the processor: that
// of a busy host is not held against the file, so what is over is over the next time too,
// and trying again would not help.
type work struct {
	limit time.Duration
	begin time.Duration
	calls int
	err   error
}

// beginWork is called on the thread that does the work, which is locked meanwhile.
func beginWork(limit time.Duration) *work { return &work{limit: limit, begin: threadTime()} }

// check is called whenever the extractor asks for something.
func (w *work) check() error {
	if w.calls++; w.err != nil || w.calls%workEvery != 0 {
		return w.err
	}
	if threadTime()-w.begin > w.limit {
		w.err = fmt.Errorf("%w: reading it takes more than %s of the processor", errOver, w.limit)
	}
	return w.err
}

// workReader stops an extractor that reads on and on.
type workReader struct {
	at io.ReaderAt
	*work
}

// ReadAt implements io.ReaderAt.
func (r workReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	return r.at.ReadAt(p, off)
}

// workContext stops an extractor that looks whether it should.
type workContext struct {
	context.Context //nolint:containedctx // it is one
	*work
}

// Err implements context.Context.
func (c workContext) Err() error {
	if err := c.check(); err != nil {
		return err
	}
	return c.Context.Err()
}
