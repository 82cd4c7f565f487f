package server

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
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
	const half = maxListBytes / 2
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
