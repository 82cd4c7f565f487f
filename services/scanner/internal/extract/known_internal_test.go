package extract

import (
	"fmt"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/lru"
)

// TestKnownLayersBound: what is held stays below the limit, what was used last stays,
// and what is larger than the limit is not held at all.
func TestKnownLayersBound(t *testing.T) {
	layer := func(i, events int) *layerResult {
		return &layerResult{digest: fmt.Sprint(i), events: make([]event, events)}
	}
	one := layer(0, 10).memory()
	held := func(limit int64) (put func(*layerResult), get func(digest string) *layerResult, k *knownLayers) {
		k = lru.New[string, *layerResult](limit, nil)
		put = func(r *layerResult) { k.Put(r.digest, r, r.memory()) }
		get = func(digest string) *layerResult { r, _ := k.Get(digest); return r }
		return put, get, k
	}
	put, get, k := held(3*one + one/2)
	for i := range 3 {
		put(layer(i, 10))
	}
	if get("0") == nil {
		t.Fatal("the first is gone already")
	}
	put(layer(3, 10))
	for i, want := range []bool{true, false, true, true} {
		if got := get(fmt.Sprint(i)) != nil; got != want {
			t.Errorf("layer %d held: %v, want %v", i, got, want)
		}
	}
	put(layer(2, 1000))
	if get("2") != nil || k.Size() != 2*one || k.Len() != 2 {
		t.Errorf("%d bytes, %d layers held after one that is too large", k.Size(), k.Len())
	}
	again := layer(3, 5)
	put(again)
	if get("3") != again || k.Size() != one+again.memory() {
		t.Errorf("%d bytes held after one was replaced", k.Size())
	}
	put, get, _ = held(0)
	put(again)
	if get(again.digest) != nil {
		t.Error("something is held where nothing may be")
	}
}
