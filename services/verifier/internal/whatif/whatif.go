// Package whatif tells which verdicts a change of a policy would change, on recorded
// evidence and without changing anything.
package whatif

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

// maxReasons of a flip.
const maxReasons = 5

// readAhead is the number of images whose evidence is read at once.
const readAhead = 50

// Store is what is read of the store.
type Store interface {
	JudgedAfter(ctx context.Context, after imageref.Ref, limit int) ([]imageref.Ref, error)
	Lookup(ctx context.Context, images []imageref.Ref, now time.Time) ([]*store.Image, error)
}

// Change is a policy to try: a new version or a new policy, or the name of one to take
// away.
type Change struct {
	Policy *policy.Policy
	Delete string
}

// Result is what would change for a page of images.
type Result struct {
	// Evaluated images are those that the policy, before or after, is for; of them
	// Changed would have a different verdict.
	Evaluated, Changed int
	// Unmatched are not its images, Skipped have no recorded evidence.
	Unmatched, Skipped int
	// States counts changes of an image's state, from and to.
	States map[[2]core.State]int
	Flips  []Flip
	// Last image of the page; More tells whether there may be others after it.
	Last imageref.Ref
	More bool
}

// Flip is a platform manifest whose state would change.
type Flip struct {
	Image    imageref.Ref
	Digest   string
	Platform core.Platform
	From, To core.State
	Reasons  []core.Reason
}

// Tester tries changes.
type Tester struct {
	Store    Store
	Replayer *replay.Replayer
	Now      func() time.Time
}

// Page tries a change on the images after one, at most limit.
func (t *Tester) Page(ctx context.Context, rules replay.Rules, c Change, after imageref.Ref, limit int) (Result, error) {
	out := Result{States: map[[2]core.State]int{}}
	changed, matches := c.apply(rules)
	images, err := t.Store.JudgedAfter(ctx, after, limit)
	if err != nil {
		return Result{}, err
	}
	if len(images) > 0 {
		out.Last, out.More = images[len(images)-1], len(images) == limit
	}
	about := slices.DeleteFunc(images, func(i imageref.Ref) bool { return !matches(i.Name()) })
	out.Unmatched = len(images) - len(about)
	known, err := t.Store.Lookup(ctx, about, time.Time{})
	if err != nil {
		return Result{}, err
	}
	for few := range slices.Chunk(known, readAhead) {
		if err := t.few(ctx, few, rules, changed, &out); err != nil {
			return Result{}, err
		}
	}
	return out, nil
}

// few tries the change on images whose evidence is read at once.
func (t *Tester) few(ctx context.Context, images []*store.Image, rules, changed replay.Rules, out *Result) error {
	verdicts := make([]*verifierv1.Verdict, 0, len(images))
	for _, image := range images {
		if image == nil || image.Latest == nil {
			out.Skipped++
			continue
		}
		l := image.Latest
		v, err := verdictpb.Decode(l.Body, l.Sequence, l.Digest, l.TraceID)
		if err != nil {
			return err
		}
		verdicts = append(verdicts, v)
	}
	seen := rules.Seen() | changed.Seen()
	replayer, err := t.Replayer.Ahead(ctx, verdicts, seen)
	if err != nil {
		return err
	}
	for _, v := range verdicts {
		platforms, missing, err := replayer.Evidence(ctx, v, seen)
		if err != nil {
			return err
		}
		if len(missing) > 0 || len(platforms) == 0 {
			out.Skipped++
			continue
		}
		if err := t.image(ctx, verdictpb.Ref(v.GetImage()), platforms, rules, changed, out); err != nil {
			return err
		}
	}
	return nil
}

// apply returns the rules with the change, and which repositories it is about.
func (c Change) apply(rules replay.Rules) (replay.Rules, func(repository string) bool) {
	name := c.Delete
	if c.Policy != nil {
		name = c.Policy.Name
	}
	var about []func(string) bool
	out := rules
	out.Policies = nil
	for _, p := range rules.Policies {
		if p.Name == name {
			about = append(about, p.Matches)
			continue
		}
		out.Policies = append(out.Policies, p)
	}
	if c.Policy != nil {
		about = append(about, c.Policy.Matches)
		out.Policies = append(out.Policies, *c.Policy)
		slices.SortFunc(out.Policies, func(a, b policy.Policy) int { return strings.Compare(a.Name, b.Name) })
	}
	return out, func(repository string) bool {
		return slices.ContainsFunc(about, func(m func(string) bool) bool { return m(repository) })
	}
}

func (t *Tester) image(ctx context.Context, ref imageref.Ref, platforms []core.PlatformEvidence, rules, changed replay.Rules, out *Result) error {
	now := t.Now()
	before, err := replay.Verdict(ctx, ref, platforms, rules, now)
	if errors.Is(err, replay.ErrRulesUnreadable) {
		out.Skipped++
		return nil
	}
	if err != nil {
		return err
	}
	after, err := replay.Verdict(ctx, ref, platforms, changed, now)
	if err != nil {
		return err
	}
	out.Evaluated++
	out.compare(before, after)
	return nil
}

// compare adds what differs between two verdicts of an image.
func (r *Result) compare(before, after core.Verdict) {
	if verdictpb.SaysTheSame(verdictpb.Message(before), after) {
		return
	}
	r.Changed++
	if before.State != after.State {
		r.States[[2]core.State{before.State, after.State}]++
	}
	for i := range before.Platforms {
		from, to := &before.Platforms[i], &after.Platforms[i]
		if from.State == to.State {
			continue
		}
		r.Flips = append(r.Flips, Flip{
			Image: after.Image, Digest: to.Digest, Platform: to.Platform, From: from.State, To: to.State,
			Reasons: difference(before, after, from.State, to.State, to.Digest),
		})
	}
}

// difference is why the worse of two states is: reasons that the other has not.
func difference(before, after core.Verdict, from, to core.State, platform string) []core.Reason {
	worse, better := after.Reasons, before.Reasons
	if core.Worse(from, to) == from {
		worse, better = before.Reasons, after.Reasons
	}
	var out []core.Reason
	for _, r := range worse {
		if (r.PlatformDigest == platform || r.PlatformDigest == "") && !slices.Contains(better, r) && len(out) < maxReasons {
			out = append(out, r)
		}
	}
	return out
}
