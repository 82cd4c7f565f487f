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
	about, err := s.about(ctx, req.GetPolicy())
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
			if about(r.Repository) && matches(r.Repository) {
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
	failed = slices.DeleteFunc(failed, func(r store.Retry) bool { return r.Attempts == 0 || !about(r.Image.Name()) })
	out := &verifierv1.GetRolloutResponse{UnreadableCount: int64(len(failed))}
	for _, r := range failed[:min(len(failed), maxUnreadable)] {
		out.Unreadable = append(out.Unreadable, &verifierv1.UnreadableImage{
			Image: verdictpb.Image(r.Image), Problem: r.Problem, Attempts: int32(r.Attempts), NextTime: timestamppb.New(r.NextTime),
		})
	}
	for _, r := range all {
		if about(r.Repository) {
			out.WaitingCount += min(waiting[r.Repository], r.Count)
			out.JudgedCount += r.Count
		}
	}
	// One that could not be judged and waits for a later change counts as the former.
	out.WaitingCount = min(out.WaitingCount, max(0, out.JudgedCount-out.UnreadableCount))
	out.JudgedCount = max(0, out.JudgedCount-out.WaitingCount-out.UnreadableCount)
	return out, nil
}

// about tells which images a policy is for; no name means all.
func (s *Policies) about(ctx context.Context, name string) (func(repository string) bool, error) {
	if name == "" {
		return policy.Matching(nil)
	}
	if !policy.IsName(name) {
		return nil, apierr.InvalidField("policy", "must be 1 to 63 lower-case letters, digits and dashes")
	}
	// The version that deleted a policy names no images; the one before does.
	versions, err := s.Store.PolicyVersions(ctx, name, 0, 2)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		return nil, refused(store.ErrNotFound, name)
	}
	v := versions[0]
	if v.Deleted && len(versions) > 1 {
		v = versions[1]
	}
	return policy.Matching(v.Repositories)
}
