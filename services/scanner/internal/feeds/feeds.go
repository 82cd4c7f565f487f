// Package feeds fetches advisories: archives of OSV records, CISA's catalogue of known
// exploited vulnerabilities and the scores of EPSS, from web servers and from disk.
package feeds

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/osvfiles"
)

// Feed is a place that advisories come from.
type Feed struct {
	// Name is for people and for metrics.
	Name string `yaml:"name"`
	// URL is an http or https address, or a path: of an archive of OSV records such as
	// osv.dev's all.zip, a directory of them, CISA's catalogue (JSON), or the scores of
	// EPSS (CSV, may be compressed with gzip).
	URL string `yaml:"url"`
}

// content is what a feed had when it was asked.
type content struct {
	path   string
	digest string
	// err says why it could not be asked, when path is what it had before.
	err error
}

// cached is what is remembered of a download, beside it. The name of the file says of
// which URL; the URL itself may hold a token.
type cached struct {
	File       string              `json:"file"`
	Digest     string              `json:"digest"`
	Validators osvfiles.Validators `json:"validators"`
}

// fetcher asks feeds. Downloads are kept in a directory, which is only a cache.
type fetcher struct {
	client  *http.Client
	dir     string
	timeout time.Duration
}

func (f *fetcher) fetch(ctx context.Context, feed Feed) (content, error) {
	if !osvfiles.IsURL(feed.URL) {
		return local(feed.URL)
	}
	sum := sha256.Sum256([]byte(feed.URL))
	name := hex.EncodeToString(sum[:16])
	have, ok := f.remembered(name)
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	d, err := osvfiles.Download(ctx, f.client, feed.URL, f.dir, name, have.Validators, osvfiles.MaxDownload)
	switch {
	case errors.Is(err, osvfiles.ErrNotModified):
		return content{path: filepath.Join(f.dir, have.File), digest: have.Digest}, nil
	case err != nil && ok:
		return content{path: filepath.Join(f.dir, have.File), digest: have.Digest, err: err}, nil
	case err != nil:
		return content{}, err
	}
	c := content{path: d.Path, digest: d.Digest}
	note, err := json.Marshal(cached{File: filepath.Base(d.Path), Digest: d.Digest, Validators: d.Validators})
	if err != nil {
		return c, fmt.Errorf("remember download: %w", err)
	}
	if err := os.WriteFile(filepath.Join(f.dir, name+".note"), note, 0o600); err != nil {
		return c, fmt.Errorf("remember download: %w", err)
	}
	return c, nil
}

// remembered is what the last download of a feed was, if it is still there.
func (f *fetcher) remembered(name string) (c cached, ok bool) {
	note, err := os.ReadFile(filepath.Join(f.dir, name+".note"))
	if err != nil || json.Unmarshal(note, &c) != nil || c.File != filepath.Base(c.File) {
		return cached{}, false
	}
	if info, err := os.Stat(filepath.Join(f.dir, c.File)); err != nil || !info.Mode().IsRegular() {
		return cached{}, false
	}
	return c, true
}

// local looks at a file or a directory on disk. Names, sizes and times tell whether it
// changed.
func local(path string) (content, error) {
	h := sha256.New()
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(h, "%q %d %d\n", p, info.Size(), info.ModTime().UnixNano())
		return err
	})
	if err != nil {
		return content{}, err
	}
	return content{path: path, digest: hex.EncodeToString(h.Sum(nil))}, nil
}
