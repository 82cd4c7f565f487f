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
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/warm"
)

// unsoundFor is how long an UNKNOWN is kept ready: a push that another replica
// reported changes it without a verdict that would tell.
const unsoundFor = time.Second

// keptFor is how long any answer is kept ready: when evidence becomes overdue is
// something that another replica may have learned without a change of the verdict. The
// change comes when it is overdue; this bounds what happens if nobody can store it.
const keptFor = time.Minute

// checkRequest reads the image of a request.
func checkRequest(m *typev1.ImageRef) (imageref.Ref, error) {
	ref := verdictpb.Ref(m)
	return ref, invalidRef("image", checkRef(ref))
}

// checkRef checks the image of a request. A digest alone is enough; a tag needs
// registry and repository.
func checkRef(ref imageref.Ref) error {
	switch {
	case ref.Digest == "" && ref.Tag == "":
		return errors.New("a digest or a tag is needed")
	case ref.Registry == "" && ref.Repository == "" && ref.Tag == "":
		return imageref.Ref{Registry: "localhost", Repository: "any", Digest: ref.Digest}.Validate()
	default:
		return ref.Validate()
	}
}

// invalidRef is what checkRef says, as a violation of the part of the field that is at
// fault.
func invalidRef(field string, err error) error {
	if err == nil {
		return nil
	}
	if part, ok := errors.AsType[*imageref.PartError](err); ok {
		field += "." + part.Part
	}
	return apierr.InvalidField(field, err.Error())
}

// question is what a caller wants to know.
type question struct {
	view verifierv1.VerdictView
	// minSequence is that of a change that the answer must have seen.
	minSequence int64
	// environment that asks; empty asks all policies.
	environment string
}

// asking is a request for verdicts.
type asking interface {
	GetView() verifierv1.VerdictView
	GetMinSequence() int64
	GetEnvironment() string
}

// checkQuestion reads how the request asks; unspecified is the view that is meant if it
// names none.
func checkQuestion(req asking, unspecified verifierv1.VerdictView, refs ...imageref.Ref) (question, error) {
	view, minSequence, environment := req.GetView(), req.GetMinSequence(), req.GetEnvironment()
	if _, ok := verifierv1.VerdictView_name[int32(view)]; !ok {
		return question{}, apierr.InvalidField("view", "there is no such view")
	}
	if minSequence < 0 {
		return question{}, apierr.InvalidField("min_sequence", "must not be negative")
	}
	if view == verifierv1.VerdictView_VERDICT_VIEW_UNSPECIFIED {
		view = unspecified
	}
	if environment != "" {
		if !policy.IsName(environment) {
			return question{}, apierr.InvalidField("environment", "must be 1 to 63 lower-case letters, digits and dashes")
		}
		for _, ref := range refs {
			if err := checkEnvironment(environment, ref); err != nil {
				return question{}, apierr.InvalidField("environment", err.Error())
			}
		}
	}
	return question{view: view, minSequence: minSequence, environment: environment}, nil
}

// checkEnvironment checks an image that an environment asks about. Of several
// repositories the worst answer is chosen by all policies, not by those of one environment.
func checkEnvironment(environment string, ref imageref.Ref) error {
	if environment != "" && ref.Repository == "" {
		return errors.New("with an environment every image needs registry and repository")
	}
	return nil
}

// viewOf is the view that the answer to a question about an image has.
func (q question) viewOf(ref imageref.Ref) verifierv1.VerdictView {
	if q.view == verifierv1.VerdictView_VERDICT_VIEW_DECISION && (ref.Digest == "" || ref.Repository == "") {
		// Who asks does not know yet which image it is.
		return verifierv1.VerdictView_VERDICT_VIEW_BASIC
	}
	return q.view
}

// answers gives the encoded answer to each image, in the order asked: from memory
// where it is kept ready, the rest in one query.
func (s *Verdicts) answers(ctx context.Context, refs []imageref.Ref, q question) ([][]byte, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	out := make([][]byte, len(refs))
	scratch := s.keysFor(len(refs))
	defer s.keys.Put(scratch)
	keys := *scratch
	tags := false
	for i := range refs {
		keys[i] = warm.Key{
			Registry: refs[i].Registry, Repository: refs[i].Repository, Digest: refs[i].Digest, View: int32(q.viewOf(refs[i])), Environment: q.environment,
		}
		tags = tags || refs[i].Digest == ""
	}
	if tags {
		digests, known, err := s.resolveTags(ctx, refs)
		if err != nil {
			return nil, err
		}
		for i := range refs {
			keys[i].Digest = digests[i].Digest
			if known[i] == nil {
				continue
			}
			if out[i], err = encode(known[i], verifierv1.VerdictView(keys[i].View)); err != nil {
				return nil, err
			}
		}
	}
	// No answer is kept to a key without a digest.
	s.cache.Get(keys, q.minSequence, func(i int, body []byte) { out[i] = body })
	var (
		missing []warm.Key
		where   []int
	)
	for i, body := range out {
		if body == nil {
			missing, where = append(missing, keys[i]), append(where, i)
		}
	}
	if len(missing) == 0 {
		return out, nil
	}
	read, err := s.cache.Load(ctx, missing, s.read)
	if err != nil {
		return nil, err
	}
	for i, a := range read {
		out[where[i]] = a.Body
	}
	return out, nil
}

// keysFor takes keys from those that were used before; nothing keeps them beyond the
// call, the cache has its own.
func (s *Verdicts) keysFor(n int) *[]warm.Key {
	scratch, ok := s.keys.Get().(*[]warm.Key)
	if !ok || cap(*scratch) < n {
		made := make([]warm.Key, n)
		return &made
	}
	*scratch = (*scratch)[:n]
	return scratch
}

// resolveTags gives every image its digest. Where that is not known there is an
// answer already.
func (s *Verdicts) resolveTags(ctx context.Context, refs []imageref.Ref) ([]imageref.Ref, []*verifierv1.Verdict, error) {
	known := make([]*verifierv1.Verdict, len(refs))
	var (
		tags  []imageref.Ref
		where []int
	)
	for i, ref := range refs {
		if ref.Digest == "" {
			tags, where = append(tags, ref), append(where, i)
		}
	}
	if len(tags) == 0 {
		return refs, known, nil
	}
	found, err := s.store.ResolveTags(ctx, tags)
	if err != nil {
		return nil, nil, err
	}
	out := append([]imageref.Ref(nil), refs...)
	for n, tag := range found {
		i := where[n]
		switch {
		case tag == nil:
			known[i] = s.unjudged(refs[i], core.CodeNeverSeen, "tag never pushed")
		case tag.Digest != "":
			out[i] = refs[i].WithDigest(tag.Digest)
		case tag.Problem != "":
			known[i] = s.unjudged(refs[i], core.CodePipelineFailed, tag.Problem)
		default:
			known[i] = s.pending(refs[i])
		}
	}
	return out, known, nil
}

// read reads answers from the database.
func (s *Verdicts) read(ctx context.Context, keys []warm.Key) ([]warm.Answer, error) {
	refs := make([]imageref.Ref, 0, len(keys))
	for _, k := range keys {
		refs = append(refs, imageref.Ref{Registry: k.Registry, Repository: k.Repository, Digest: k.Digest})
	}
	now := s.now()
	found, err := s.store.Lookup(ctx, refs, now)
	if err != nil {
		return nil, err
	}
	out := make([]warm.Answer, 0, len(keys))
	for n, i := range found {
		a, err := s.encoded(refs[n], i, question{view: verifierv1.VerdictView(keys[n].View), environment: keys[n].Environment}, now)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// encoded is the answer about an image in the form that it is sent and kept in.
func (s *Verdicts) encoded(ref imageref.Ref, i *store.Image, q question, now time.Time) (warm.Answer, error) {
	if q.environment == "" && i != nil && i.Latest != nil && i.Latest.State != core.StateUnknown && q.view == verifierv1.VerdictView_VERDICT_VIEW_FULL &&
		(i.ExpireTime.IsZero() || now.Before(i.ExpireTime)) && i.OverdueTime.IsZero() {
		// What is stored is what is sent.
		r := i.Latest
		return warm.Answer{Body: verdictpb.AppendStored(nil, r.Body, r.Sequence, r.Digest, r.TraceID), Until: first(i.Until, now.Add(keptFor))}, nil
	}
	v, err := s.answer(ref, i, q.environment, now)
	if err != nil {
		return warm.Answer{}, err
	}
	a := warm.Answer{}
	if a.Body, err = encode(v, q.view); err != nil {
		return warm.Answer{}, err
	}
	a.Until = now.Add(keptFor)
	if i != nil {
		a.Until = first(i.Until, a.Until)
	}
	if v.GetState() == verifierv1.Verdict_STATE_UNKNOWN {
		a.Until = first(a.Until, now.Add(unsoundFor))
	}
	return a, nil
}

// first is the earlier of two times; a zero time is none.
func first(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// encode gives a verdict the form that it is sent in; v is the caller's no more.
func encode(v *verifierv1.Verdict, view verifierv1.VerdictView) ([]byte, error) {
	if o := v.GetOverdueTime(); o != nil && view != verifierv1.VerdictView_VERDICT_VIEW_FULL &&
		(v.GetExpireTime() == nil || o.AsTime().Before(v.GetExpireTime().AsTime())) {
		v.ExpireTime = o
	}
	switch view {
	case verifierv1.VerdictView_VERDICT_VIEW_DECISION:
		v = &verifierv1.Verdict{
			State: v.GetState(), Reasons: v.GetReasons(), ExpireTime: v.GetExpireTime(), Digest: v.GetDigest(),
			Sequence: v.GetSequence(), Pending: v.GetPending(), Environment: v.GetEnvironment(), OverdueTime: v.GetOverdueTime(),
		}
	case verifierv1.VerdictView_VERDICT_VIEW_BASIC:
		v.Platforms, v.Exceptions, v.Vex = nil, nil, nil
	default: // everything
	}
	return verdictpb.AppendField(nil, v)
}

// lookup reads the answer about one image from the database.
func (s *Verdicts) lookup(ctx context.Context, ref imageref.Ref, environment string) (*verifierv1.Verdict, error) {
	refs, known, err := s.resolveTags(ctx, []imageref.Ref{ref})
	if err != nil {
		return nil, err
	}
	if known[0] != nil {
		return known[0], nil
	}
	now := s.now()
	found, err := s.store.Lookup(ctx, refs, now)
	if err != nil {
		return nil, err
	}
	return s.answer(refs[0], found[0], environment, now)
}

// answer says what is known of an image: whatever is not a sound verdict is UNKNOWN.
func (s *Verdicts) answer(ref imageref.Ref, i *store.Image, environment string, now time.Time) (*verifierv1.Verdict, error) {
	if i == nil {
		return s.unjudged(ref, core.CodeNeverSeen, "image never pushed"), nil
	}
	waiting := !i.Pending.IsZero()
	if i.Latest == nil {
		ref := imageref.Ref{Registry: i.Registry, Repository: i.Repository, Digest: i.Digest}
		if waiting {
			return s.pending(ref), nil
		}
		return s.unjudged(ref, core.CodeNeverSeen, "no verdict was reached"), nil
	}
	v, err := served(i.Latest, environment, now)
	if err != nil {
		return nil, err
	}
	if waiting && v.GetState() == verifierv1.Verdict_STATE_UNKNOWN {
		// Another push is on its way and may bring a better answer.
		v.Pending, v.Digest = true, ""
	}
	return v, nil
}

// served is a stored verdict as it is given out to an environment at a time: never
// past its end, nor on evidence that is overdue.
func served(r *store.Record, environment string, now time.Time) (*verifierv1.Verdict, error) {
	v, err := verdictpb.Decode(r.Body, r.Sequence, r.Digest, r.TraceID)
	if err != nil {
		return nil, err
	}
	v = verdictpb.ForEnvironment(v, environment)
	overdue := !r.OverdueTime.IsZero() && !now.Before(r.OverdueTime)
	if end := v.GetExpireTime(); end != nil && !now.Before(end.AsTime()) {
		unsound(v, core.Reason{Code: core.CodeExpired, Message: fmt.Sprintf("the verdict was %s and ended at %s: push or scan the image again",
			core.State(v.GetState()), end.AsTime().Format(time.RFC3339))})
	}
	switch {
	case overdue && !says(v, core.CodeEvidenceOverdue):
		unsound(v, core.Reason{Code: core.CodeEvidenceOverdue, Message: fmt.Sprintf(
			"the verdict was %s, but a newer scan report differs and should have been judged by %s",
			r.State, r.OverdueTime.UTC().Format(time.RFC3339))})
	case !overdue && !r.OverdueTime.IsZero():
		v.OverdueTime = timestamppb.New(r.OverdueTime)
	}
	return v, nil
}

// unsound makes an UNKNOWN out of a stored verdict, which is no longer what was
// recorded.
func unsound(v *verifierv1.Verdict, why core.Reason) {
	v.State, v.Digest = verifierv1.Verdict_STATE_UNKNOWN, ""
	v.Reasons = append([]*verifierv1.Reason{verdictpb.Reason(why)}, v.GetReasons()...)
	v.Reasons = v.Reasons[:min(len(v.Reasons), core.MaxReasons)]
}

func says(v *verifierv1.Verdict, code core.Code) bool {
	return len(v.GetReasons()) > 0 && v.GetReasons()[0].GetCode() == string(code)
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
	v := s.unjudged(ref, core.CodePending, "evaluation pending: there is no verdict yet")
	v.Pending = true
	return v
}

// settled tells whether waiting will bring nothing better. An image that was
// never seen may have been pushed this very moment.
func settled(v *verifierv1.Verdict) bool {
	return !v.GetPending() && (len(v.GetReasons()) == 0 || v.GetReasons()[0].GetCode() != string(core.CodeNeverSeen))
}
