package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
)

// Verdicts is what the signer asks the verifier.
type Verdicts = verifierv1.VerdictServiceClient

// VSA attaches verdicts to their images as SLSA verification summaries, and the
// exceptions that they rest on as OpenVEX documents.
type VSA struct {
	Verdicts Verdicts
	Evidence Attacher
	// VerifierID is the URI that names the verifier in the summaries.
	VerifierID string
	Log        *slog.Logger
}

// Handle handles one event. A verdict that is neither PASS nor FAIL gives nothing
// to sign, and one that has been replaced is left to its own event.
func (h *VSA) Handle(ctx context.Context, e *eventv1.VerdictReachedEvent, _ *eventbus.Delivery) error {
	if s := e.GetState(); s != eventv1.VerdictReachedEvent_STATE_PASS && s != eventv1.VerdictReachedEvent_STATE_FAIL {
		return nil
	}
	image, err := imageOf(e.GetImage())
	if err != nil {
		return eventbus.Permanent(ReasonInvalidEvent, err)
	}
	v, err := h.fetch(ctx, e)
	if err != nil {
		return fmt.Errorf("fetch the verdict: %w", err)
	}
	eventbus.Carry(ctx, int64(proto.Size(v)))
	if v.GetDigest() != e.GetVerdictDigest() {
		h.Log.InfoContext(ctx, "verdict already replaced; its own event follows",
			slog.String("image", image.String()), slog.String("verdict", e.GetVerdictDigest()), slog.String("now", v.GetDigest()))
		return nil
	}
	if err := checkVerdict(e, v); err != nil {
		return fault(err)
	}
	claims, err := core.VSAs(toVerdict(v), image.Name(), h.VerifierID)
	if err != nil {
		return eventbus.Permanent(ReasonVerdictInvalid, err)
	}
	claims = append(claims, core.VEXs(toVerdict(v), image.Name(), h.VerifierID)...)
	bySubject := map[string][]core.Predicate{}
	for _, c := range claims {
		bySubject[c.Digest] = append(bySubject[c.Digest], c.Predicate)
	}
	for _, digest := range slices.Sorted(maps.Keys(bySubject)) {
		if _, err := h.Evidence.Attach(ctx, image.WithDigest(digest), bySubject[digest]); err != nil {
			return fault(fmt.Errorf("attach the verdict to %s: %w", digest, err))
		}
	}
	h.Log.InfoContext(ctx, "verdict attached", slog.String("image", image.String()), slog.String("verdict", v.GetDigest()))
	return nil
}

func (h *VSA) fetch(ctx context.Context, e *eventv1.VerdictReachedEvent) (*verifierv1.Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	i := e.GetImage()
	resp, err := h.Verdicts.GetVerdict(ctx, &verifierv1.GetVerdictRequest{
		Image: &typev1.ImageRef{Registry: i.GetRegistry(), Repository: i.GetRepository(), Digest: i.GetDigest()},
	})
	return resp.GetVerdict(), err
}

// checkVerdict checks that the verdict is the one of the event and that its
// digest is that of its content.
func checkVerdict(e *eventv1.VerdictReachedEvent, v *verifierv1.Verdict) error {
	mismatch := func(format string, a ...any) error {
		return &permanent{reason: ReasonVerdictMismatch, err: fmt.Errorf(format, a...)}
	}
	if v.GetImage().GetDigest() != e.GetImage().GetDigest() {
		return mismatch("the verdict is of %s, the event of %s", v.GetImage().GetDigest(), e.GetImage().GetDigest())
	}
	if int32(v.GetState()) != int32(e.GetState()) {
		return mismatch("the verdict is %s, the event says %s", v.GetState(), e.GetState())
	}
	c := proto.CloneOf(v)
	// The first four are not part of the canonical form; pending is what the
	// verifier adds while a new push of the image is being evaluated.
	c.TraceId, c.Sequence, c.Digest, c.OverdueTime, c.Pending = "", 0, "", nil, false
	canonical, err := canonicalJSON(c)
	if err != nil {
		return err
	}
	got := core.Digest(canonical)
	switch {
	case got == v.GetDigest():
		return nil
	case hasUnknownFields(v):
		return errors.New("the verdict has fields that this signer does not know: upgrade the signer")
	default:
		return mismatch("the verdict has digest %s, its content %s", v.GetDigest(), got)
	}
}

func toVerdict(v *verifierv1.Verdict) core.Verdict {
	out := core.Verdict{
		Digest: v.GetDigest(), ImageDigest: v.GetImage().GetDigest(),
		Outcome: outcome(v.GetState()), EvaluateTime: v.GetEvaluateTime().AsTime(),
	}
	for _, p := range v.GetPlatforms() {
		pv := core.PlatformVerdict{Digest: p.GetDigest(), Outcome: outcome(p.GetState())}
		for _, r := range p.GetPolicies() {
			pv.Policies = append(pv.Policies, core.Policy{Name: r.GetPolicy(), Digest: r.GetPolicyDigest()})
			for _, rule := range r.GetRules() {
				pv.Exceptions = append(pv.Exceptions, rule.GetExceptions()...)
			}
		}
		for _, a := range p.GetInputs().GetAttestations() {
			pv.Inputs = append(pv.Inputs, a.GetManifestDigest())
		}
		out.Platforms = append(out.Platforms, pv)
	}
	for _, x := range v.GetExceptions() {
		out.Exceptions = append(out.Exceptions, core.Exception{
			Name: x.GetName(), Target: x.GetTarget(), PURLs: x.GetPurls(), Owner: x.GetOwner(), Reason: x.GetReason(),
			Ticket: x.GetTicket(), Justification: x.GetJustification(), ExpireTime: x.GetExpireTime().AsTime(),
		})
	}
	return out
}

func outcome(s verifierv1.Verdict_State) core.Outcome {
	switch s {
	case verifierv1.Verdict_STATE_PASS:
		return core.Pass
	case verifierv1.Verdict_STATE_FAIL:
		return core.Fail
	default:
		return core.Unknown
	}
}
