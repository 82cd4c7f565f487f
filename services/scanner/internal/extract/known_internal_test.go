package extract

import (
	"fmt"
	"testing"
)

// TestKnownLayersBound: what is held stays below the limit, what was used last stays,
// and what is larger than the limit is not held at all.
func TestKnownLayersBound(t *testing.T) {
	layer := func(i, events int) *layerResult {
		return &layerResult{digest: fmt.Sprint(i), events: make([]event, events)}
	}
	one := layer(0, 10).memory()
	k := newKnownLayers(3*one + one/2)
	for i := range 3 {
		k.put(layer(i, 10))
	}
	if k.get("0") == nil {
		t.Fatal("the first is gone already")
	}
	k.put(layer(3, 10))
	for i, want := range []bool{true, false, true, true} {
		if got := k.get(fmt.Sprint(i)) != nil; got != want {
			t.Errorf("layer %d held: %v, want %v", i, got, want)
		}
	}
	k.put(layer(2, 1000))
	if k.get("2") != nil || k.held != 2*one || k.order.Len() != 2 || len(k.byDigest) != 2 {
		t.Errorf("%d bytes, %d and %d layers held after one that is too large", k.held, k.order.Len(), len(k.byDigest))
	}
	again := layer(3, 5)
	k.put(again)
	if k.get("3") != again || k.held != one+again.memory() {
		t.Errorf("%d bytes held after one was replaced", k.held)
	}
	if none := newKnownLayers(0); none.get("0") != nil {
		t.Error("something is held where nothing may be")
	} else {
		none.put(again)
	}
}
