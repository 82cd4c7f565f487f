package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// console prints the steps with the time since the demo started.
type console struct {
	out   io.Writer
	start time.Time
}

// heading starts a block.
func (c *console) heading(format string, args ...any) {
	_, _ = fmt.Fprintf(c.out, "\n"+format+"\n", args...)
}

// step prints one step; more lines go under it.
func (c *console) step(name, format string, args ...any) {
	_, _ = fmt.Fprintf(c.out, "  %5.2fs  %-8s  %s\n", time.Since(c.start).Seconds(), name, fmt.Sprintf(format, args...))
}

// detail prints a line under the last step.
func (c *console) detail(format string, args ...any) {
	_, _ = fmt.Fprintf(c.out, "  %6s  %-8s  %s\n", "", "", fmt.Sprintf(format, args...))
}

// line prints a line as it is.
func (c *console) line(format string, args ...any) {
	_, _ = fmt.Fprintf(c.out, format+"\n", args...)
}

// short cuts a digest to what people compare.
func short(digest string) string {
	const shown = len("sha256:") + 12
	if len(digest) <= shown {
		return digest
	}
	return digest[:shown]
}

// predicateName is the last telling part of a predicate type.
func predicateName(uri string) string {
	return strings.TrimPrefix(uri, "https://")
}
