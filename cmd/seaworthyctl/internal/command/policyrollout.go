package command

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
)

const (
	// rolloutWait is how long a change of a policy waits for the images to be judged.
	rolloutWait = 30 * time.Second
	// rolloutPoll is the time between two looks.
	rolloutPoll = 250 * time.Millisecond
)

// rollout counts the images of a policy by how far the verifier has come with them.
type rollout struct {
	Judged     int64        `json:"judged"`
	Unreadable int64        `json:"unreadable"`
	Waiting    int64        `json:"waiting"`
	Images     []unreadable `json:"unreadable_images,omitempty"`
}

// unreadable is an image that could not be judged by the rules in force.
type unreadable struct {
	Image   string `json:"image"`
	Problem string `json:"problem"`
}

// getRollout asks how far the images of a policy are judged; nil if the verifier is of an
// earlier release.
func getRollout(ctx context.Context, client verifierv1.PolicyServiceClient, policy string) (*rollout, error) {
	resp, err := client.GetRollout(ctx, &verifierv1.GetRolloutRequest{Policy: policy})
	if status.Code(err) == codes.Unimplemented {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &rollout{Judged: resp.GetJudgedCount(), Unreadable: resp.GetUnreadableCount(), Waiting: resp.GetWaitingCount()}
	for _, u := range resp.GetUnreadable() {
		r.Images = append(r.Images, unreadable{Image: fullName(u.GetImage()), Problem: u.GetProblem()})
	}
	return r, nil
}

// waitRollout waits a while for the images of a policy to be judged.
func waitRollout(ctx context.Context, client verifierv1.PolicyServiceClient, policy string) (*rollout, error) {
	until := time.Now().Add(rolloutWait)
	for {
		r, err := getRollout(ctx, client, policy)
		if err != nil || r == nil || r.Waiting == 0 || time.Now().After(until) {
			return r, err
		}
		select {
		case <-time.After(rolloutPoll):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// noteRollout says beside the output how far it is.
func (s *session) noteRollout(r *rollout) {
	if r == nil {
		return
	}
	s.notef("images judged by the rules in force: %d; could not be judged (UNKNOWN, tried again): %d; waiting: %d", r.Judged, r.Unreadable, r.Waiting)
	for _, u := range r.Images {
		s.notef("  not judged: %s: %s", u.Image, output.Cut(u.Problem, maxMessage))
	}
}

func (s *session) printRollout(r *rollout) error {
	if r == nil {
		return nil
	}
	lines := []string{fmt.Sprintf("images judged by the rules in force: %d; could not be judged (UNKNOWN, tried again): %d; waiting: %d", r.Judged, r.Unreadable, r.Waiting)}
	for _, u := range r.Images {
		lines = append(lines, fmt.Sprintf("  not judged: %s: %s", u.Image, output.Cut(u.Problem, maxMessage)))
	}
	return s.printLines(lines)
}
