package server

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

const (
	// maxUnreadable is how many images are named that could not be judged.
	maxUnreadable = 20
	// countUnreadable is how many of them are counted.
	countUnreadable = 100_000
)

// GetRollout implements PolicyService.
func (s *Policies) GetRollout(ctx context.Context, req *verifierv1.GetRolloutRequest) (*verifierv1.GetRolloutResponse, error) {
	about, was, err := s.about(ctx, req.GetPolicy())
	if err != nil {
		return nil, err
	}
	// The work is read before what it has done: an image in between counts as waiting.
	work, err := s.Store.Reevaluations(ctx)
	if err != nil {
		return nil, err
	}
	waiting := map[string]int64{}
	for _, w := range work {
		matches, err := policy.Matching(w.Repositories)
		if err != nil {
			matches = func(string) bool { return true } // as when they are judged
		}
		rest, err := s.Store.JudgedIn(ctx, w.After)
		if err != nil {
			return nil, err
		}
		for _, r := range rest {
			if was(r.Repository) && matches(r.Repository) {
				// All works go through the images in the same order, so the one that is behind
				// the others has the images of all of them before it.
				waiting[r.Repository] = max(waiting[r.Repository], r.Count)
			}
		}
	}
	all, err := s.Store.JudgedIn(ctx, imageref.Ref{})
	if err != nil {
		return nil, err
	}
	failed, err := s.Store.Retries(ctx, time.Unix(1<<33, 0), countUnreadable)
	if err != nil {
		return nil, err
	}
	failed = slices.DeleteFunc(failed, func(r store.Retry) bool { return r.Attempts == 0 || !was(r.Image.Name()) })
	unreadable := map[string]bool{}
	for _, r := range failed {
		unreadable[r.Image.Name()] = true
	}
	out := &verifierv1.GetRolloutResponse{UnreadableCount: int64(len(failed))}
	for _, r := range failed[:min(len(failed), maxUnreadable)] {
		out.Unreadable = append(out.Unreadable, &verifierv1.UnreadableImage{
			Image: verdictpb.Image(r.Image), Problem: r.Problem, Attempts: int32(r.Attempts), NextTime: timestamppb.New(r.NextTime),
		})
	}
	for _, r := range all {
		if about(r.Repository) || waiting[r.Repository] > 0 || unreadable[r.Repository] {
			out.WaitingCount += min(waiting[r.Repository], r.Count)
			out.JudgedCount += r.Count
		}
	}
	// One that could not be judged and waits for a later change counts as the former.
	out.WaitingCount = min(out.WaitingCount, max(0, out.JudgedCount-out.UnreadableCount))
	out.JudgedCount = max(0, out.JudgedCount-out.WaitingCount-out.UnreadableCount)
	// Another replica may have judged them, and whoever is told so must not be given an
	// older answer by this one.
	return out, s.CatchUp(ctx)
}

// about tells which images a policy is for now, and which it is for or was for before: a
// change judges the latter again. No name means all.
func (s *Policies) about(ctx context.Context, name string) (now, ever func(repository string) bool, err error) {
	const versionsRead = 100
	if name == "" {
		all, err := policy.Matching(nil)
		return all, all, err
	}
	if !policy.IsName(name) {
		return nil, nil, apierr.InvalidField("policy", "must be 1 to 63 lower-case letters, digits and dashes")
	}
	versions, err := s.Store.PolicyVersions(ctx, name, 0, versionsRead)
	if err != nil {
		return nil, nil, err
	}
	if len(versions) == 0 {
		return nil, nil, refused(store.ErrNotFound, name)
	}
	var matches []func(string) bool
	for i, v := range versions {
		// The version that deleted a policy names no images; the one before does.
		if v.Deleted && i+1 < len(versions) {
			continue
		}
		m, err := policy.Matching(v.Repositories)
		if err != nil {
			return nil, nil, err
		}
		matches = append(matches, m)
	}
	ever = func(repository string) bool {
		return slices.ContainsFunc(matches, func(m func(string) bool) bool { return m(repository) })
	}
	return matches[0], ever, nil
}
