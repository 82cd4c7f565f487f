package lifecycle

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Readiness collects, component by component, why a process cannot work yet.
// It is safe for concurrent use.
type Readiness struct {
	mu         sync.Mutex
	components map[string]error
	watchers   map[int]func(error)
	nextID     int
}

// NewReadiness knows no component yet and is therefore ready. Name what has to
// come up before anybody asks: r.Set("database", errors.New("starting")).
func NewReadiness() *Readiness {
	return &Readiness{components: map[string]error{}, watchers: map[int]func(error){}}
}

// Set says how a component is: nil = ready, otherwise why not.
func (r *Readiness) Set(component string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.check()
	r.components[component] = err
	after := r.check()
	if (before == nil) == (after == nil) {
		return
	}
	for _, w := range r.watchers {
		w(after)
	}
}

// Check is nil if every component is ready; else it joins the reasons, each
// with its component's name, in the order of the names.
func (r *Readiness) Check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.check()
}

func (r *Readiness) check() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(r.components)) {
		if err := r.components[name]; err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Components is a copy of the state: nil = ready.
func (r *Readiness) Components() map[string]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.components)
}

// Watch calls f with the present state at once, and again whenever the whole
// turns ready (nil) or not ready. Calls are one at a time and must not call
// back into r. The returned function ends the watch.
func (r *Readiness) Watch(f func(error)) (cancel func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.nextID
	r.nextID++
	r.watchers[id] = f
	f(r.check())
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, id)
	}
}
