package wire

import (
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Scanned makes the event that says that reports exist, and its id, which comes from
// the scan and the reports.
func Scanned(scanID string, image imageref.Ref, reports []core.ReportRef, end time.Time, cause eventv1.ImageScannedEvent_Cause) (string, *eventv1.ImageScannedEvent) {
	out := &eventv1.ImageScannedEvent{Image: Image(image), ScanId: scanID, Cause: cause, ScanTime: Time(end)}
	parts := []string{"image-scanned", scanID}
	for _, r := range reports {
		parts = append(parts, r.ReportDigest)
		out.Platforms = append(out.Platforms, &eventv1.ImageScannedEvent_PlatformScan{
			Digest: r.ImageDigest, Platform: Platform(r.Platform), ReportDigest: r.ReportDigest,
			ContentDigest: r.ContentDigest,
		})
	}
	return events.ID(parts...), out
}

// Referrer is the hint that a pushed manifest refers to an image, with its id.
func Referrer(ref imageref.Ref, referrer, subject string) (string, *eventv1.ImageReferrerEvent) {
	return events.ID("referrer", ref.Registry, ref.Repository, referrer, subject), &eventv1.ImageReferrerEvent{
		Image:          &typev1.ImageRef{Registry: ref.Registry, Repository: ref.Repository, Digest: subject},
		ReferrerDigest: referrer,
	}
}

// Updated makes the event that says that another snapshot is in use, and its id. The
// same snapshot may come to be in use again later, so the time is in the id.
func Updated(info core.SnapshotInfo, now time.Time) (string, *eventv1.AdvisoriesUpdatedEvent) {
	return events.ID("advisories-updated", info.Digest, now.UTC().String()), &eventv1.AdvisoriesUpdatedEvent{
		SnapshotDigest: info.Digest, DataTime: Time(info.DataTime), AdvisoryCount: info.AdvisoryCount,
	}
}
