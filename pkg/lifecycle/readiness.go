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

// Set says how a component is: nil = ready, otherwise why not; see Degraded.
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

// Degraded marks the state of a component that works, but not as it should: the
// process stays ready, and /readyz shows the text. Degraded(nil) is nil.
func Degraded(err error) error {
	if err == nil {
		return nil
	}
	return &degradedError{err}
}

type degradedError struct{ err error }

func (d *degradedError) Error() string { return "degraded: " + d.err.Error() }
func (d *degradedError) Unwrap() error { return d.err }

func isDegraded(err error) bool {
	_, ok := errors.AsType[*degradedError](err)
	return ok
}

// Check is nil if every component is ready or degraded; else it joins the reasons, each
// with its component's name, in the order of the names.
func (r *Readiness) Check() error {
	states := r.Components()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(states)) {
		if err := states[name]; err != nil && !isDegraded(err) {
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
