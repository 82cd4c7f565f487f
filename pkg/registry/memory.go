package registry

import "sync"

// memory recalls which referrers this process lately put into referrers tags.
type memory struct {
	mu    sync.Mutex
	lists map[string][]Descriptor
}

const (
	maxRememberedSubjects  = 1024
	maxRememberedReferrers = 64
)

func newMemory() *memory { return &memory{lists: map[string][]Descriptor{}} }

func (m *memory) add(subject string, d Descriptor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, known := m.lists[subject]
	for _, old := range list {
		if old.Digest == d.Digest {
			return
		}
	}
	if !known && len(m.lists) >= maxRememberedSubjects {
		for oldest := range m.lists {
			delete(m.lists, oldest)
			break
		}
	}
	if len(list) >= maxRememberedReferrers {
		list = list[1:]
	}
	m.lists[subject] = append(list[:len(list):len(list)], d)
}

func (m *memory) of(subject string) []Descriptor {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lists[subject]
}

// only forgets everything about the subject but d.
func (m *memory) only(subject string, d Descriptor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists[subject] = []Descriptor{d}
}
