package evidence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lru"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/vex"
)

// Failures that no retry can fix.
var (
	// ErrNotFound: the registry has no such image.
	ErrNotFound = errors.New("the image is not in the registry")
	// ErrNotAnImage: there is something else under the digest.
	ErrNotAnImage = errors.New("not an image")
	// ErrRefused: the registry does not let us read, or is not allowed by our
	// configuration.
	ErrRefused = errors.New("the registry cannot be read")
)

// Roots gives the trust roots in force and a number that changes with them. It
// fails while none is known.
type Roots interface {
	Roots() (roots attest.TrustRoots, version uint64, err error)
	// Refresh looks for new roots and tells whether there are.
	Refresh(ctx context.Context) (changed bool)
}

// Limits bound what is read for one platform manifest. Zero values mean the
// defaults of package attest.
type Limits struct {
	// MaxAttestations attached to one manifest.
	MaxAttestations int
	// MaxAttestation is the size of one in bytes, MaxTotal that of all of one
	// manifest.
	MaxAttestation, MaxTotal int64
	// Cache is the memory for verified attestations, in bytes.
	Cache int64
}

// Collector reads and verifies evidence. It is safe for concurrent use.
type Collector struct {
	client *registry.Client
	roots  Roots
	limits Limits
	cache  *lru.Cache[cacheKey, *finding]
	// large admits one manifest at a time whose attestations take more than usual bytes.
	large chan struct{}
	usual int64
	// authors are those whose VEX documents count.
	authors vex.Authors
	log     *slog.Logger
	now     func() time.Time
}

// NewCollector returns a collector.
func NewCollector(client *registry.Client, roots Roots, authors vex.Authors, limits Limits, log *slog.Logger, now func() time.Time) *Collector {
	return &Collector{client: client, roots: roots, authors: authors, large: make(chan struct{}, 1), usual: usualTotal, limits: limits, cache: lru.New[cacheKey, *finding](limits.Cache, nil), log: log, now: now}
}

// cacheKey names one verification: which bundle, about which subject, against
// which roots.
type cacheKey struct {
	manifest, subject string
	roots             uint64
}

// Evidence is what was found about an image.
type Evidence struct {
	// Platforms in the order of the index; one for a single image.
	Platforms []core.PlatformEvidence
	// Present holds the digests of all attestations in the registry, evidence or
	// not.
	Present map[string]bool
	// Trust is the fingerprint of the trust roots that it was verified by.
	Trust string
}

// finding is the result of one verification. Only lasting results are kept.
type finding struct {
	attestation core.Attestation
	// report is set for an attestation that carries one.
	report *core.Report
	// rejected says why it is no evidence; empty if it is.
	rejected string
	// predicateType as verified, or as claimed if rejected.
	predicateType string
	// stated is what attest.StatedTime says.
	stated time.Time
	// unknownKey is set if it was rejected because of who signed it.
	unknownKey bool
	// ours is set for what was made of an earlier verdict.
	ours bool
	// vex is the document of a trusted author.
	vex *core.VexDocument
}

// Collect returns the evidence of every platform manifest of an image, in the
// order of its index. What was tampered with, signed by nobody we trust or about
// something else is in the result as rejected. The error is for what kept us
// from looking: ErrNotFound, ErrNotAnImage and ErrRefused last, others are worth
// another try.
func (c *Collector) Collect(ctx context.Context, image imageref.Ref) (Evidence, error) {
	return c.CollectOwed(ctx, image, nil)
}

// Owed names, by the digest of a manifest, the attestations that are known to be
// attached to it: by an event or by an earlier verdict. They are read first, and they are
// read however many others are attached. To name one proves nothing: it counts if the
// registry lists it and it verifies.
type Owed map[string][]string

// CollectOwed is Collect for an image of which some attestations are known.
func (c *Collector) CollectOwed(ctx context.Context, image imageref.Ref, owed Owed) (Evidence, error) {
	d, raw, err := c.client.Manifest(ctx, image)
	if err != nil {
		return Evidence{}, lasting(err)
	}
	all, err := targets(image, d, raw)
	if err != nil {
		return Evidence{}, err
	}
	if all, err = c.images(ctx, image, all); err != nil {
		return Evidence{}, err
	}
	out, unknown, err := c.platforms(ctx, image, all, owed)
	if err == nil && unknown && c.roots.Refresh(ctx) {
		// The signer has a key that we did not know.
		out, _, err = c.platforms(ctx, image, all, owed)
	}
	return out, err
}

// platforms collects the evidence of each manifest. It also tells whether one
// without a report, or the index, has attestations by keys that are not known.
func (c *Collector) platforms(ctx context.Context, image imageref.Ref, all []target, owed Owed) (out Evidence, unknown bool, err error) {
	roots, version, err := c.roots.Roots()
	if err != nil {
		return Evidence{}, false, fmt.Errorf("trust roots: %w", err)
	}
	roots.At = c.now()
	out.Present = map[string]bool{}
	out.Trust = roots.Fingerprint()
	left := c.perImage()
	index, err := c.index(ctx, image, all, reading{owed[image.Digest], left}, roots, version, out.Present)
	if err != nil {
		return Evidence{}, false, err
	}
	unknown = index.foreign
	for _, t := range all {
		e, foreign, err := c.platform(ctx, image.WithDigest(t.digest), t, index, reading{owed[t.digest], left}, roots, version, out.Present)
		if err != nil {
			return Evidence{}, false, err
		}
		unknown = unknown || foreign && e.Report == nil
		out.Platforms = append(out.Platforms, e)
	}
	return out, unknown, nil
}

// lasting marks failures of the registry that no retry can fix.
func lasting(err error) error {
	switch {
	case registry.Temporary(err):
		return err
	case errors.Is(err, registry.ErrNotFound):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, registry.ErrNotAllowed), errors.Is(err, registry.ErrUnauthorized), errors.Is(err, registry.ErrInvalidReference):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case errors.Is(err, registry.ErrMalformed), errors.Is(err, registry.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrNotAnImage, err)
	default:
		return err
	}
}

func (c *Collector) platform(ctx context.Context, ref imageref.Ref, t target, index ofIndex, read reading, roots attest.TrustRoots, version uint64, present map[string]bool) (e core.PlatformEvidence, foreign bool, err error) {
	e = core.PlatformEvidence{Digest: t.digest, Platform: t.platform}
	referred, done, err := c.fetch(ctx, ref, read)
	defer done()
	switch {
	case err == nil:
	case errors.Is(err, attest.ErrTooLarge), errors.Is(err, registry.ErrTooLarge), errors.Is(err, registry.ErrMalformed):
		// Nothing is known of what is attached.
		e.Rejected = append(e.Rejected, core.Rejected{Why: err.Error()})
		return e, false, nil
	case errors.Is(err, registry.ErrNotFound):
		e.Rejected = append(e.Rejected, core.Rejected{Why: err.Error()})
	default:
		return e, false, lasting(err)
	}
	found := slices.Clone(index.found)
	index.addTo(&e)
	for i := range referred {
		if errors.Is(referred[i].Err, attest.ErrIncomplete) {
			// What is missing is not known to be absent.
			e.Rejected = append(e.Rejected, core.Rejected{ManifestDigest: referred[i].Digest, Why: referred[i].Err.Error()})
			e.Unread = core.Truncate(referred[i].Err.Error())
			if referred[i].Digest != "" {
				present[referred[i].Digest] = true
			}
			continue
		}
		f, err := c.verify(ctx, &referred[i], t.digest, roots, version)
		if err != nil {
			return e, false, err
		}
		if referred[i].Digest != "" && !errors.Is(referred[i].Err, registry.ErrNotFound) { // listed, but gone
			present[referred[i].Digest] = true
		}
		if d := c.vexOf(&referred[i], t.digest); d != nil {
			if d.vex != nil {
				e.VEX = append(e.VEX, *d.vex)
			}
			if f.rejected != "" {
				f = d // who may speak of vulnerabilities need not be trusted otherwise
			}
		}
		foreign = foreign || f.unknownKey
		found = append(found, f)
	}
	gather(&e, found)
	return e, foreign, nil
}

// verify looks at one attestation. The error is for what may be cured by another
// try; an attestation that is no evidence is a finding.
func (c *Collector) verify(ctx context.Context, r *attest.Referred, subject string, roots attest.TrustRoots, version uint64) (*finding, error) {
	if r.Err != nil && registry.Temporary(r.Err) {
		return nil, fmt.Errorf("read attestation %s: %w", r.Digest, r.Err)
	}
	key := cacheKey{manifest: r.Digest, subject: subject, roots: version}
	// What was verified before and cannot be read now is no evidence any more.
	if f, ok := c.cache.Get(key); ok && r.Err == nil && (f.rejected != "" || roots.Believes(f.attestation.KeyID, f.predicateType, f.stated)) {
		return f, nil
	}
	v, err := r.Verify(subject, roots)
	if err != nil {
		f := &finding{
			predicateType: claimedType(r), rejected: strings.TrimPrefix(fmt.Sprintf("%s: %v", short(r.Digest), err), ": "),
			attestation: core.Attestation{ManifestDigest: r.Digest}, unknownKey: errors.Is(err, attest.ErrUntrustedKey) || errors.Is(err, attest.ErrUntrustedIdentity),
		}
		c.log.DebugContext(ctx, "attestation rejected", "manifest_digest", r.Digest, "subject", subject, "error", err)
		// A key may become valid or known later, and the future becomes the present; the
		// other failures stay what they are.
		if !f.unknownKey && r.Err == nil && !errors.Is(err, attest.ErrFuture) {
			c.cache.Put(key, f, 512)
		}
		return f, nil
	}
	f := &finding{
		predicateType: v.PredicateType, stated: v.StatedTime,
		ours: v.PredicateType == attest.PredicateVSA || attest.IsPublishedException(v.Statement),
		attestation: core.Attestation{
			PredicateType: v.PredicateType, ManifestDigest: v.ManifestDigest, KeyID: v.KeyID,
			Identity: v.Identity, Issuer: v.Issuer,
			SignTime:  v.Time,
			Predicate: decoded(v.PredicateType, v.Predicate),
		},
	}
	if v.PredicateType == attest.PredicateCosignVuln {
		report, err := DecodeReport(v.Predicate, subject)
		switch {
		case err != nil:
			f.rejected = fmt.Sprintf("%s: %v", short(r.Digest), err)
		default:
			report.Source = f.attestation
			// A scan cannot have known advisories of later: a snapshot that calls itself
			// newer would never grow old.
			if report.AdvisoryTime.After(v.Time) {
				report.AdvisoryTime = v.Time
			}
			f.report = report
		}
	}
	c.cache.Put(key, f, 512+int64(len(v.Predicate)))
	return f, nil
}

// gather keeps the newest attestation of each type and key. Verdict summaries and
// published exceptions are left out: they are what comes out of here, and taking
// them in would make every verdict differ from the one before, and exceptions last
// forever.
func gather(e *core.PlatformEvidence, found []*finding) {
	slices.SortFunc(found, func(a, b *finding) int {
		if c := strings.Compare(a.predicateType, b.predicateType); c != 0 {
			return c
		}
		if c := b.attestation.SignTime.Compare(a.attestation.SignTime); c != 0 {
			return c
		}
		return strings.Compare(a.attestation.ManifestDigest, b.attestation.ManifestDigest)
	})
	type source struct{ predicateType, key, identity, issuer string }
	seen := map[source]bool{}
	for _, f := range found {
		if f.rejected != "" {
			e.Rejected = append(e.Rejected, core.Rejected{
				PredicateType: f.predicateType, ManifestDigest: f.attestation.ManifestDigest, Why: f.rejected,
			})
			continue
		}
		s := source{f.predicateType, f.attestation.KeyID, f.attestation.Identity, f.attestation.Issuer}
		if f.ours || f.vex != nil || seen[s] {
			continue
		}
		seen[s] = true
		e.Attestations = append(e.Attestations, f.attestation)
		if f.report != nil && e.Report == nil {
			e.Report = f.report
			if e.Platform == (core.Platform{}) {
				e.Platform = f.report.Platform
			}
		}
	}
}

// Believed tells whether the trust roots, at their time, would still make a recorded
// attestation evidence.
func Believed(roots attest.TrustRoots, a core.Attestation) bool {
	if a.SignTime.After(roots.At.Add(attest.ClockSkew)) {
		return false
	}
	var stated time.Time
	switch a.PredicateType {
	case attest.PredicateCosignVuln, attest.PredicateVulnsV02, attest.PredicateOpenVEX:
		stated = a.SignTime // what attest.StatedTime says of these types; of others it is zero
	}
	return roots.Believes(a.KeyID, a.PredicateType, stated)
}

// RefreshTrust looks for other trust roots.
func (c *Collector) RefreshTrust(ctx context.Context) { c.roots.Refresh(ctx) }

// RejectedForTrust tells whether an attestation may be evidence by other trust roots.
func RejectedForTrust(r core.Rejected) bool {
	return slices.ContainsFunc([]error{
		attest.ErrUntrustedKey, attest.ErrUntrustedIdentity, attest.ErrNotAllowed, attest.ErrExpiredCertificate,
		attest.ErrNoLogEntry, attest.ErrNoTimestamp, attest.ErrNoSCT,
	}, func(kind error) bool { return strings.Contains(r.Why, kind.Error()) })
}

// claimedType is what an attestation that does not verify says it is.
func claimedType(r *attest.Referred) string {
	if st, err := attest.Untrusted(r.Bundle); err == nil {
		return st.PredicateType
	}
	return r.Annotations[attest.AnnotationPredicateType]
}

// short is enough of a digest to find it.
func short(digest string) string {
	if len(digest) > 19 {
		return digest[:19]
	}
	return digest
}
