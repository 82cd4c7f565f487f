// Package verdictpb maps verdicts between the core and the wire, and gives each
// verdict its canonical form and digest.
//
// The canonical form is protojson without white space and without trace_id,
// sequence, digest and overdue_time, as seaworthy.verifier.v1.Verdict promises: whoever holds
// the message can compute the digest again.
package verdictpb

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// Numbers of fields that are written without their message; a test compares them
// with the descriptors.
const (
	responseVerdict protowire.Number = 1
	verdictDigest   protowire.Number = 7
	verdictTraceID  protowire.Number = 8
	verdictSequence protowire.Number = 9
)

// Canonical returns the canonical form of a verdict.
func Canonical(v *verifierv1.Verdict) ([]byte, error) {
	c := proto.CloneOf(v)
	c.TraceId, c.Sequence, c.Digest, c.OverdueTime = "", 0, "", nil
	loose, err := protojson.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("marshal verdict: %w", err)
	}
	// protojson varies its white space on purpose.
	var b bytes.Buffer
	if err := json.Compact(&b, loose); err != nil {
		return nil, fmt.Errorf("compact verdict: %w", err)
	}
	return b.Bytes(), nil
}

// Digest returns the digest of a verdict's canonical form.
func Digest(v *verifierv1.Verdict) (string, error) {
	b, err := Canonical(v)
	if err != nil {
		return "", err
	}
	return sum(b), nil
}

// ChangeKey identifies what a verdict says, apart from when it was said and
// which tag led there. Two verdicts with one key are the same verdict to
// everybody who waits for changes.
func ChangeKey(v *verifierv1.Verdict) (string, error) {
	return Digest(said(proto.CloneOf(v)))
}

// SaysTheSame tells whether a recorded verdict and one that was just made have the
// same ChangeKey, in a fraction of the time.
func SaysTheSame(recorded *verifierv1.Verdict, made core.Verdict) bool {
	a, b := said(proto.CloneOf(recorded)), said(Message(made))
	a.TraceId, a.Sequence, a.Digest = "", 0, ""
	// A verdict has no maps: equal messages have equal bytes, which are quicker to compare.
	options := proto.MarshalOptions{Deterministic: true}
	x, err := options.Marshal(a)
	if err != nil {
		return false
	}
	y, err := options.Marshal(b)
	return err == nil && bytes.Equal(x, y)
}

// said leaves of a verdict what it says.
func said(c *verifierv1.Verdict) *verifierv1.Verdict {
	c.EvaluateTime = nil
	for _, p := range c.GetPlatforms() {
		// What else was looked at without changing what is said.
		if in := p.GetInputs(); in != nil {
			in.EvidenceDigest, in.PolicyDigests, in.ExceptionDigests, in.VexDigests = "", nil, nil, nil
		}
		// Another wording of a policy that comes to the same is no news.
		for _, r := range p.GetPolicies() {
			r.PolicyDigest = ""
		}
	}
	if c.Image != nil {
		c.Image.Tag = ""
	}
	return c
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(s[:])
}

// FromCore maps a verdict to its message and fills in the digest.
func FromCore(v core.Verdict) (*verifierv1.Verdict, error) {
	m := Message(v)
	digest, err := Digest(m)
	if err != nil {
		return nil, err
	}
	m.Digest = digest
	return m, nil
}

// Message maps a verdict without its digest.
func Message(v core.Verdict) *verifierv1.Verdict {
	m := &verifierv1.Verdict{
		Image:        Image(v.Image),
		State:        verifierv1.Verdict_State(v.State),
		EvaluateTime: timestamp(v.EvaluateTime),
		ExpireTime:   timestamp(v.ExpireTime),
	}
	for _, r := range v.Reasons {
		m.Reasons = append(m.Reasons, Reason(r))
	}
	for _, p := range v.Platforms {
		m.Platforms = append(m.Platforms, platform(p))
	}
	for _, e := range v.Exceptions {
		m.Exceptions = append(m.Exceptions, &verifierv1.ExceptionUse{
			Name: e.Name, Digest: e.Digest, Target: e.Target, Owner: e.Owner, Reason: e.Reason, ExpireTime: timestamp(e.ExpireTime),
			Purls: e.Purls, Justification: e.Justification, Ticket: e.Ticket,
		})
	}
	for _, u := range v.VEX {
		m.Vex = append(m.Vex, &verifierv1.VexUse{
			Vulnerability: u.Vulnerability, Purl: u.Purl, Status: u.Status, Justification: u.Justification, ImpactStatement: u.Impact,
			Author: u.Author, DocumentDigest: u.Document, StatementTime: timestamp(u.Time),
		})
	}
	m.VexCount = int32(v.VEXCount)
	return m
}

// Image maps a reference.
func Image(r imageref.Ref) *typev1.ImageRef {
	return &typev1.ImageRef{Registry: r.Registry, Repository: r.Repository, Tag: r.Tag, Digest: r.Digest}
}

// Ref maps a reference back. A nil message gives the zero reference.
func Ref(m *typev1.ImageRef) imageref.Ref {
	return imageref.Ref{Registry: m.GetRegistry(), Repository: m.GetRepository(), Tag: m.GetTag(), Digest: m.GetDigest()}
}

// Reason maps a reason.
func Reason(r core.Reason) *verifierv1.Reason {
	return &verifierv1.Reason{
		Code: string(r.Code), Message: r.Message, Policy: r.Policy, Rule: r.Rule, PlatformDigest: r.PlatformDigest,
	}
}

func platform(p core.PlatformVerdict) *verifierv1.PlatformVerdict {
	m := &verifierv1.PlatformVerdict{
		Digest:  p.Digest,
		State:   verifierv1.Verdict_State(p.State),
		Unsound: p.Unsound,
		Inputs: &verifierv1.Inputs{
			AdvisorySnapshotDigest: p.Inputs.AdvisoryDigest,
			AdvisoryDataTime:       timestamp(p.Inputs.AdvisoryTime),
			EvidenceDigest:         p.Inputs.EvidenceDigest,
			PolicyDigests:          p.Inputs.PolicyDigests,
			ExceptionDigests:       p.Inputs.ExceptionDigests,
			VexDigests:             p.Inputs.VexDigests,
		},
	}
	if p.Platform != (core.Platform{}) {
		m.Platform = &typev1.Platform{Os: p.Platform.OS, Architecture: p.Platform.Architecture, Variant: p.Platform.Variant}
	}
	for _, a := range p.Inputs.Attestations {
		m.Inputs.Attestations = append(m.Inputs.Attestations, &verifierv1.EvidenceRef{
			PredicateType: a.PredicateType, ManifestDigest: a.ManifestDigest, KeyId: a.KeyID, SignTime: timestamp(a.SignTime),
		})
	}
	for _, pol := range p.Policies {
		pr := &verifierv1.PolicyResult{Policy: pol.Policy, PolicyDigest: pol.Digest, State: verifierv1.Verdict_State(pol.State), Environments: pol.Environments}
		for _, r := range pol.Rules {
			pr.Rules = append(pr.Rules, &verifierv1.RuleResult{
				Rule: r.Rule, Outcome: verifierv1.RuleResult_Outcome(r.Outcome), Message: r.Message,
				Control: r.Control, Items: r.Items, ItemCount: int32(r.ItemCount), Exceptions: r.Exceptions,
			})
		}
		m.Policies = append(m.Policies, pr)
	}
	return m
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Encode returns the bytes that a verdict is stored as: the message without what
// the store keeps beside it.
func Encode(v *verifierv1.Verdict) ([]byte, error) {
	c := proto.CloneOf(v)
	c.TraceId, c.Sequence, c.Digest = "", 0, ""
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode verdict: %w", err)
	}
	return b, nil
}

// Decode gives a stored verdict back, with what the store keeps beside it.
func Decode(body []byte, sequence int64, digest, traceID string) (*verifierv1.Verdict, error) {
	v := &verifierv1.Verdict{}
	if err := proto.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("decode verdict %d: %w", sequence, err)
	}
	v.Sequence, v.Digest, v.TraceId = sequence, digest, traceID
	return v, nil
}

// AppendField appends a verdict as field 1 of a message, which it is in the
// responses of GetVerdict and BatchGetVerdicts.
func AppendField(b []byte, v *verifierv1.Verdict) ([]byte, error) {
	b = protowire.AppendTag(b, responseVerdict, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(proto.Size(v)))
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, v)
	if err != nil {
		return nil, fmt.Errorf("encode verdict: %w", err)
	}
	return b, nil
}

// AppendStored is AppendField of what Decode would give, without decoding it.
func AppendStored(b, body []byte, sequence int64, digest, traceID string) []byte {
	var beside []byte
	for _, f := range []struct {
		number protowire.Number
		value  string
	}{{verdictDigest, digest}, {verdictTraceID, traceID}} {
		if f.value != "" {
			beside = protowire.AppendTag(beside, f.number, protowire.BytesType)
			beside = protowire.AppendString(beside, f.value)
		}
	}
	if sequence != 0 {
		beside = protowire.AppendTag(beside, verdictSequence, protowire.VarintType)
		beside = protowire.AppendVarint(beside, uint64(sequence))
	}
	b = protowire.AppendTag(b, responseVerdict, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(body)+len(beside)))
	return append(append(b, body...), beside...)
}
