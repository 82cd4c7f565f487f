package output_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/testkit/output"
)

func TestBuffer(t *testing.T) {
	var b output.Buffer
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 100 {
				fmt.Fprintln(&b, "a line")
				_ = b.String()
			}
		})
	}
	writers.Wait()
	if got := b.String(); got != strings.Repeat("a line\n", 800) {
		t.Errorf("%d bytes", len(got))
	}
}
