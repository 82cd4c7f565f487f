package cli

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// dropStartup gives the pages of this program back that its start brought in: the
// packages of the whole fleet are initialised in every process, and a scan needs few
// of them again. The kernel maps such a page again, from its cache, when it is needed.
// It is an economy and no more, so a failure of it is none of the scan.
func dropStartup() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	for _, m := range untouched(f, self) {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.start, m.size, syscall.MADV_DONTNEED)
	}
}

// mapping is a part of the address space.
type mapping struct{ start, size uintptr }

// untouched returns the mappings of a file, out of the text of /proc/self/smaps, that
// nobody can write to and that have no page that differs from the file: such a page,
// of relocated addresses for example, would be lost.
func untouched(smaps io.Reader, file string) []mapping {
	var out []mapping
	var m mapping
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), " ")
		switch {
		case !strings.HasSuffix(key, ":"):
			m = parseMapping(key, value, file)
		case key == "Anonymous:" && strings.TrimSpace(value) == "0 kB" && m.size > 0:
			out = append(out, m)
		}
	}
	return out
}

// parseMapping understands the first line of a mapping: addresses, permissions, offset,
// device, inode, path. It returns none unless it is one of the file without writing.
func parseMapping(addresses, rest, file string) mapping {
	fields := strings.Fields(rest)
	if len(fields) != 5 || fields[4] != file || strings.Contains(fields[0], "w") {
		return mapping{}
	}
	from, to, _ := strings.Cut(addresses, "-")
	start, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return mapping{}
	}
	end, err := strconv.ParseUint(to, 16, 64)
	if err != nil || end <= start {
		return mapping{}
	}
	return mapping{uintptr(start), uintptr(end - start)}
}
