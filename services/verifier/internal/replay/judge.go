// Package replay makes verdicts together with the record of what they were made
// from, and makes them again from that record.
package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/exception"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
)

// Rules are what images are judged by at a time.
type Rules struct {
	Policies   []policy.Policy
	Exceptions []Exception
	// VEX are the imported documents; SetVex sets it.
	VEX []Vex
	vex core.VexIndex
	// onVexMismatch, if set, is told of VEX statements without effect.
	onVexMismatch func(core.VexMismatch)
	// Trust is the fingerprint of the trust roots that images are judged by; empty if it
	// is not known.
	Trust string
	// Revision of the store's rules that these are.
	Revision int64
	// Unreadable are stored rules that are missing in these.
	Unreadable []Unreadable
}

// ErrRulesUnreadable says that an image cannot be judged because a rule that may be for
// it cannot be read.
var ErrRulesUnreadable = errors.New("this release cannot read a rule that may be for the image")

// Unreadable is a stored rule that this release cannot read: one that a newer release
// wrote, or one that is damaged.
type Unreadable struct {
	// Rule names it, for people.
	Rule string
	Err  error
	// Matches tells for which repositories, as registry/repository, it may be; nil is all.
	Matches func(repository string) bool
}

// CheckReadable returns ErrRulesUnreadable if a rule that may be for the image is missing.
func (r *Rules) CheckReadable(image imageref.Ref) error {
	for i := range r.Unreadable {
		if u := &r.Unreadable[i]; u.Matches == nil || u.Matches(image.Name()) {
			return fmt.Errorf("%w: %s: %w", ErrRulesUnreadable, u.Rule, u.Err)
		}
	}
	return nil
}

// Exception is an exception with the document that it is recorded as.
type Exception struct {
	core.Exception
	Document []byte
}

// Vex is an imported VEX document with the form that it is recorded in.
type Vex struct {
	core.VexDocument
	Document []byte
}

// SetVex sets the imported documents.
func (r *Rules) SetVex(all []Vex) {
	documents := make([]core.VexDocument, 0, len(all))
	for _, v := range all {
		documents = append(documents, v.VexDocument)
	}
	r.VEX, r.vex = all, core.NewVexIndex(documents)
}

// NewException makes an exception out of its recorded form.
func NewException(document []byte) (Exception, error) {
	e, err := exception.DecodeStrict(document)
	if err != nil {
		return Exception{}, err
	}
	c, err := e.Core()
	if err != nil {
		return Exception{}, err
	}
	return Exception{Exception: c, Document: document}, nil
}

// Judged is a verdict with the documents that it can be made again from.
type Judged struct {
	Verdict   core.Verdict
	Documents []record.Document
}

// Seen are the parts of evidence that the policies look at.
func (r *Rules) Seen() core.Parts { return core.Seen(policy.Core(r.Policies)) }

// Verdict makes the verdict of an image and records nothing.
func Verdict(ctx context.Context, image imageref.Ref, platforms []core.PlatformEvidence, rules Rules, now time.Time) (core.Verdict, error) {
	if err := rules.CheckReadable(image); err != nil {
		return core.Verdict{}, err
	}
	in := core.Input{Image: image, Platforms: platforms, Policies: policy.Core(rules.Policies), VEX: rules.vex, Now: now, OnVexMismatch: rules.onVexMismatch}
	for _, e := range rules.Exceptions {
		in.Exceptions = append(in.Exceptions, e.Exception)
	}
	return core.Judge(ctx, in)
}

// Judge makes the verdict of an image and records its inputs.
func Judge(ctx context.Context, image imageref.Ref, platforms []core.PlatformEvidence, rules Rules, now time.Time) (Judged, error) {
	v, err := Verdict(ctx, image, platforms, rules, now)
	if err != nil {
		return Judged{}, err
	}
	return Record(v, platforms, rules)
}

// Record makes the documents that a verdict can be made again from. It fills in the
// digests of the evidence.
func Record(v core.Verdict, platforms []core.PlatformEvidence, rules Rules) (Judged, error) {
	out := Judged{Verdict: v}
	for i := range platforms {
		d, err := record.PackEvidence(platforms[i])
		if err != nil {
			return Judged{}, err
		}
		out.Verdict.Platforms[i].Inputs.EvidenceDigest = d.Digest
		out.Documents = append(out.Documents, d)
	}
	err := out.keep(rules)
	return out, err
}

// RecordAgain is Record for a verdict by the evidence of another one, which has it
// recorded already.
func RecordAgain(v core.Verdict, recorded *verifierv1.Verdict, rules Rules) (Judged, error) {
	out := Judged{Verdict: v}
	for i, p := range recorded.GetPlatforms() {
		out.Verdict.Platforms[i].Inputs.EvidenceDigest = p.GetInputs().GetEvidenceDigest()
	}
	err := out.keep(rules)
	return out, err
}

// keep adds the documents of the rules that the verdict was made by.
func (j *Judged) keep(rules Rules) error {
	used := map[string]bool{}
	for i := range j.Verdict.Platforms {
		inputs := &j.Verdict.Platforms[i].Inputs
		for _, p := range inputs.PolicyDigests {
			used[p] = true
		}
		for _, e := range inputs.ExceptionDigests {
			used[e] = true
		}
		for _, x := range inputs.VexDigests {
			used[x] = true
		}
	}
	keep := func(digest string, content []byte) error {
		if !used[digest] {
			return nil
		}
		d, err := record.Pack(content)
		if err != nil {
			return err
		}
		j.Documents = append(j.Documents, d)
		return nil
	}
	for i := range rules.Policies {
		if err := keep(rules.Policies[i].Digest, []byte(rules.Policies[i].Document)); err != nil {
			return err
		}
	}
	for i := range rules.Exceptions {
		if err := keep(rules.Exceptions[i].Digest, rules.Exceptions[i].Document); err != nil {
			return err
		}
	}
	for i := range rules.VEX {
		if err := keep(rules.VEX[i].Digest, rules.VEX[i].Document); err != nil {
			return err
		}
	}
	return nil
}
