package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// serve is a registry on loopback with the one image of a layout, called big:1. It
// only reads files, so that what it costs is small and the same for all.
func serve(dir string) (host string, stop func(), err error) {
	content, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return "", nil, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(content, &index); err != nil {
		return "", nil, err
	}
	if len(index.Manifests) != 1 {
		return "", nil, errors.New("want a layout with one image")
	}
	root := index.Manifests[0]
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/{$}", func(http.ResponseWriter, *http.Request) {})
	file := func(w http.ResponseWriter, r *http.Request, digest, mediaType string) {
		algorithm, hex, ok := strings.Cut(digest, ":")
		if !ok || strings.ContainsAny(hex, "/.") || algorithm != "sha256" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Docker-Content-Digest", digest)
		http.ServeFile(w, r, filepath.Join(dir, "blobs", algorithm, hex))
	}
	mux.HandleFunc("/v2/big/manifests/{ref}", func(w http.ResponseWriter, r *http.Request) {
		file(w, r, root.Digest.String(), string(root.MediaType))
	})
	mux.HandleFunc("/v2/big/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) {
		file(w, r, r.PathValue("digest"), "application/octet-stream")
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(l) }()
	return l.Addr().String(), func() { _ = s.Close() }, nil
}
