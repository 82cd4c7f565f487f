package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
)

// noted is a store that remembers what it was told.
type noted struct {
	store.Store
	pushes, tags map[string]time.Time
	problem      string
}

func (n *noted) RecordPush(_ context.Context, image imageref.Ref, pushed time.Time) error {
	n.pushes[image.Digest] = pushed
	return nil
}

func (n *noted) FailTag(_ context.Context, image imageref.Ref, problem string, _ time.Time) error {
	n.problem = image.Tag + image.Digest + ": " + problem
	return nil
}

func (n *noted) RecordTag(_ context.Context, image imageref.Ref, asked time.Time) error {
	n.tags[image.Tag+" "+image.Digest] = asked
	return nil
}

// Whoever can publish pushes, such as a gateway that was taken over, cannot say what a
// tag means, nor when.
func TestPushes_TagsAreAskedOfTheRegistry(t *testing.T) {
	t.Parallel()
	bad, good := "sha256:"+strings.Repeat("b", 64), "sha256:"+strings.Repeat("a", 64)
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	event := func(digest, tag string, at time.Time) *eventv1.ImagePushedEvent {
		return &eventv1.ImagePushedEvent{
			Meta:  &eventv1.EventMeta{EventTime: timestamppb.New(at)},
			Image: &typev1.ImageRef{Registry: "registry.example", Repository: "team/app", Tag: tag, Digest: digest},
		}
	}
	for name, c := range map[string]struct {
		event *eventv1.ImagePushedEvent
		says  string // what the registry says of the tag
		err   error
		push  string // digest that is on its way
		tag   string // what is recorded of the tag; "none" if it cannot be judged
		// reason of a dead letter, or "retry"
		reason string
	}{
		"true":               {event(good, "latest", now.Add(-time.Second)), good, nil, good, good, ""},
		"forged digest":      {event(good, "latest", now.Add(-time.Second)), bad, nil, good, bad, ""},
		"without digest":     {event("", "latest", now), good, nil, "", good, ""},
		"without tag":        {event(good, "", now), bad, nil, good, "", ""},
		"in the future":      {event(good, "latest", now.Add(100*365*24*time.Hour)), bad, nil, good, bad, ""},
		"tag is gone":        {event(good, "latest", now), "", fmt.Errorf("x: %w", registry.ErrNotFound), good, "", ""},
		"registry is away":   {event(good, "latest", now), "", fmt.Errorf("x: %w", registry.ErrUnavailable), good, "", "retry"},
		"registry refuses":   {event(good, "latest", now), "", fmt.Errorf("x: %w", registry.ErrUnauthorized), good, "", reasonRegistryRefused},
		"registry not ours":  {event(good, "latest", now), "", fmt.Errorf("x: %w", registry.ErrNotAllowed), good, "", reasonRegistryRefused},
		"registry tells rot": {event(good, "latest", now), "latest", nil, good, "none", "retry"},
		"other algorithm":    {event("", "latest", now), "", fmt.Errorf("x: %w", registry.ErrMalformed), "", "none", "retry"},
		"other content":      {event(good, "latest", now), "", fmt.Errorf("x: %w", registry.ErrDigestMismatch), good, "none", "retry"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &noted{pushes: map[string]time.Time{}, tags: map[string]time.Time{}}
			p := &Pushes{
				Store: s, Hub: new(wake.Hub), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
				Resolve: func(_ context.Context, ref imageref.Ref) (registry.Descriptor, error) {
					if ref.Digest != "" || ref.Tag != "latest" {
						t.Errorf("asked for %s", ref)
					}
					return registry.Descriptor{Digest: c.says}, c.err
				},
			}
			err := p.Handle(t.Context(), c.event, &eventbus.Delivery{Attempt: settledAttempts})
			switch {
			case c.reason == "" && err != nil,
				c.reason == "retry" && (err == nil || eventbus.IsPermanent(err)),
				c.reason != "" && c.reason != "retry" && (!eventbus.IsPermanent(err) || eventbus.Reason(err) != c.reason):
				t.Errorf("error %v, want %q", err, c.reason)
			}
			if c.err != nil && err != nil && !errors.Is(err, c.err) {
				t.Errorf("error %v hides %v", err, c.err)
			}
			wantPushes, wantTags := 0, 0
			if c.push != "" {
				wantPushes = 1
				if at, ok := s.pushes[c.push]; !ok || at.After(now) {
					t.Errorf("push of %s at %s", c.push, at)
				}
			}
			if c.tag != "" {
				wantTags = 1
				if at, ok := s.tags["latest "+strings.TrimPrefix(c.tag, "none")]; !ok || !at.Equal(now) {
					t.Errorf("tags are %v", s.tags)
				}
				if failed := strings.HasPrefix(s.problem, "latest: "); failed != (c.tag == "none") {
					t.Errorf("problem %q", s.problem)
				}
			}
			if len(s.pushes) != wantPushes || len(s.tags) != wantTags {
				t.Errorf("pushes %v, tags %v", s.pushes, s.tags)
			}
		})
	}
}

// Registries tell of a push before its tag has moved: the tag is looked at again.
func TestPushes_TagThatMovesAfterItsEvent(t *testing.T) {
	t.Parallel()
	before, after := "sha256:"+strings.Repeat("b", 64), "sha256:"+strings.Repeat("a", 64)
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for _, first := range []struct {
		digest string
		err    error
	}{{before, nil}, {"", registry.ErrNotFound}} {
		s := &noted{pushes: map[string]time.Time{}, tags: map[string]time.Time{}}
		asked, moved := 0, 4
		p := &Pushes{
			Store: s, Hub: new(wake.Hub), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
			Pauses: []time.Duration{time.Microsecond, time.Microsecond},
			Resolve: func(context.Context, imageref.Ref) (registry.Descriptor, error) {
				if asked++; asked < moved {
					return registry.Descriptor{Digest: first.digest}, first.err
				}
				return registry.Descriptor{Digest: after}, nil
			},
		}
		e := &eventv1.ImagePushedEvent{
			Meta:  &eventv1.EventMeta{EventTime: timestamppb.New(now)},
			Image: &typev1.ImageRef{Registry: "registry.example", Repository: "team/app", Tag: "latest", Digest: after},
		}
		if err := p.Handle(t.Context(), e, &eventbus.Delivery{Attempt: 1}); err == nil || eventbus.IsPermanent(err) || asked != 3 {
			t.Errorf("first attempt: %v, asked %d times", err, asked)
		}
		if err := p.Handle(t.Context(), e, &eventbus.Delivery{Attempt: 2}); err != nil || s.tags["latest "+after].IsZero() {
			t.Errorf("second attempt: %v, %v", err, s.tags)
		}
	}
}
