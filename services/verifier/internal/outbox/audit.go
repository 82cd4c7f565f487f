package outbox

import (
	"context"
	"encoding/json"
	"fmt"

	"go.opentelemetry.io/otel/propagation"
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
			var carrier propagation.MapCarrier
			if err := json.Unmarshal([]byte(a.Headers), &carrier); err != nil {
				return fmt.Errorf("decode trace context: %w", err)
			}
			ev := &eventv1.AuditRecordedEvent{
				Meta:  &eventv1.EventMeta{EventTime: timestamppb.New(a.Time)},
				Actor: a.Actor, Action: a.Action, Resource: a.Resource,
			}
			if err := d.Publish(d.Propagator.Extract(ctx, carrier), a.ID, ev); err != nil {
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
