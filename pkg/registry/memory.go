package registry

import (
	"slices"
	"sync"
	"time"
)

// memory recalls which referrers this process lately put into referrers tags.
type memory struct {
	mu    sync.Mutex
	lists map[string][]remembered
	now   func() time.Time
}

type remembered struct {
	Descriptor
	at time.Time
}

const (
	maxRememberedSubjects  = 1024
	maxRememberedReferrers = 64
	// rememberFor is much longer than any writer takes from reading the tag to
	// overwriting it. What is missing later was deleted on purpose.
	rememberFor = time.Minute
)

func newMemory() *memory { return &memory{lists: map[string][]remembered{}, now: time.Now} }

func (m *memory) add(subject string, d Descriptor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, known := m.lists[subject]
	list = slices.DeleteFunc(slices.Clone(list), func(old remembered) bool { return old.Digest == d.Digest })
	if !known && len(m.lists) >= maxRememberedSubjects {
		for oldest := range m.lists {
			delete(m.lists, oldest)
			break
		}
	}
	if len(list) >= maxRememberedReferrers {
		list = list[1:]
	}
	m.lists[subject] = append(list, remembered{d, m.now()})
}

// of returns what was put there within rememberFor.
func (m *memory) of(subject string) []Descriptor {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Descriptor
	for _, r := range m.lists[subject] {
		if m.now().Sub(r.at) < rememberFor {
			out = append(out, r.Descriptor)
		}
	}
	return out
}

// forget forgets one referrer of the subject.
func (m *memory) forget(subject, digest string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists[subject] = slices.DeleteFunc(slices.Clone(m.lists[subject]), func(r remembered) bool { return r.Digest == digest })
	if len(m.lists[subject]) == 0 {
		delete(m.lists, subject)
	}
}

// only forgets everything about the subject but ds.
func (m *memory) only(subject string, ds ...Descriptor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists[subject] = nil
	for _, d := range ds {
		m.lists[subject] = append(m.lists[subject], remembered{d, m.now()})
	}
}
