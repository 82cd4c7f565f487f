package events_test

import (
	"context"
	"fmt"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
)

// A step of the pipeline: take one event, do the work, publish the next. The id
// comes from the content, so a redelivery publishes the same fact again and the
// stream drops it.
func ExampleConsume() {
	step := func(ctx context.Context, bus *eventbus.Bus) error {
		return events.Consume(ctx, bus, events.ConsumerScannerScan, 2,
			func(ctx context.Context, e *eventv1.ImagePushedEvent, _ *eventbus.Delivery) error {
				if e.GetImage() == nil {
					return eventbus.Permanent("NO_IMAGE", fmt.Errorf("event %s names no image", e.GetMeta().GetEventId()))
				}
				scan := &eventv1.ImageScannedEvent{Image: e.GetImage(), ScanId: e.GetMeta().GetEventId()}
				return events.Publish(ctx, bus, events.ID("scan", scan.GetScanId()), scan)
			})
	}
	_ = step
	fmt.Println(events.SubjectImagePushed, "→", events.SubjectImageScanned)
	// Output: seaworthy.evt.image.pushed.v1 → seaworthy.evt.image.scanned.v1
}
