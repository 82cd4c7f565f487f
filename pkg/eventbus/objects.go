package eventbus

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Objects keeps files that the replicas of one service give each other, and that are
// too large for events. It is a stream. An object has a head, the only message of
// `<prefix>.<hash of the name>`, which names the version; a version's content is the
// messages of `<prefix>.<hash>.<version>`. The client library's object store would do
// the same, but its readers must be able to create consumers, and its writers to
// purge.
type Objects struct {
	Name     string // of the stream, UPPER_SNAKE_CASE
	Owner    string // the one service that reads and writes it
	Prefix   string // of the subjects
	MaxBytes int64  // size at which it is full
}

const (
	objectChunk      = 256 << 10
	objectHeadSize   = 4 << 10
	objectMaxMsgSize = objectChunk + 4<<10
	// objectAbandoned is how long a version may be without a head before it counts
	// as the rest of a writer that died.
	objectAbandoned = time.Hour
)

// objectHead is a head's content, as JSON.
type objectHead struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Chunks  int    `json:"chunks"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`
}

func (o Objects) problems() []error {
	if !streamName.MatchString(o.Name) || !subjectName.MatchString(o.Prefix) || o.Owner == "" || o.MaxBytes <= 0 {
		return []error{errors.New("needs a name, a prefix, an owner and a size")}
	}
	return nil
}

// streamConfig is the stream of the objects. A roll-up removes the messages of one
// subject, which is how versions are deleted.
func (o Objects) streamConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: o.Name, Description: "objects of " + o.Owner, Subjects: []string{o.Prefix + ".>"},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		MaxBytes: o.MaxBytes, MaxMsgSize: objectMaxMsgSize, AllowRollup: true, AllowDirect: true,
		Duplicates: dedupeWindow, Replicas: replicas,
	}
}

func (o Objects) headSubject(name string) string {
	sum := sha256.Sum256([]byte(name))
	return o.Prefix + "." + hex.EncodeToString(sum[:])
}

// objects finds the objects of the service.
func (b *Bus) objects(ctx context.Context, name string) (Objects, error) {
	for _, o := range b.opts.Topology.Objects {
		if o.Name != name || o.Owner != b.opts.Service {
			continue
		}
		if err := b.waitUp(ctx); err != nil {
			return o, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if err := b.sound(ctx, name); err != nil {
			return o, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return o, nil
	}
	return Objects{}, ErrNotAllowed
}

// PutObject stores an object in place of one with the same name; it is there as a
// whole or not at all. Errors are ErrNotAllowed, ErrUnavailable, ErrFull and those
// of r.
func (b *Bus) PutObject(ctx context.Context, objects, name string, r io.Reader) error {
	o, err := b.objects(ctx, objects)
	if err == nil {
		err = b.putObject(ctx, o, name, r)
	}
	if err != nil {
		return fmt.Errorf("put object into %s: %w", objects, err)
	}
	return nil
}

func (b *Bus) putObject(ctx context.Context, o Objects, name string, r io.Reader) (err error) {
	subject := o.headSubject(name)
	old, _, err := b.objectHead(ctx, o, subject)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	head := objectHead{Name: name, Version: newVersion(b.opts.Now())}
	defer func() {
		if err != nil {
			// What is left of it when this fails too is removed by RemoveObjects.
			_ = b.dropVersion(context.WithoutCancel(ctx), o, subject+"."+head.Version)
		}
	}()
	sum := sha256.New()
	buf := make([]byte, objectChunk)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			sum.Write(buf[:n])
			if err := b.storeObject(ctx, &nats.Msg{Subject: subject + "." + head.Version, Data: buf[:n]}); err != nil {
				return err
			}
			head.Chunks++
			head.Size += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	head.SHA256 = hex.EncodeToString(sum.Sum(nil))
	data, err := json.Marshal(head)
	if err != nil {
		return err
	}
	if len(data) > objectHeadSize {
		return fmt.Errorf("%w: the name of the object", ErrTooLarge)
	}
	if err := b.storeObject(ctx, rollup(subject, data)); err != nil {
		return err
	}
	if old != nil {
		return b.dropVersion(ctx, o, subject+"."+old.Version)
	}
	return nil
}

// newVersion begins with the time, by which abandoned versions are known.
func newVersion(now time.Time) string {
	var r [8]byte
	_, _ = rand.Read(r[:]) // never fails
	return strconv.FormatInt(now.Unix(), 10) + "-" + hex.EncodeToString(r[:])
}

// rollup is a message that takes the place of all others with its subject.
func rollup(subject string, data []byte) *nats.Msg {
	return &nats.Msg{Subject: subject, Data: data, Header: nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}}}
}

func (b *Bus) storeObject(ctx context.Context, m *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if _, err := b.js.PublishMsg(ctx, m); err != nil {
		return publishError(err)
	}
	return nil
}

// dropVersion removes the messages of a version: all but one by a roll-up, then
// that one.
func (b *Bus) dropVersion(ctx context.Context, o Objects, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	ack, err := b.js.PublishMsg(ctx, rollup(subject, nil))
	if err != nil {
		return publishError(err)
	}
	return b.deleteMessage(ctx, o.Name, ack.Sequence)
}

func (b *Bus) deleteMessage(ctx context.Context, stream string, seq uint64) error {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := s.DeleteMsg(ctx, seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// directGet asks for a message without a consumer. request is as the server's
// JSApiMsgGetRequest.
func (b *Bus) directGet(ctx context.Context, stream string, request map[string]any) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	data, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	m, err := b.nc.RequestWithContext(ctx, apiPrefix+".DIRECT.GET."+stream, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	switch status := m.Header.Get("Status"); status {
	case "":
		return m, nil
	case "404":
		return nil, ErrNotFound
	default:
		return nil, fmt.Errorf("%w: status %s %s", ErrUnavailable, status, m.Header.Get("Description"))
	}
}

func sequenceOf(m *nats.Msg) (uint64, error) {
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: message without a sequence", ErrUnavailable)
	}
	return seq, nil
}

// objectHead reads a head; ErrNotFound says that there is none.
func (b *Bus) objectHead(ctx context.Context, o Objects, subject string) (*objectHead, uint64, error) {
	m, err := b.directGet(ctx, o.Name, map[string]any{"last_by_subj": subject})
	if err != nil {
		return nil, 0, err
	}
	seq, err := sequenceOf(m)
	if err != nil {
		return nil, 0, err
	}
	head := new(objectHead)
	if err := json.Unmarshal(m.Data, head); err != nil || o.headSubject(head.Name) != subject {
		return nil, 0, fmt.Errorf("%w: %s holds no object", ErrUnavailable, subject)
	}
	return head, seq, nil
}

// GetObject returns an object, to be read until its end; then its digest has been
// checked. ctx bounds the reading too. Errors are ErrNotFound, ErrNotAllowed and
// ErrUnavailable.
func (b *Bus) GetObject(ctx context.Context, objects, name string) (io.ReadCloser, error) {
	o, err := b.objects(ctx, objects)
	if err != nil {
		return nil, fmt.Errorf("get object from %s: %w", objects, err)
	}
	subject := o.headSubject(name)
	head, _, err := b.objectHead(ctx, o, subject)
	if err != nil {
		return nil, fmt.Errorf("get object from %s: %s: %w", objects, name, err)
	}
	return &objectReader{
		ctx: ctx, bus: b, stream: o.Name, subject: subject + "." + head.Version,
		head: head, next: 1, sum: sha256.New(),
	}, nil
}

// objectReader reads the chunks of a version one by one.
type objectReader struct {
	ctx     context.Context //nolint:containedctx // an io.Reader has no other way
	bus     *Bus
	stream  string
	subject string
	head    *objectHead
	next    uint64 // sequence to look from
	read    int    // chunks
	rest    []byte
	sum     hash.Hash
}

func (r *objectReader) Close() error { return nil }

func (r *objectReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.read == r.head.Chunks {
			if hex.EncodeToString(r.sum.Sum(nil)) != r.head.SHA256 {
				return 0, fmt.Errorf("%w: object %s has another digest than its head says", ErrUnavailable, r.head.Name)
			}
			return 0, io.EOF
		}
		m, err := r.bus.directGet(r.ctx, r.stream, map[string]any{"seq": r.next, "next_by_subj": r.subject})
		if errors.Is(err, ErrNotFound) {
			return 0, fmt.Errorf("%w: object %s was replaced or is incomplete", ErrUnavailable, r.head.Name)
		}
		if err != nil {
			return 0, err
		}
		seq, err := sequenceOf(m)
		if err != nil {
			return 0, err
		}
		r.next, r.rest = seq+1, m.Data
		r.read++
		r.sum.Write(m.Data)
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// HasObject tells whether there is an object with the name.
func (b *Bus) HasObject(ctx context.Context, objects, name string) (bool, error) {
	o, err := b.objects(ctx, objects)
	if err == nil {
		_, _, err = b.objectHead(ctx, o, o.headSubject(name))
	}
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into %s: %w", objects, err)
	}
	return true, nil
}

// RemoveObjects removes all objects but those to keep, and what writers that died
// have left.
func (b *Bus) RemoveObjects(ctx context.Context, objects string, keep func(name string) bool) error {
	o, err := b.objects(ctx, objects)
	if err == nil {
		err = b.removeObjects(ctx, o, keep)
	}
	if err != nil {
		return fmt.Errorf("tidy %s: %w", objects, err)
	}
	return nil
}

func (b *Bus) removeObjects(ctx context.Context, o Objects, keep func(name string) bool) error {
	infoCtx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := b.js.Stream(infoCtx, o.Name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	info, err := s.Info(infoCtx, jetstream.WithSubjectFilter(o.Prefix+".>"))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	kept := map[string]bool{} // subjects of versions
	for subject := range info.State.Subjects {
		if strings.Contains(strings.TrimPrefix(subject, o.Prefix+"."), ".") {
			continue
		}
		head, seq, err := b.objectHead(ctx, o, subject)
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			return err
		case keep(head.Name):
			kept[subject+"."+head.Version] = true
			continue
		}
		deleteCtx, cancel := context.WithTimeout(ctx, apiTimeout)
		err = b.deleteMessage(deleteCtx, o.Name, seq)
		cancel()
		if err != nil {
			return err
		}
		if err := b.dropVersion(ctx, o, subject+"."+head.Version); err != nil {
			return err
		}
	}
	for subject := range info.State.Subjects {
		rest := strings.TrimPrefix(subject, o.Prefix+".")
		_, version, isVersion := strings.Cut(rest, ".")
		if !isVersion || kept[subject] || !abandoned(version, b.opts.Now()) {
			continue
		}
		if err := b.dropVersion(ctx, o, subject); err != nil {
			return err
		}
	}
	return nil
}

// abandoned tells whether a version is so old that nobody can still be writing it.
func abandoned(version string, now time.Time) bool {
	began, _, _ := strings.Cut(version, "-")
	seconds, err := strconv.ParseInt(began, 10, 64)
	return err != nil || now.Sub(time.Unix(seconds, 0)) > objectAbandoned
}
