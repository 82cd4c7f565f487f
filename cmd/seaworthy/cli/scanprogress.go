package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	scanner "github.com/seaworthy-dev/seaworthy/services/scanner/app"
)

// progressInterval is how often the line is drawn.
const progressInterval = 100 * time.Millisecond

// showProgress draws a line on a terminal until the function it returns is called,
// which wipes it. Anything but a terminal stays quiet.
func showProgress(logs io.Writer, p *scanner.ScanProgress, quiet bool) (stop func()) {
	f, ok := logs.(*os.File)
	if !ok || quiet {
		return func() {}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func() {}
	}
	return drawProgress(f, p)
}

func drawProgress(w io.Writer, p *scanner.ScanProgress) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(progressInterval)
		defer t.Stop()
		for {
			select {
			case <-done:
				// Back to the start of the line, and nothing in it.
				_, _ = io.WriteString(w, "\r\x1b[K")
				return
			case <-t.C:
				_, _ = io.WriteString(w, "\r\x1b[K"+progressLine(p))
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

func progressLine(p *scanner.ScanProgress) string {
	layersDone, layers, read, total := p.Counts()
	if layers == 0 {
		return "reading the advisories and the manifest"
	}
	const mega = 1e6
	return fmt.Sprintf("layers %d/%d, %.1f of %.1f MB", min(layersDone, layers), layers, float64(min(read, total))/mega, float64(total)/mega)
}
