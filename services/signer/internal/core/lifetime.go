package core

import "time"

// InForce is the attestation that is the latest of its subject and type.
type InForce struct {
	// ContentKey as in Predicate.
	ContentKey string
	// Time of its claim. It is zero if it is not known: then SignTime stands in
	// for it, which is a little later, as long as the content is the same.
	Time, SignTime time.Time
	// Revoked is set if its key is not to be believed any more.
	Revoked bool
}

// Serves reports whether what is in force speaks for the claim, so that no new
// attestation is needed: it says the same and is less than maxAge older (0 is no
// bound), or it is later news. What is signed with a revoked key serves nobody.
func (f InForce) Serves(p Predicate, maxAge time.Duration) bool {
	same := f.ContentKey == p.ContentKey
	since := f.Time
	if since.IsZero() {
		since = f.SignTime
	}
	switch {
	case f.Revoked:
		return false
	case !f.Time.IsZero() && p.Time.Before(f.Time):
		return true
	case !same:
		return false
	default:
		return maxAge == 0 || p.Time.Sub(since) < maxAge
	}
}
