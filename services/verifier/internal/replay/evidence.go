package replay

import (
	"context"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
)

// maxAhead is how much is read ahead, in bytes as they are stored.
const maxAhead = 16 << 20

// Evidence returns the recorded evidence of a verdict's platforms, in their order,
// and the digests of what is missing of it. Parts that are not wanted may be missing
// too. It is shared: callers do not change it.
func (r *Replayer) Evidence(ctx context.Context, recorded *verifierv1.Verdict, want core.Parts) (platforms []core.PlatformEvidence, missing []string, err error) {
	l := loading{replayer: r, seen: map[string]bool{}}
	platforms, err = l.evidence(ctx, recorded, func(ctx context.Context, digest string) (core.PlatformEvidence, bool, error) {
		return l.decoded(ctx, digest, want)
	})
	return platforms, l.missing, err
}

// Ahead reads the evidence of a few verdicts at once, as much of it as is kept in
// memory at a time, and returns a Replayer for them.
func (r *Replayer) Ahead(ctx context.Context, verdicts []*verifierv1.Verdict, want core.Parts) (*Replayer, error) {
	var digests []string
	seen := map[string]bool{"": true}
	for _, v := range verdicts {
		for _, p := range v.GetPlatforms() {
			d := p.GetInputs().GetEvidenceDigest()
			if seen[d] {
				continue
			}
			seen[d] = true
			if _, ok := r.kept(d, want); !ok {
				digests = append(digests, d)
			}
		}
	}
	read, err := r.Documents.Documents(ctx, digests, maxAhead)
	if err != nil {
		return nil, err
	}
	out := *r
	out.Documents = ahead{rest: r.Documents, read: read}
	return &out, nil
}

// ahead has some documents already.
type ahead struct {
	rest Documents
	read map[string]record.Document
}

// Document implements Documents.
func (a ahead) Document(ctx context.Context, digest string) (record.Document, error) {
	if d, ok := a.read[digest]; ok {
		return d, nil
	}
	return a.rest.Document(ctx, digest)
}

// Documents implements Documents.
func (a ahead) Documents(ctx context.Context, digests []string, limit int64) (map[string]record.Document, error) {
	return a.rest.Documents(ctx, digests, limit)
}

// kept is evidence that is in memory with the parts that are wanted.
func (r *Replayer) kept(digest string, want core.Parts) (core.PlatformEvidence, bool) {
	if r.Decoded == nil {
		return core.PlatformEvidence{}, false
	}
	e, ok := r.Decoded.Get(digest)
	return e.PlatformEvidence, ok && want&^e.Has == 0
}

// evidence collects the evidence of all platforms; read returns that of a digest, or
// false if it is missing or damaged.
func (l *loading) evidence(ctx context.Context, v *verifierv1.Verdict, read func(context.Context, string) (core.PlatformEvidence, bool, error)) ([]core.PlatformEvidence, error) {
	out := make([]core.PlatformEvidence, 0, len(v.GetPlatforms()))
	for _, p := range v.GetPlatforms() {
		digest := p.GetInputs().GetEvidenceDigest()
		if digest == "" {
			// A release that kept no evidence: name what it would be read from.
			for _, a := range p.GetInputs().GetAttestations() {
				l.lacks(a.GetManifestDigest())
			}
			l.lacks(p.GetDigest())
			continue
		}
		e, ok, err := read(ctx, digest)
		if err != nil {
			return nil, err
		}
		if !ok {
			l.lacks(digest)
			continue
		}
		out = append(out, e)
	}
	return out, nil
}

// proven reads a document and proves its digest.
func (l *loading) proven(ctx context.Context, digest string) (core.PlatformEvidence, bool, error) {
	d, ok, err := l.document(ctx, digest)
	if err != nil || !ok {
		return core.PlatformEvidence{}, false, err
	}
	e, err := record.UnpackEvidence(d)
	return e, err == nil, nil
}

// decoded takes evidence from memory or reads what is wanted of it.
func (l *loading) decoded(ctx context.Context, digest string, want core.Parts) (core.PlatformEvidence, bool, error) {
	r := l.replayer
	if e, ok := r.kept(digest, want); ok {
		return e, true, nil
	}
	d, ok, err := l.document(ctx, digest)
	if err != nil || !ok {
		return core.PlatformEvidence{}, false, err
	}
	e, err := record.ReadEvidence(d, want)
	if err != nil {
		return core.PlatformEvidence{}, false, nil //nolint:nilerr // damaged is as good as missing
	}
	if r.Decoded != nil {
		r.Decoded.Put(digest, e, e.Size)
	}
	return e.PlatformEvidence, true, nil
}
