package reconcile

import (
	"time"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

// stuckAfter is how long a scan may be on its way. The event bus gives up earlier; what
// is older was lost.
const stuckAfter = 2 * time.Hour

// missing tells whether an image that a tag names has to be submitted: scan is the
// newest one of the tag, nil if there is none, and gone tells that everybody was told
// that the image is deleted. A scan that failed counts: its dead letter names it, and
// submitting it again each time would end the same way.
func missing(digest string, scan *store.TagScan, gone bool, now time.Time) bool {
	switch {
	case scan == nil || gone:
		return true
	case !scan.State.Ended() && now.Sub(scan.CreateTime) >= stuckAfter:
		return true
	case scan.Digest == "":
		return false // its digest is being found out
	default:
		return scan.Digest != digest
	}
}

// verdict is what an answer "not found" means for an image that was scanned.
type verdict int

const (
	// ignore: the answer proves nothing.
	ignore verdict = iota
	// remember that it was absent for the first time.
	remember
	// hold back for now.
	hold
	// tell everybody that it is deleted.
	tell
)

// run is what a run saw of a registry besides the absent image.
type run struct {
	// alive: the registry showed something that it has, and nothing failed.
	alive bool
	// checked images were looked for by digest or found by tag, absent ones of them
	// were not there.
	checked, absent int
}

const (
	// massMinimum is how many absent images are many.
	massMinimum = 10
	// massHold is how long many images must be absent. A registry that was restored
	// empty, or that hides what our credentials may not see any more, answers like one
	// that was cleaned up.
	massHold = 24 * time.Hour
)

// judgeAbsence decides about an image that the registry says it does not have; known is
// what an earlier run saw, nil if nothing.
func judgeAbsence(known *store.Absence, r run, confirm time.Duration, now time.Time) verdict {
	switch {
	case !r.alive:
		return ignore
	case known == nil:
		return remember
	case !known.Told.IsZero():
		return ignore
	case now.Sub(known.First) < confirm:
		return hold
	case r.absent >= massMinimum && 2*r.absent > r.checked && now.Sub(known.First) < massHold:
		return hold
	default:
		return tell
	}
}
