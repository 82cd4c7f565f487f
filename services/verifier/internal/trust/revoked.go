package trust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

const (
	// sourceRevoked names the revoked keys in the cache.
	sourceRevoked = "signer-revoked"
	// maxRevoked bounds how many are remembered; a bundle that has more is refused.
	maxRevoked = 10_000
)

// errRevived says that the signer calls keys valid that it once called revoked.
var errRevived = errors.New("the signer's trust bundle lists keys as valid that it once listed as revoked, as if its database " +
	"and keystore.dir had been restored from before the revocation: they stay revoked; revoke them again, or rotate the key in use")

// revoked are ids of keys, and when each was revoked.
type revoked map[string]time.Time

// add takes over what is not known yet.
func (r revoked) add(other revoked) error {
	for id, at := range other {
		if _, known := r[id]; !known {
			r[id] = at
		}
	}
	if len(r) > maxRevoked {
		return fmt.Errorf("the signer revoked more than %d keys", maxRevoked)
	}
	return nil
}

// remember returns the keys that the signer ever revoked, with those of a bundle. All that
// the database knows is taken over, because another replica may have seen more.
func (s *Source) remember(ctx context.Context, keys []attest.TrustedKey) error {
	stored, err := s.loadRevoked(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	known := maps.Clone(s.revoked)
	s.mu.Unlock()
	seen := revoked{}
	for _, k := range keys {
		if !k.Revoked.IsZero() {
			seen[attest.KeyID(k.Key)] = k.Revoked.UTC()
		}
	}
	for _, more := range []revoked{stored, seen} {
		if err := known.add(more); err != nil {
			return err
		}
	}
	// What was seen counts from now on, also if it cannot be written yet.
	s.mu.Lock()
	s.revoked = known
	s.mu.Unlock()
	if len(known) == len(stored) {
		return nil
	}
	body, err := json.Marshal(known)
	if err != nil {
		return fmt.Errorf("encode revoked keys: %w", err)
	}
	if err := s.cache.SaveTrust(ctx, sourceRevoked, body, s.now()); err != nil {
		return fmt.Errorf("keep revoked keys: %w", err)
	}
	return nil
}

func (s *Source) loadRevoked(ctx context.Context) (revoked, error) {
	body, _, err := s.cache.LoadTrust(ctx, sourceRevoked)
	if errors.Is(err, store.ErrNotFound) {
		return revoked{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load revoked keys: %w", err)
	}
	out := revoked{}
	if err := json.Unmarshal(body, &out); err != nil {
		return nil, fmt.Errorf("revoked keys in the database: %w", err)
	}
	return out, nil
}

// revoke makes keys of the signer revoked that ever were, and names those that the signer
// calls valid.
func (r revoked) revoke(keys []attest.TrustedKey) (out []attest.TrustedKey, revived []string) {
	out = slices.Clone(keys)
	for i, k := range out {
		if at, was := r[attest.KeyID(k.Key)]; was && k.Revoked.IsZero() {
			out[i].Revoked = at
			revived = append(revived, attest.KeyID(k.Key))
		}
	}
	return out, revived
}

// disagreement is told by readiness while the signer calls a revoked key valid.
func disagreement(revived []string) error {
	if len(revived) == 0 {
		return nil
	}
	return lifecycle.Degraded(fmt.Errorf("%w (%s)", errRevived, strings.Join(revived, ", ")))
}
