// Package snapshotstest has a place where replicas share snapshots, for tests that are
// not about NATS.
package snapshotstest

import (
	"bytes"
	"context"
	"sync"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

// Memory shares snapshots within a process.
type Memory struct {
	mu    sync.Mutex
	files map[string][]byte
	err   error
}

// SetErr sets what every call returns from now on.
func (m *Memory) SetErr(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// Put implements snapshots.Shared.
func (m *Memory) Put(_ context.Context, digest string, content []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.files == nil {
		m.files = map[string][]byte{}
	}
	m.files[digest] = bytes.Clone(content)
	return nil
}

// Get implements snapshots.Shared.
func (m *Memory) Get(_ context.Context, digest string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.files[digest]
	if m.err == nil && !ok {
		return nil, eventbus.ErrNotFound
	}
	return bytes.Clone(content), m.err
}

// Has implements snapshots.Shared.
func (m *Memory) Has(_ context.Context, digest string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.files[digest]
	return ok, m.err
}

// Retain implements snapshots.Shared.
func (m *Memory) Retain(_ context.Context, digests ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := map[string][]byte{}
	for _, d := range digests {
		if content, ok := m.files[d]; ok {
			kept[d] = content
		}
	}
	m.files = kept
	return m.err
}
