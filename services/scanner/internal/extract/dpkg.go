package extract

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/google/osv-scalibr/purl"
)

// dpkgPlugin reads the databases of dpkg and opkg. The extractor of scalibr takes only
// packages whose state is `installed` for installed ones, and passes silently over what it
// cannot read in `status.d`.
func dpkgPlugin(limit int) *plugin {
	return &plugin{
		name:     "dpkg",
		database: true,
		required: func(path string, _ fs.FileInfo) bool { return isDpkgDatabase(path) },
		look: func(ctx context.Context, path string, content *content, out *file) error {
			kind := purl.TypeDebian
			if path == opkgStatus {
				kind = purl.TypeOpkg
			}
			r := &errorReader{r: &recordReader{r: content.reader(), limit: limit}}
			err := readDpkg(ctx, r, kind, limit, out)
			if r.err != nil {
				return r.err
			}
			if err == nil && strings.HasPrefix(path, dpkgStatusD) && len(out.packages) == 0 {
				err = errNoPackage
			}
			return err
		},
	}
}

// errNoPackage is of a file that a package database has for one package.
var errNoPackage = errors.New("names no package")

const (
	dpkgStatus = "var/lib/dpkg/status"
	opkgStatus = "usr/lib/opkg/status"
)

func isDpkgDatabase(path string) bool {
	return path == dpkgStatus || path == opkgStatus || strings.HasPrefix(path, dpkgStatusD) && !strings.HasSuffix(path, ".md5sums")
}

// dpkgFields are the fields that count, in lower case as dpkg does not tell the cases apart.
var dpkgFields = map[string]bool{"package": true, "status": true, "version": true, "architecture": true, "source": true, "maintainer": true}

// readDpkg adds the packages of a database. It reads on after a record that it cannot
// understand; the error is that of the first one.
func readDpkg(ctx context.Context, r io.Reader, kind string, limit int, out *file) error {
	br := bufio.NewReaderSize(r, 64<<10)
	var failed error
	fields := map[string]string{}
	for n := 1; ; n++ {
		line, err := readLine(br)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		text := bytes.TrimSpace(line)
		switch {
		case len(text) == 0 || errors.Is(err, io.EOF):
			if len(text) > 0 {
				failed = first(failed, dpkgField(fields, line, n))
			}
			f, ok, ferr := dpkgPackage(fields, kind)
			failed = first(failed, ferr)
			if ok {
				if len(out.packages) >= limit {
					return exceeded("a package database has more than %d packages", limit)
				}
				out.packages = append(out.packages, f)
			}
			clear(fields)
			if cerr := ctx.Err(); cerr != nil {
				return cerr
			}
		case line[0] == ' ' || line[0] == '\t':
			// What goes on here is of no field that counts.
		default:
			failed = first(failed, dpkgField(fields, line, n))
		}
		if errors.Is(err, io.EOF) {
			return failed
		}
	}
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// readLine reads a line; of one that is longer than the buffer the start.
func readLine(br *bufio.Reader) ([]byte, error) {
	line, err := br.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	line = bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = br.ReadSlice('\n')
	}
	return line, err
}

func dpkgField(fields map[string]string, line []byte, n int) error {
	name, value, ok := strings.Cut(string(line), ":")
	if !ok {
		return fmt.Errorf("line %d is no field", n)
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if !dpkgFields[name] {
		return nil
	}
	if _, twice := fields[name]; twice {
		return fmt.Errorf("line %d: a second field %s of a package", n, name)
	}
	fields[name] = strings.TrimSpace(value)
	return nil
}

// dpkgPackage makes a package of a record. ok is false for one that is not there: the
// files of a package are there in every state but these two, also while its configuration
// waits for a trigger. A record without a state is one of distroless images.
func dpkgPackage(fields map[string]string, kind string) (f found, ok bool, err error) {
	if len(fields) == 0 {
		return found{}, false, nil
	}
	if state := strings.Fields(fields["status"]); len(state) == 3 && (state[2] == "not-installed" || state[2] == "config-files") {
		return found{}, false, nil
	}
	f = found{purlType: kind, name: fields["package"], version: fields["version"], arch: fields["architecture"], maker: fields["maintainer"]}
	if f.name == "" || f.version == "" {
		return found{}, false, fmt.Errorf("a package without a name or version: %.100q", f.name+" "+f.version)
	}
	source, version, versioned := strings.Cut(fields["source"], "(")
	f.sourceName = strings.TrimSpace(source)
	if versioned {
		version, closed := strings.CutSuffix(version, ")")
		if !closed {
			return found{}, false, fmt.Errorf("the source of the package %.100q is malformed", f.name)
		}
		f.sourceVersion = strings.TrimSpace(version)
	}
	if err := f.tidy(); err != nil {
		return found{}, false, err
	}
	return f, true, nil
}
