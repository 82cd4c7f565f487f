package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/lru"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/vex"
)

// ErrNotJudged says that no policy was evaluated for a verdict, so there is
// nothing to make again.
var ErrNotJudged = errors.New("no policy was evaluated for the verdict")

// Documents gives recorded documents back; store.Store is one.
type Documents interface {
	Document(ctx context.Context, digest string) (record.Document, error)
	Documents(ctx context.Context, digests []string, limit int64) (map[string]record.Document, error)
}

// Replayer makes recorded verdicts again. It is safe for concurrent use.
type Replayer struct {
	Documents Documents
	Loader    *policy.Loader
	// Decoded keeps evidence that was read, by digest; nil keeps none. Explain proves
	// from the documents and does not use it.
	Decoded *lru.Cache[string, record.Reading]
	// Trusted tells whether recorded attestations and attached VEX documents are believed
	// now.
	Trusted    func(core.Attestation) bool
	TrustedVex func(core.VexDocument) bool
}

// Explanation is what making a verdict again gave.
type Explanation struct {
	// Replayed is nil if an input is missing.
	Replayed *verifierv1.Verdict
	// Equal tells whether its canonical bytes are those of the recorded verdict.
	Equal bool
	// Missing names inputs that are gone or damaged, by digest.
	Missing []string
	// VexMismatches are VEX statements that had no effect, at most core.MaxVexMismatches.
	VexMismatches []core.VexMismatch
	// Withdrawn is the evidence that is not trusted any more.
	Withdrawn []Withdrawn
}

// Withdrawn is evidence that is not trusted any more.
type Withdrawn struct {
	PlatformDigest, ManifestDigest, PredicateType, KeyID string
}

// withdrawn compares recorded evidence with what is trusted now.
func (r *Replayer) withdrawn(platforms []core.PlatformEvidence) []Withdrawn {
	var out []Withdrawn
	for _, p := range platforms {
		for _, a := range p.Attestations {
			if r.Trusted != nil && !r.Trusted(a) {
				out = append(out, Withdrawn{p.Digest, a.ManifestDigest, a.PredicateType, a.KeyID})
			}
		}
		for _, d := range p.VEX {
			if r.TrustedVex != nil && !r.TrustedVex(d) {
				out = append(out, Withdrawn{p.Digest, d.Digest, attest.PredicateOpenVEX, d.KeyID})
			}
		}
	}
	return out
}

// Explain makes a recorded verdict again from its inputs alone. The error is
// ErrNotJudged, or for what kept us from looking.
func (r *Replayer) Explain(ctx context.Context, recorded *verifierv1.Verdict) (Explanation, error) {
	if !judged(recorded) {
		return Explanation{}, ErrNotJudged
	}
	l := loading{replayer: r, seen: map[string]bool{}}
	platforms, err := l.evidence(ctx, recorded, l.proven)
	if err != nil {
		return Explanation{}, err
	}
	rules, err := l.rules(ctx, recorded)
	if err != nil {
		return Explanation{}, err
	}
	withdrawn := r.withdrawn(platforms)
	if len(l.missing) > 0 {
		return Explanation{Missing: l.missing, Withdrawn: withdrawn}, nil
	}
	var mismatches []core.VexMismatch
	rules.onVexMismatch = func(m core.VexMismatch) {
		if len(mismatches) < core.MaxVexMismatches {
			mismatches = append(mismatches, m)
		}
	}
	again, err := Judge(ctx, verdictpb.Ref(recorded.GetImage()), platforms, rules, recorded.GetEvaluateTime().AsTime())
	if err != nil {
		return Explanation{}, err
	}
	replayed, err := verdictpb.FromCore(again.Verdict)
	if err != nil {
		return Explanation{}, err
	}
	a, err := verdictpb.Canonical(recorded)
	if err != nil {
		return Explanation{}, err
	}
	b, err := verdictpb.Canonical(replayed)
	if err != nil {
		return Explanation{}, err
	}
	return Explanation{Replayed: replayed, Equal: bytes.Equal(a, b), VexMismatches: mismatches, Withdrawn: withdrawn}, nil
}

// judged tells whether a verdict was made from evidence: then it has platforms.
func judged(v *verifierv1.Verdict) bool { return len(v.GetPlatforms()) > 0 }

// loading collects documents and what is missing of them.
type loading struct {
	replayer *Replayer
	missing  []string
	seen     map[string]bool
}

func (l *loading) lacks(digest string) {
	if !l.seen[digest] {
		l.seen[digest] = true
		l.missing = append(l.missing, digest)
	}
}

// document reads one document; false if it is missing or damaged.
func (l *loading) document(ctx context.Context, digest string) (record.Document, bool, error) {
	d, err := l.replayer.Documents.Document(ctx, digest)
	switch {
	case errors.Is(err, store.ErrNotFound):
		l.lacks(digest)
		return record.Document{}, false, nil
	case err != nil:
		return record.Document{}, false, err
	}
	return d, true, nil
}

func (l *loading) rules(ctx context.Context, v *verifierv1.Verdict) (Rules, error) {
	var (
		rules     Rules
		documents []Vex
	)
	loaded := map[string]bool{}
	for _, p := range v.GetPlatforms() {
		for _, digest := range p.GetInputs().GetPolicyDigests() {
			content, err := l.content(ctx, digest, loaded)
			if err != nil {
				return Rules{}, err
			}
			if content == nil {
				continue
			}
			set, err := l.replayer.Loader.Parse(digest, content)
			if err != nil || len(set) != 1 {
				return Rules{}, fmt.Errorf("recorded policy %s is not accepted any more: %w", digest, err)
			}
			rules.Policies = append(rules.Policies, set[0])
		}
		for _, digest := range p.GetInputs().GetExceptionDigests() {
			content, err := l.content(ctx, digest, loaded)
			if err != nil {
				return Rules{}, err
			}
			if content == nil {
				continue
			}
			e, err := NewException(content)
			if err != nil {
				return Rules{}, fmt.Errorf("recorded exception %s is not accepted any more: %w", digest, err)
			}
			rules.Exceptions = append(rules.Exceptions, e)
		}
		for _, digest := range p.GetInputs().GetVexDigests() {
			content, err := l.content(ctx, digest, loaded)
			if err != nil {
				return Rules{}, err
			}
			if content == nil {
				continue
			}
			d, err := vex.Recorded(content)
			if err != nil {
				return Rules{}, fmt.Errorf("recorded VEX document %s is not accepted any more: %w", digest, err)
			}
			documents = append(documents, Vex{VexDocument: d, Document: content})
		}
	}
	rules.SetVex(documents)
	return rules, nil
}

// content unpacks a document unless it was loaded before; nil if it is missing.
func (l *loading) content(ctx context.Context, digest string, loaded map[string]bool) ([]byte, error) {
	if loaded[digest] {
		return nil, nil
	}
	loaded[digest] = true
	d, ok, err := l.document(ctx, digest)
	if err != nil || !ok {
		return nil, err
	}
	content, err := record.Unpack(d)
	if err != nil {
		l.lacks(digest)
		return nil, nil //nolint:nilerr // a damaged document is as good as a missing one
	}
	return content, nil
}
