package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/exception"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/vex"
)

// RuleBook gives the rules in force. What it read is kept until the store's
// revision changes, so that asking costs one small query; a policy is compiled once.
type RuleBook struct {
	Store  store.Store
	Loader *policy.Loader
	// Authors are those whose VEX documents count.
	Authors vex.Authors
	Log     *slog.Logger
	Now     func() time.Time

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
		rules := replay.Rules{Revision: revision}
		if err := b.policies(ctx, &rules); err != nil {
			return replay.Rules{}, err
		}
		stored, err := b.Store.Exceptions(ctx, "", exception.MaxExceptions)
		if err != nil {
			return replay.Rules{}, err
		}
		for _, s := range stored {
			e, err := replay.NewException(s.Body)
			if err != nil {
				rules.Unreadable = append(rules.Unreadable, replay.Unreadable{Rule: "exception " + s.Name, Err: err})
				continue
			}
			rules.Exceptions = append(rules.Exceptions, e)
		}
		if rules.Trust, err = b.Store.Trust(ctx); err != nil {
			return replay.Rules{}, err
		}
		if err := b.vex(ctx, &rules); err != nil {
			return replay.Rules{}, err
		}
		for _, u := range rules.Unreadable {
			b.Log.ErrorContext(ctx, "stored rule not readable by this release; the images it may apply to are UNKNOWN: "+
				"upgrade this replica, or delete the rule and create it again", "rule", u.Rule, "error", u.Err)
		}
		b.last = &rules
	}
	return replay.Rules{}, fmt.Errorf("read rules: %w", store.ErrConflict)
}

// vex verifies and reads the documents that are stored: a row is no proof of who wrote it.
// One that was signed by nobody who is trusted, or can match nothing, has no effect. Of one
// that cannot be read it is not known what it takes back.
func (b *RuleBook) vex(ctx context.Context, rules *replay.Rules) error {
	stored, err := b.Store.VexDocuments(ctx, "", vex.MaxDocuments)
	if err != nil {
		return err
	}
	var out []replay.Vex
	for _, s := range stored {
		d, err := b.Authors.Import(s.Document, s.Bundle, b.Now())
		if errors.Is(err, vex.ErrMalformed) && !errors.Is(err, vex.ErrUnmatchable) {
			rules.Unreadable = append(rules.Unreadable, replay.Unreadable{Rule: "VEX document " + s.Digest, Err: err})
			continue
		}
		if err != nil {
			b.Log.WarnContext(ctx, "VEX document has no effect", "document", s.Digest, "error", err)
			continue
		}
		core, body, err := d.Record()
		if err != nil {
			return err
		}
		out = append(out, replay.Vex{VexDocument: core, Document: body})
	}
	rules.SetVex(out)
	return nil
}

// policies compiles what is stored, and takes what has not changed from the last
// rules.
func (b *RuleBook) policies(ctx context.Context, rules *replay.Rules) error {
	stored, err := b.Store.Policies(ctx, "", policy.MaxPolicies)
	if err != nil {
		return err
	}
	compiled := map[string]policy.Policy{}
	if b.last != nil {
		for _, p := range b.last.Policies {
			compiled[p.Digest] = p
		}
	}
	rules.Policies = make([]policy.Policy, 0, len(stored))
	for i := range stored {
		s := &stored[i]
		p, ok := compiled[s.Digest]
		if !ok {
			var faults []error
			if p, faults = b.Loader.ParseOne(s.Document); len(faults) > 0 {
				u := replay.Unreadable{Rule: s.String(), Err: faults[0]}
				if matches, err := policy.Matching(s.Repositories); err == nil {
					u.Matches = matches
				}
				rules.Unreadable = append(rules.Unreadable, u)
				continue
			}
		}
		rules.Policies = append(rules.Policies, p)
	}
	return nil
}
