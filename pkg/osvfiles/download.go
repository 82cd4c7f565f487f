package osvfiles

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// MaxDownload is the size of the largest file that is downloaded, in bytes. The whole
// of osv.dev is about 1 GiB.
const MaxDownload = 4 << 30

// ErrNotModified says that a file is still the one that the validators are of.
var ErrNotModified = errors.New("not modified")

// Validators tell the versions of a file on a web server apart.
type Validators struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
}

// Downloaded is a file that was downloaded.
type Downloaded struct {
	// Path has the extension that Records knows the content by.
	Path string
	// Digest is the SHA-256 of the content, in hex.
	Digest     string
	Validators Validators
}

// IsURL tells whether a feed or an argument is fetched from a web server.
func IsURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// Download fetches a file of records or scores into a directory, under the name
// without extension. With validators of an earlier download it returns ErrNotModified
// if the server says that nothing changed. It is limited by ctx and to maxBytes; the
// file is there as a whole or not at all.
func Download(ctx context.Context, client *http.Client, from, dir, name string, have Validators, maxBytes int64) (d Downloaded, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("download %s: %w", withoutQuery(from), err)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return d, err
	}
	req.Header.Set("User-Agent", "seaworthy")
	if have.ETag != "" {
		req.Header.Set("If-None-Match", have.ETag)
	}
	if have.LastModified != "" {
		req.Header.Set("If-Modified-Since", have.LastModified)
	}
	bounded := *client
	bounded.CheckRedirect = checkRedirect
	resp, err := bounded.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // it repeats the address, which may hold a secret
		}
		return d, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	switch {
	case resp.StatusCode == http.StatusNotModified && have != (Validators{}):
		return d, ErrNotModified
	case resp.StatusCode != http.StatusOK:
		return d, fmt.Errorf("the server answers %s", resp.Status)
	case resp.ContentLength > maxBytes:
		return d, fmt.Errorf("%d bytes exceeds the limit of %d", resp.ContentLength, maxBytes)
	}
	d, err = save(resp.Body, dir, name, maxBytes)
	d.Validators = Validators{ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified")}
	return d, err
}

// maxRedirects is how many are followed.
const maxRedirects = 5

// checkRedirect follows servers to their storage, but not from a secured place to an
// unsecured one: whoever is in between there could write advisories. Credentials that an
// address has in it are for its own host; net/http sends them nowhere else.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	if s := req.URL.Scheme; s != "https" && (s != "http" || via[len(via)-1].URL.Scheme == "https") {
		return fmt.Errorf("it redirects from %s to %.10q", via[len(via)-1].URL.Scheme, s)
	}
	return nil
}

// withoutQuery leaves out of an address what may be a secret.
func withoutQuery(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "a malformed address"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

func save(r io.Reader, dir, name string, maxBytes int64) (d Downloaded, err error) {
	f, err := os.CreateTemp(dir, ".download-*.tmp")
	if err != nil {
		return d, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, maxBytes+1))
	if err != nil {
		return d, err
	}
	if n > maxBytes {
		return d, fmt.Errorf("it has more than %d bytes", maxBytes)
	}
	head := make([]byte, 4)
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return d, err
	}
	if err := f.Close(); err != nil {
		return d, err
	}
	d.Digest = hex.EncodeToString(h.Sum(nil))
	d.Path = filepath.Join(dir, name+extension(head))
	return d, os.Rename(f.Name(), d.Path)
}

// extension is that of a content by its first bytes.
func extension(head []byte) string {
	switch {
	case head[0] == 'P' && head[1] == 'K':
		return ".zip"
	case head[0] == 0x1f && head[1] == 0x8b:
		return ".csv.gz"
	case strings.ContainsRune("{[ \r\n\t", rune(head[0])):
		return ".json"
	}
	return ".csv"
}
