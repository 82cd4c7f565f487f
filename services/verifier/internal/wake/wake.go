// Package wake tells goroutines of one process that something changed.
package wake

import "sync"

// Hub wakes everybody who waits. The zero value is ready; it is safe for
// concurrent use.
type Hub struct {
	mu sync.Mutex
	ch chan struct{}
}

// Changed returns a channel that is closed at the next Notify. Take it before
// looking at what may change, so that no change is missed.
func (h *Hub) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ch == nil {
		h.ch = make(chan struct{})
	}
	return h.ch
}

// Notify wakes everybody who waits now.
func (h *Hub) Notify() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ch != nil {
		close(h.ch)
		h.ch = nil
	}
}
