package attest

import (
	"fmt"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// witnesses are what others than the signer say about a signature, as far as it
// comes from logs that are known. Nothing of it is verified yet.
type witnesses struct {
	known []*tlog.Entry
}

// findWitnesses looks at the log entries of a bundle. Entries of unknown logs
// are as good as none. One entry of each log is enough, and with more of them
// which one was verified would be open.
func findWitnesses(entity *bundle.Bundle, r *SigstoreRoot) (witnesses, error) {
	var w witnesses
	entries, err := entity.TlogEntries()
	if err != nil {
		return w, malformed("log entry", err)
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if !r.knowsLog(e.LogKeyID()) {
			continue
		}
		if seen[e.LogKeyID()] {
			return w, malformed("two entries of one transparency log", nil)
		}
		seen[e.LogKeyID()] = true
		w.known = append(w.known, e)
	}
	return w, nil
}

// options demands that every entry of a known log is right, also if none is required.
func (w witnesses) options(requireLog bool) ([]verify.VerifierOption, error) {
	switch {
	case len(w.known) > 0:
		return []verify.VerifierOption{verify.WithTransparencyLog(len(w.known))}, nil
	case requireLog:
		return nil, fmt.Errorf("%w: the bundle has none of a trusted log", ErrNoLogEntry)
	default:
		return nil, nil
	}
}

// index is the verified place in the log; nil if there is no entry.
func (w witnesses) index() *int64 {
	if len(w.known) == 0 {
		return nil
	}
	e := w.known[0]
	i := e.LogIndex()
	if !e.IsRekorV2() && !e.HasInclusionPromise() {
		// Of a log of version 1 the promise covers the index over all its trees; the
		// proof alone is of the one in its tree.
		i = e.TransparencyLogEntry().GetInclusionProof().GetLogIndex()
	}
	return &i
}

// times are the proven times of a signature. Timestamps that nobody trusted made
// are passed over.
func (w witnesses) times(entity *bundle.Bundle, material root.TrustedMaterial) []time.Time {
	var out []time.Time
	stamps, _, err := verify.VerifySignedTimestamp(entity, material)
	if err == nil {
		for _, s := range stamps {
			out = append(out, s.Time)
		}
	}
	if len(w.known) == 0 {
		return out
	}
	logged, err := verify.VerifyTlogEntry(entity, material, len(w.known), true)
	if err != nil {
		return out
	}
	for _, l := range logged {
		out = append(out, l.Time)
	}
	return out
}

// earliest is the first of the times, the strongest of the proofs; zero if none.
func earliest(times []time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first.UTC()
}
