package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
)

// bare does what no scanner of this image can avoid: it pulls every layer, checks
// the digest of what came, decompresses it, takes the digest of that too, and walks
// over the entries of the archive; as many layers at once as there are processors.
func bare(ctx context.Context, address string) error {
	var m struct{ Layers []struct{ Digest string } }
	body, err := get(ctx, address+"/v2/big/manifests/1")
	if err != nil {
		return err
	}
	err = json.NewDecoder(body).Decode(&m)
	if err = errors.Join(err, body.Close()); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, l := range m.Layers {
		g.Go(func() error { return bareLayer(ctx, address+"/v2/big/blobs/"+l.Digest, l.Digest) })
	}
	return g.Wait()
}

func bareLayer(ctx context.Context, url, digest string) error {
	body, err := get(ctx, url)
	if err != nil {
		return err
	}
	defer body.Close()
	compressed, plain := sha256.New(), sha256.New()
	zr, err := gzip.NewReader(io.TeeReader(body, compressed))
	if err != nil {
		return err
	}
	content := io.TeeReader(zr, plain)
	tr := tar.NewReader(content)
	for {
		if _, err = tr.Next(); err != nil {
			break
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(compressed.Sum(nil)); got != digest {
		return fmt.Errorf("%s is %s", digest, got)
	}
	return nil
}

func get(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("%s: %s", url, resp.Status), resp.Body.Close())
	}
	return resp.Body, nil
}
