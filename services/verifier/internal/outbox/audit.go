package outbox

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
)

// drainAudits tells who changed the rules.
func (d *Drain) drainAudits(ctx context.Context) error {
	for {
		audits, err := d.Store.Audits(ctx, batch)
		if err != nil {
			return err
		}
		for _, a := range audits {
			ev := &eventv1.AuditRecordedEvent{
				Meta:  &eventv1.EventMeta{EventTime: timestamppb.New(a.Time)},
				Actor: a.Actor, Action: a.Action, Resource: a.Resource,
			}
			if err := d.Publish(d.trace(ctx, a.Headers), a.ID, ev); err != nil {
				return fmt.Errorf("publish audit of %s: %w", a.Resource, err)
			}
			if err := d.Store.AuditPublished(ctx, a.ID); err != nil {
				return err
			}
		}
		if len(audits) < batch {
			return nil
		}
	}
}
