package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

// checkRequest reads the image of a request. A digest alone is enough; a tag needs
// registry and repository.
func checkRequest(field string, m *typev1.ImageRef) (imageref.Ref, error) {
	ref := verdictpb.Ref(m)
	switch {
	case ref.Digest == "" && ref.Tag == "":
		return ref, apierr.InvalidField(field, "a digest or a tag is needed")
	case ref.Registry == "" && ref.Repository == "" && ref.Tag == "":
		if err := imageref.CheckDigest(ref.Digest); err != nil {
			return ref, apierr.InvalidField(field+".digest", err.Error())
		}
	default:
		if err := ref.Validate(); err != nil {
			return ref, apierr.InvalidField(field, err.Error())
		}
	}
	return ref, nil
}

// lookup answers for one image: whatever is not a sound verdict is UNKNOWN.
func (s *Verdicts) lookup(ctx context.Context, ref imageref.Ref) (*verifierv1.Verdict, error) {
	if ref.Digest == "" {
		digest, problem, err := s.store.ResolveTag(ctx, ref)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return s.unjudged(ref, core.CodeNeverSeen, "no push of this tag was heard of"), nil
		case err != nil:
			return nil, err
		case digest != "":
			ref = ref.WithDigest(digest)
		case problem != "":
			return s.unjudged(ref, core.CodePipelineFailed, problem), nil
		default:
			return s.pending(ref), nil
		}
	}
	images, err := s.store.Images(ctx, ref)
	if err != nil {
		return nil, err
	}
	var worst *verifierv1.Verdict
	for i := range images {
		v, err := s.answer(&images[i])
		if err != nil {
			return nil, err
		}
		if worst == nil || worse(v, worst) {
			worst = v
		}
	}
	if worst == nil {
		return s.unjudged(ref, core.CodeNeverSeen, "no push of this image was heard of"), nil
	}
	return worst, nil
}

func worse(a, b *verifierv1.Verdict) bool {
	x, y := core.State(a.GetState()), core.State(b.GetState())
	return x != y && core.Worse(x, y) == x
}

// answer gives what is known of an image in one repository.
func (s *Verdicts) answer(i *store.Image) (*verifierv1.Verdict, error) {
	waiting := !i.Pending.IsZero()
	if i.Latest == nil {
		ref := imageref.Ref{Registry: i.Registry, Repository: i.Repository, Digest: i.Digest}
		if waiting {
			return s.pending(ref), nil
		}
		return s.unjudged(ref, core.CodeNeverSeen, "no verdict was reached"), nil
	}
	v, err := s.served(i.Latest)
	if err != nil {
		return nil, err
	}
	if waiting && v.GetState() == verifierv1.Verdict_STATE_UNKNOWN {
		// Another push is on its way and may bring a better answer.
		v.Pending, v.Digest = true, ""
	}
	return v, nil
}

// served is a stored verdict as it is given out now: never past its end.
func (s *Verdicts) served(r *store.Record) (*verifierv1.Verdict, error) {
	v, err := verdictpb.Decode(r.Body, r.Sequence, r.Digest, r.TraceID)
	if err != nil {
		return nil, err
	}
	end := v.GetExpireTime()
	if end == nil || s.now().Before(end.AsTime()) {
		return v, nil
	}
	was := core.State(v.GetState())
	e := core.Reason{Code: core.CodeExpired, Message: fmt.Sprintf("the verdict was %s and ended at %s: push or scan the image again",
		was, end.AsTime().Format(time.RFC3339))}
	v.State = verifierv1.Verdict_STATE_UNKNOWN
	v.Reasons = append([]*verifierv1.Reason{verdictpb.Reason(e)}, v.GetReasons()...)
	v.Reasons = v.Reasons[:min(len(v.Reasons), core.MaxReasons)]
	// It is no longer what was recorded.
	v.Digest = ""
	return v, nil
}

func (s *Verdicts) unjudged(ref imageref.Ref, code core.Code, message string) *verifierv1.Verdict {
	return &verifierv1.Verdict{
		Image:        verdictpb.Image(ref),
		State:        verifierv1.Verdict_STATE_UNKNOWN,
		Reasons:      []*verifierv1.Reason{verdictpb.Reason(core.Reason{Code: code, Message: message})},
		EvaluateTime: timestamppb.New(s.now()),
	}
}

func (s *Verdicts) pending(ref imageref.Ref) *verifierv1.Verdict {
	v := s.unjudged(ref, core.CodePending, "the image is on its way; there is no verdict yet")
	v.Pending = true
	return v
}

// settled tells whether waiting will bring nothing better. An image that was
// never seen may have been pushed this very moment.
func settled(v *verifierv1.Verdict) bool {
	return !v.GetPending() && (len(v.GetReasons()) == 0 || v.GetReasons()[0].GetCode() != string(core.CodeNeverSeen))
}
