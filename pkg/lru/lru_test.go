package lru

import (
	"slices"
	"testing"
)

func TestCache(t *testing.T) {
	t.Parallel()
	var gone []string
	c := New[string, int](10, func(k string) { gone = append(gone, k) })
	for i, k := range []string{"a", "b", "c"} {
		if !c.Put(k, i, 3) {
			t.Errorf("%s was not kept", k)
		}
	}
	if v, ok := c.Get("a"); !ok || v != 0 {
		t.Errorf("a: %d, %t", v, ok)
	}
	var found []int
	c.GetAll([]string{"none", "c", "a"}, func(i, v int) { found = append(found, i, v) })
	if !slices.Equal(found, []int{1, 2, 2, 0}) {
		t.Errorf("found %v", found)
	}
	c.Put("d", 3, 3) // b was used least recently
	if !slices.Equal(gone, []string{"b"}) || c.Len() != 3 || c.Size() != 9 {
		t.Errorf("gone %v, %d values of %d bytes", gone, c.Len(), c.Size())
	}
	c.Put("a", 7, 1)
	if v, _ := c.Get("a"); v != 7 || c.Size() != 7 {
		t.Errorf("a is %d, %d bytes", v, c.Size())
	}
	if c.Put("large", 1, 11) || c.Len() != 3 {
		t.Error("a value larger than the cache was kept, or threw others out")
	}
	if c.Put("d", 1, 11); c.Len() != 2 {
		t.Error("the value before one that is too large is still there")
	}
	c.Drop("a")
	c.Drop("none")
	if _, ok := c.Get("a"); ok || c.Size() != 3 {
		t.Errorf("a is still there, or %d bytes are", c.Size())
	}
}

func TestCacheOfNothing(t *testing.T) {
	t.Parallel()
	c := New[int, int](0, nil)
	if c.Put(1, 1, 1) || c.Len() != 0 {
		t.Error("a cache of no size keeps something")
	}
}
