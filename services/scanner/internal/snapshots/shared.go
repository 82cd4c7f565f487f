package snapshots

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
)

// Shared is where replicas give each other the files of snapshots.
type Shared interface {
	Put(ctx context.Context, digest string, content []byte) error
	// Get returns eventbus.ErrNotFound for a snapshot that is not there. Its content is
	// not checked.
	Get(ctx context.Context, digest string) ([]byte, error)
	Has(ctx context.Context, digest string) (bool, error)
	// Retain removes all others.
	Retain(ctx context.Context, digests ...string) error
}

// Objects shares snapshots through a JetStream object store, compressed.
type Objects struct{ bus *eventbus.Bus }

// NewObjects returns the store that the bus has for them.
func NewObjects(bus *eventbus.Bus) *Objects { return &Objects{bus: bus} }

func objectName(digest string) string { return strings.TrimPrefix(digest, "sha256:") + ".zst" }

// Put implements Shared.
func (o *Objects) Put(ctx context.Context, digest string, content []byte) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("share snapshot: %w", err)
	}
	packed := enc.EncodeAll(content, nil)
	return o.bus.PutObject(ctx, events.ObjectsAdvisories, objectName(digest), bytes.NewReader(packed))
}

// Get implements Shared.
func (o *Objects) Get(ctx context.Context, digest string) ([]byte, error) {
	r, err := o.bus.GetObject(ctx, events.ObjectsAdvisories, objectName(digest))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("get snapshot: %w", errors.Join(err, r.Close()))
	}
	defer dec.Close()
	content, err := io.ReadAll(io.LimitReader(dec, advisory.MaxFile+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("get snapshot: %w", err)
	}
	return content, nil
}

// Has implements Shared.
func (o *Objects) Has(ctx context.Context, digest string) (bool, error) {
	return o.bus.HasObject(ctx, events.ObjectsAdvisories, objectName(digest))
}

// Retain implements Shared.
func (o *Objects) Retain(ctx context.Context, digests ...string) error {
	return o.bus.RemoveObjects(ctx, events.ObjectsAdvisories, func(name string) bool {
		return slices.ContainsFunc(digests, func(d string) bool { return objectName(d) == name })
	})
}
