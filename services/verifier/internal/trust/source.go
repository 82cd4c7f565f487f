package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/verdict/trustbundle"
)

// ErrNoTrust says that no trusted key is known yet.
var ErrNoTrust = errors.New("no trusted key is known yet")

const (
	// sourceSigner names the signer's bundle in the cache.
	sourceSigner = "signer"
	// retryFirst and retryLast are the waits after failed fetches.
	retryFirst = time.Second
	retryLast  = 30 * time.Second
	// askAgain is the least time between fetches that unknown signatures ask for.
	askAgain = time.Second
	// fetchTimeout bounds one fetch.
	fetchTimeout = 10 * time.Second
)

// Bundles fetches the signer's trust bundle.
type Bundles interface {
	GetTrustBundle(ctx context.Context) (*signerv1.GetTrustBundleResponse, error)
}

// Cache keeps the last good bundle.
type Cache interface {
	SaveTrust(ctx context.Context, source string, body []byte, fetched time.Time) error
	LoadTrust(ctx context.Context, source string) (body []byte, fetched time.Time, err error)
}

// Source is the trust roots in force. It is safe for concurrent use.
type Source struct {
	fixed    attest.TrustRoots
	sigstore []byte
	bundles  Bundles
	cache    Cache
	refresh  time.Duration
	log      *slog.Logger
	now      func() time.Time
	// report is told whether trust roots are known.
	report func(error)

	// fetching admits one fetch at a time and guards asked.
	fetching sync.Mutex
	asked    time.Time

	mu      sync.Mutex
	body    []byte
	roots   attest.TrustRoots
	version uint64
	// revoked are the keys that the signer ever called revoked, revived those of them that
	// its bundle calls valid.
	revoked revoked
	revived []string
	// known is closed when there are keys; from then on there always are.
	known chan struct{}
}

// Options make a Source.
type Options struct {
	// Fixed are the keys and identities of the configuration. Each says what it may state.
	Fixed attest.TrustRoots
	// Sigstore is a trusted root, trusted_root.json; nil for none.
	Sigstore []byte
	// Bundles may be nil: then only static keys are trusted.
	Bundles Bundles
	Cache   Cache
	// Refresh is the time between fetches.
	Refresh time.Duration
	Log     *slog.Logger
	Now     func() time.Time
	// Report is told whether trust roots are known, whenever that was looked at.
	Report func(error)
}

// New returns a source that starts with the static keys and the cached bundle.
func New(ctx context.Context, o Options) (*Source, error) {
	s := &Source{
		fixed: o.Fixed, sigstore: o.Sigstore, bundles: o.Bundles, cache: o.Cache, refresh: o.Refresh,
		log: o.Log, now: o.Now, report: o.Report, version: 1,
		known: make(chan struct{}), revoked: revoked{},
	}
	if err := checkStates(o.Fixed); err != nil {
		return nil, err
	}
	var err error
	if o.Bundles != nil {
		if s.revoked, err = s.loadRevoked(ctx); err != nil {
			return nil, err
		}
	}
	if s.roots, err = s.with(attest.TrustRoots{}, nil); err != nil {
		return nil, fmt.Errorf("trusted root of the configuration: %w", err)
	}
	if !empty(s.roots) {
		close(s.known)
	}
	if o.Bundles != nil {
		body, fetched, err := o.Cache.LoadTrust(ctx, sourceSigner)
		if err == nil {
			err = s.use(ctx, body)
		}
		switch {
		case err == nil:
			s.log.InfoContext(ctx, "using the trust bundle of the database", "fetch_time", fetched)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("load trust bundle: %w", err)
		default:
			s.log.InfoContext(ctx, "no trust bundle in the database yet", "reason", err.Error())
		}
	}
	s.tell()
	return s, nil
}

// Roots returns the keys in force and a number that changes with them.
func (s *Source) Roots() (attest.TrustRoots, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if empty(s.roots) {
		return attest.TrustRoots{}, s.version, ErrNoTrust
	}
	return s.roots, s.version, nil
}

// Fingerprint is equal as long as the same is trusted.
func (s *Source) Fingerprint() (string, error) {
	roots, _, err := s.Roots()
	if err != nil {
		return "", err
	}
	return roots.Fingerprint(), nil
}

// Wait returns when trust roots are known, or with the context's error.
func (s *Source) Wait(ctx context.Context) error {
	select {
	case <-s.known:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run refreshes the signer's bundle until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	wait := time.Duration(0)
	failures := 0
	for s.bundles != nil {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := s.fetch(ctx); err != nil {
			wait = min(retryFirst<<min(failures, 10), retryLast)
			failures++
			s.log.WarnContext(ctx, "trust bundle not fetched", "error", err, "retry_in", wait)
		} else {
			wait, failures = s.refresh, 0
		}
		s.tell()
	}
	<-ctx.Done()
	return nil
}

// Refresh fetches the bundle now, because a signature by an unknown key was seen,
// and tells whether the keys changed. It does nothing if somebody asked within
// the last seconds.
func (s *Source) Refresh(ctx context.Context) bool {
	if s.bundles == nil {
		return false
	}
	before := s.current()
	s.fetching.Lock()
	recently := s.now().Sub(s.asked) < askAgain
	if !recently {
		s.asked = s.now()
	}
	s.fetching.Unlock()
	if !recently {
		if err := s.fetch(ctx); err != nil {
			s.log.WarnContext(ctx, "trust bundle not fetched", "error", err)
		}
		s.tell()
	}
	return s.current() != before
}

func (s *Source) current() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

func (s *Source) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	m, err := s.bundles.GetTrustBundle(ctx)
	if err != nil {
		return fmt.Errorf("ask the signer: %w", err)
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode trust bundle: %w", err)
	}
	if err := s.use(ctx, body); err != nil {
		return err
	}
	if err := s.cache.SaveTrust(ctx, sourceSigner, body, s.now()); err != nil {
		return fmt.Errorf("keep trust bundle: %w", err)
	}
	return nil
}

// use puts a bundle in force if it is sound.
func (s *Source) use(ctx context.Context, body []byte) error {
	signer, root, err := parse(body)
	if err != nil {
		return err
	}
	// What the bundle revokes counts even if it cannot be remembered for later.
	notKept := s.remember(ctx, signer.Keys)
	s.mu.Lock()
	defer s.mu.Unlock()
	var revived []string
	signer.Keys, revived = s.revoked.revoke(signer.Keys)
	roots, err := s.with(signer, root)
	if err != nil {
		return err
	}
	if !slices.Equal(revived, s.revived) && len(revived) > 0 {
		s.log.WarnContext(ctx, "signer lists a revoked key as valid; it stays revoked", "key_ids", revived)
	}
	s.revived = revived
	if bytes.Equal(body, s.body) && roots.Fingerprint() == s.roots.Fingerprint() {
		return notKept
	}
	if empty(s.roots) {
		close(s.known)
	}
	s.body, s.roots = body, roots
	s.version++
	return notKept
}

// parse reads a bundle: the signer's roots, and its Sigstore trusted root in JSON.
func parse(body []byte) (signer attest.TrustRoots, root []byte, err error) {
	var m signerv1.GetTrustBundleResponse
	if err := proto.Unmarshal(body, &m); err != nil {
		return attest.TrustRoots{}, nil, fmt.Errorf("decode trust bundle: %w", err)
	}
	signer, err = trustbundle.Roots(&m)
	return signer, []byte(m.GetTrustedRootJson()), err
}

// with adds the roots of the configuration to those of the signer. A key that the signer
// ever revoked is trusted for nothing, also if the configuration names it. It reads
// s.revoked, which needs s.mu once others can see s.
func (s *Source) with(signer attest.TrustRoots, root []byte) (attest.TrustRoots, error) {
	fixed := slices.DeleteFunc(slices.Clone(s.fixed.Keys), func(k attest.TrustedKey) bool {
		_, was := s.revoked[attest.KeyID(k.Key)]
		return was
	})
	out := attest.TrustRoots{Keys: slices.Concat(fixed, signer.Keys), Identities: slices.Concat(s.fixed.Identities, signer.Identities)}
	var documents [][]byte
	for _, d := range [][]byte{s.sigstore, root} {
		if len(d) > 0 {
			documents = append(documents, d)
		}
	}
	if len(documents) == 0 {
		return out, nil
	}
	var err error
	if out.Sigstore, err = attest.ParseSigstoreRoot(documents...); err != nil {
		return out, err
	}
	return Named(out), nil
}

// Named gives each identity an ID that changes with the authorities who vouch for it: a
// recorded result is believed as long as its ID is trusted.
func Named(r attest.TrustRoots) attest.TrustRoots {
	r.Identities = slices.Clone(r.Identities)
	for i := range r.Identities {
		r.Identities[i].ID = r.Identities[i].Rule(r.Sigstore)
	}
	return r
}

// checkStates refuses a root that may state anything.
func checkStates(r attest.TrustRoots) error {
	anything := slices.ContainsFunc(r.Keys, func(k attest.TrustedKey) bool { return k.States == nil }) ||
		slices.ContainsFunc(r.Identities, func(i attest.TrustedIdentity) bool { return i.States == nil })
	if anything {
		return errors.New("a trust root of the configuration does not say what it may state")
	}
	return nil
}

func empty(r attest.TrustRoots) bool { return len(r.Keys)+len(r.Identities) == 0 }

func (s *Source) tell() {
	_, _, err := s.Roots()
	if err == nil {
		s.mu.Lock()
		err = disagreement(s.revived)
		s.mu.Unlock()
	}
	s.report(err)
}
