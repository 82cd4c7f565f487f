package consumer

import (
	"context"
	"fmt"
	"sync"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/exception"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
)

// RuleBook gives the rules in force. What it read is kept until the store's
// revision changes, so that asking costs one small query.
type RuleBook struct {
	Store    store.Store
	Policies []policy.Policy

	mu   sync.Mutex
	last *replay.Rules
}

// Current returns the rules in force.
func (b *RuleBook) Current(ctx context.Context) (replay.Rules, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range maxConflicts {
		revision, err := b.Store.RulesRevision(ctx)
		if err != nil {
			return replay.Rules{}, err
		}
		if b.last != nil && b.last.Revision == revision {
			return *b.last, nil
		}
		// Rules that change while they are read are seen by the revision, above.
		stored, err := b.Store.Exceptions(ctx, "", exception.MaxExceptions)
		if err != nil {
			return replay.Rules{}, err
		}
		rules := replay.Rules{Policies: b.Policies, Revision: revision}
		for _, s := range stored {
			e, err := replay.NewException(s.Body)
			if err != nil {
				return replay.Rules{}, fmt.Errorf("stored exception %s: %w", s.Name, err)
			}
			rules.Exceptions = append(rules.Exceptions, e)
		}
		b.last = &rules
	}
	return replay.Rules{}, fmt.Errorf("read rules: %w", store.ErrConflict)
}
