package cli

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestUntouched(t *testing.T) {
	const smaps = `00400000-02000000 r-xp 00000000 fe:01 42                         /opt/seaworthy
Size:              28672 kB
Rss:               18352 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
02000000-03000000 r--p 01c00000 fe:01 42                         /opt/seaworthy
Rss:                 400 kB
Anonymous:            16 kB
03000000-03100000 rw-p 02c00000 fe:01 42                         /opt/seaworthy
Anonymous:             0 kB
03100000-03200000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00000000 fe:01 43                 /usr/lib/libc.so.6
Anonymous:             0 kB
7f0000200000-7f0000100000 r-xp 00000000 fe:01 42                 /opt/seaworthy
Anonymous:             0 kB
zz-7f0000100000 r-xp 00000000 fe:01 42                           /opt/seaworthy
Anonymous:             0 kB
7f0000300000-7f0000304000 r--p 03000000 fe:01 42                 /opt/seaworthy
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x1c00000}, {0x7f0000300000, 0x4000}}
	if got := untouched(strings.NewReader(smaps), "/opt/seaworthy"); !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// The process goes on with the same code and the same constants, and has fewer pages.
func TestDropStartup(t *testing.T) {
	before := fileRSS(t)
	dropStartup()
	after := fileRSS(t)
	t.Logf("%d kB of files before, %d kB after", before, after)
	if after >= before {
		t.Errorf("%d kB of files are mapped, %d kB before", after, before)
	}
}

// fileRSS is what this process has of files in memory, in kB.
func fileRSS(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssFile:")
	value, _, _ := strings.Cut(rest, "kB")
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
