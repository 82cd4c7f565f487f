package server

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/warm"
)

func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tc := range map[string]struct{ deadline, want time.Duration }{
			"no deadline":    {0, MaxWait},
			"later deadline": {time.Hour, MaxWait},
			"deadline":       {time.Minute, time.Minute - answerMargin},
		} {
			ctx := t.Context()
			if tc.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tc.deadline)
				defer cancel()
			}
			began := time.Now()
			waiting, cancel := waitUntil(ctx)
			defer cancel()
			<-waiting.Done()
			if took := time.Since(began); took != tc.want {
				t.Errorf("%s: waits %v, want %v", name, took, tc.want)
			}
		}
	})
}

func TestPageSize(t *testing.T) {
	sized := func(sizes ...int) (out []store.Record) {
		for _, n := range sizes {
			out = append(out, store.Record{Body: make([]byte, n)})
		}
		return out
	}
	const half = page.MaxBytes / 2
	for name, tc := range map[string]struct {
		records     []store.Record
		limit, want int
	}{
		"none":              {nil, 10, 0},
		"all fit":           {sized(1, 2, 3), 3, 3},
		"more than asked":   {sized(1, 2, 3), 2, 2},
		"too many bytes":    {sized(half, half, 1), 10, 2},
		"one is too large":  {sized(3*half, 1), 10, 1},
		"the last is large": {sized(1, 3*half), 10, 1},
	} {
		if got := pageSize(tc.records, tc.limit); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// TestBatchOfBadReferences: each is an UNKNOWN of its own, in its place.
func TestBatchOfBadReferences(t *testing.T) {
	s := NewVerdicts(Deps{Now: time.Now})
	refs := []imageref.Ref{{}, {Digest: "sha256:0"}, {Registry: "r.example", Repository: "A", Tag: "v1"}}
	all, err := s.batch(t.Context(), &batchRequest{refs: refs, count: len(refs)})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := all.MarshalWire()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Free()
	var got verifierv1.BatchGetVerdictsResponse
	if err := proto.Unmarshal(raw.Materialize(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.GetVerdicts()) != len(refs) {
		t.Fatalf("%d answers", len(got.GetVerdicts()))
	}
	for i, v := range got.GetVerdicts() {
		if v.GetState() != verifierv1.Verdict_STATE_UNKNOWN || len(v.GetReasons()) != 1 || v.GetReasons()[0].GetCode() != "INVALID_REFERENCE" ||
			!strings.HasPrefix(v.GetReasons()[0].GetMessage(), "images[") {
			t.Errorf("answer %d: %v", i, v)
		}
	}
}

// TestBatchBytes: an answer never exceeds the limit of a message, however large the
// verdicts are. What does not fit is answered with the view of a decision, and that is said.
func TestBatchBytes(t *testing.T) {
	const large = 1 << 20
	source := lookup{images: func(refs []imageref.Ref) (out []*store.Image) {
		v := &verifierv1.Verdict{State: verifierv1.Verdict_STATE_PASS, Platforms: []*verifierv1.PlatformVerdict{{Digest: strings.Repeat("x", large)}}}
		body, err := proto.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range refs {
			out = append(out, &store.Image{Latest: &store.Record{Image: r, State: core.StatePass, Body: body, Digest: "sha256:00", Sequence: 1}})
		}
		return out
	}}
	cache := warm.New(warm.Options{Source: source, Limit: 1 << 20, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	s := NewVerdicts(Deps{Store: source, Cache: cache, Now: time.Now})
	ref := imageref.Ref{Registry: "r.example", Repository: "a/b", Digest: "sha256:" + strings.Repeat("0", 64)}
	bad := imageref.Ref{Digest: "sha256:0"}
	for name, tc := range map[string]struct {
		refs []imageref.Ref
		view verifierv1.VerdictView
		want int32
	}{
		"decision": {slices.Repeat([]imageref.Ref{ref}, 20), verifierv1.VerdictView_VERDICT_VIEW_DECISION, 0},
		"all fit":  {slices.Repeat([]imageref.Ref{ref}, 7), verifierv1.VerdictView_VERDICT_VIEW_FULL, 0},
		"most":     {slices.Repeat([]imageref.Ref{ref}, MaxBatch), verifierv1.VerdictView_VERDICT_VIEW_FULL, 7},
		"with bad": {append([]imageref.Ref{bad, bad}, slices.Repeat([]imageref.Ref{ref}, 20)...), verifierv1.VerdictView_VERDICT_VIEW_FULL, 9},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := s.batch(t.Context(), &batchRequest{refs: tc.refs, count: len(tc.refs), view: tc.view})
			if err != nil {
				t.Fatal(err)
			}
			raw, err := all.MarshalWire()
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Free()
			var got verifierv1.BatchGetVerdictsResponse
			if err := proto.Unmarshal(raw.Materialize(), &got); err != nil {
				t.Fatal(err)
			}
			if len(got.GetVerdicts()) != len(tc.refs) || got.GetShortenedFrom() != tc.want || raw.Len() > 9<<20 {
				t.Fatalf("%d verdicts, shortened from %d, %d bytes; want from %d", len(got.GetVerdicts()), got.GetShortenedFrom(), raw.Len(), tc.want)
			}
			for i, v := range got.GetVerdicts() {
				whole := tc.view == verifierv1.VerdictView_VERDICT_VIEW_FULL && (tc.want == 0 || i < int(tc.want))
				if tc.refs[i] == ref && (v.GetState() != verifierv1.Verdict_STATE_PASS || (len(v.GetPlatforms()) > 0) != whole) {
					t.Errorf("verdict %d: %s with %d platforms", i, v.GetState(), len(v.GetPlatforms()))
				}
			}
		})
	}
}

// lookup is a store that knows images.
type lookup struct {
	store.Store
	images func(refs []imageref.Ref) []*store.Image
}

func (l lookup) Lookup(_ context.Context, refs []imageref.Ref, _ time.Time) ([]*store.Image, error) {
	return l.images(refs), nil
}
