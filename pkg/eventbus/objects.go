package eventbus

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go/jetstream"
)

// Objects is a JetStream object store: files that the replicas of one service give
// each other, and that are too large for events.
type Objects struct {
	Name     string // of the bucket, UPPER_SNAKE_CASE
	Owner    string // the one service that reads and writes it
	MaxBytes int64  // size at which it is full
}

func (o Objects) stream() string { return "OBJ_" + o.Name }

func (o Objects) problems() []error {
	if !streamName.MatchString(o.Name) || o.Owner == "" || o.MaxBytes <= 0 {
		return []error{errors.New("needs a name, an owner and a size")}
	}
	return nil
}

// permissions are what the client library does with a bucket: chunks and the list of
// objects are published, and read through consumers without a name.
func (o Objects) permissions() []string {
	s := o.stream()
	return []string{
		"$O." + o.Name + ".C.>", "$O." + o.Name + ".M.>",
		"$JS.API.STREAM.CREATE." + s, "$JS.API.STREAM.UPDATE." + s, "$JS.API.STREAM.INFO." + s, "$JS.API.STREAM.PURGE." + s,
		"$JS.API.STREAM.MSG.GET." + s, "$JS.API.DIRECT.GET." + s, "$JS.API.DIRECT.GET." + s + ".>",
		"$JS.API.CONSUMER.CREATE." + s + ".>", "$JS.API.CONSUMER.DELETE." + s + ".>", "$JS.FC." + s + ".>",
	}
}

func (b *Bus) ensureObjects(ctx context.Context, o Objects) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	_, err := b.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
		Bucket: o.Name, Description: "objects of " + o.Owner, MaxBytes: o.MaxBytes,
		Storage: jetstream.FileStorage, Replicas: b.cfg.Replicas,
	})
	return err
}

// objects finds a bucket of the service. It makes one that is missing: the first use
// may come before Ensure got so far, or after NATS lost its storage.
func (b *Bus) objects(ctx context.Context, bucket string) (jetstream.ObjectStore, error) {
	for _, o := range b.opts.Topology.Objects {
		if o.Name != bucket || o.Owner != b.opts.Service {
			continue
		}
		if err := b.waitUp(ctx); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		s, err := b.js.ObjectStore(ctx, bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			if err = b.ensureObjects(ctx, o); err == nil {
				s, err = b.js.ObjectStore(ctx, bucket)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return s, nil
	}
	return nil, ErrNotAllowed
}

// PutObject stores an object in place of one with the same name; it is there as a
// whole or not at all. Errors are ErrNotAllowed, ErrUnavailable and those of r.
func (b *Bus) PutObject(ctx context.Context, bucket, name string, r io.Reader) error {
	s, err := b.objects(ctx, bucket)
	if err != nil {
		return fmt.Errorf("put object into %s: %w", bucket, err)
	}
	if _, err := s.Put(ctx, jetstream.ObjectMeta{Name: name}, r); err != nil {
		return fmt.Errorf("put object into %s: %w: %w", bucket, ErrUnavailable, err)
	}
	return nil
}

// GetObject returns an object, to be read until its end and closed; then its digest
// has been checked. ctx bounds the reading too. Errors are ErrNotFound, ErrNotAllowed
// and ErrUnavailable.
func (b *Bus) GetObject(ctx context.Context, bucket, name string) (io.ReadCloser, error) {
	s, err := b.objects(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("get object from %s: %w", bucket, err)
	}
	r, err := s.Get(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, fmt.Errorf("get object from %s: %w: %s", bucket, ErrNotFound, name)
	}
	if err != nil {
		return nil, fmt.Errorf("get object from %s: %w: %w", bucket, ErrUnavailable, err)
	}
	return r, nil
}

// HasObject tells whether there is an object with the name.
func (b *Bus) HasObject(ctx context.Context, bucket, name string) (bool, error) {
	s, err := b.objects(ctx, bucket)
	if err != nil {
		return false, fmt.Errorf("look into %s: %w", bucket, err)
	}
	_, err = s.GetInfo(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into %s: %w: %w", bucket, ErrUnavailable, err)
	}
	return true, nil
}

// RemoveObjects removes all objects but those to keep.
func (b *Bus) RemoveObjects(ctx context.Context, bucket string, keep func(name string) bool) error {
	s, err := b.objects(ctx, bucket)
	if err != nil {
		return fmt.Errorf("tidy %s: %w", bucket, err)
	}
	list, err := s.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("tidy %s: %w: %w", bucket, ErrUnavailable, err)
	}
	for _, o := range list {
		if keep(o.Name) {
			continue
		}
		if err := s.Delete(ctx, o.Name); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
			return fmt.Errorf("tidy %s: %w: %w", bucket, ErrUnavailable, err)
		}
	}
	return nil
}
