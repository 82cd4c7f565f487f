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
	mu     sync.Mutex
	probes map[string]func() error
}

// NewReadiness knows no component yet and is therefore ready. Name what has to
// come up before anybody asks: r.Set("database", errors.New("starting")).
func NewReadiness() *Readiness {
	return &Readiness{probes: map[string]func() error{}}
}

// Set says how a component is: nil = ready, otherwise why not.
func (r *Readiness) Set(component string, err error) {
	r.Probe(component, func() error { return err })
}

// Probe has f asked for the state whenever somebody wants to know it, from any
// goroutine: f must be fast and safe for concurrent use. It replaces what Set
// said and is replaced by the next Set.
func (r *Readiness) Probe(component string, f func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probes[component] = f
}

// Check is nil if every component is ready; else it joins the reasons, each
// with its component's name, in the order of the names.
func (r *Readiness) Check() error {
	states := r.Components()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(states)) {
		if err := states[name]; err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Components is the state of every component: nil = ready.
func (r *Readiness) Components() map[string]error {
	r.mu.Lock()
	probes := maps.Clone(r.probes)
	r.mu.Unlock()
	states := make(map[string]error, len(probes))
	for name, f := range probes {
		states[name] = f()
	}
	return states
}
