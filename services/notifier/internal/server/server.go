// Package server is the notifier's gRPC side: messages to domain and back.
package server

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/notifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/authz"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
)

// Authz says who may call what.
func Authz() authz.Table {
	readers := authz.Rule{Operators: true, Clients: true}
	operators := authz.Rule{Operators: true}
	return authz.Table{
		notifierv1.SubscriptionService_GetSubscription_FullMethodName:    readers,
		notifierv1.SubscriptionService_ListSubscriptions_FullMethodName:  readers,
		notifierv1.SubscriptionService_CreateSubscription_FullMethodName: operators,
		notifierv1.SubscriptionService_UpdateSubscription_FullMethodName: operators,
		notifierv1.SubscriptionService_DeleteSubscription_FullMethodName: operators,
		notifierv1.SubscriptionService_TestSubscription_FullMethodName:   operators,
		notifierv1.DeliveryService_ListDeliveries_FullMethodName:         readers,
		notifierv1.DeliveryService_RedeliverDeliveries_FullMethodName:    operators,
	}
}

// MaxRedeliver is the largest number of ids in one RedeliverDeliveries.
const MaxRedeliver = 1000

// Deliveries implements DeliveryService.
type Deliveries struct {
	notifierv1.UnimplementedDeliveryServiceServer

	store store.Store
	wake  func()
	now   func() time.Time
}

// NewDeliveries serves the deliveries in s; wake makes the worker look for due ones.
func NewDeliveries(s store.Store, wake func(), now func() time.Time) *Deliveries {
	return &Deliveries{store: s, wake: wake, now: now}
}

// Register adds both services to r.
func Register(r grpc.ServiceRegistrar, d *Deliveries, s *Subscriptions) {
	notifierv1.RegisterDeliveryServiceServer(r, d)
	notifierv1.RegisterSubscriptionServiceServer(r, s)
}

// ListDeliveries lists deliveries, newest first.
func (s *Deliveries) ListDeliveries(ctx context.Context, req *notifierv1.ListDeliveriesRequest) (*notifierv1.ListDeliveriesResponse, error) {
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	state, ok := stateOf[req.GetState()]
	if !ok {
		return nil, apierr.InvalidField("state", "is not a state of a delivery")
	}
	if !isText(req.GetSubscription()) && req.GetSubscription() != "" {
		return nil, apierr.InvalidField("subscription", "is not a name")
	}
	if d := req.GetImageDigest(); d != "" {
		if err := imageref.CheckDigest(d); err != nil {
			return nil, apierr.InvalidField("image_digest", err.Error())
		}
	}
	q := store.Query{
		Subscription: req.GetSubscription(), State: state, ImageDigest: req.GetImageDigest(),
		// One more than asked for tells whether there is a further page.
		Limit: size + 1,
	}
	filter := strings.Join([]string{"ListDeliveries", q.Subscription, strconv.FormatInt(int64(q.State), 10), q.ImageDigest}, "\x00")
	key, err := page.Decode(filter, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if q.After, err = parsePosition(key); err != nil {
		return nil, apierr.InvalidField("page_token", "is not a token of this list")
	}
	list, err := s.store.List(ctx, q)
	if err != nil {
		return nil, err
	}
	resp := &notifierv1.ListDeliveriesResponse{}
	if len(list) > size {
		list = list[:size]
		last := list[size-1]
		resp.NextPageToken = page.Encode(filter, formatPosition(store.Position{CreateTime: last.CreateTime, ID: last.ID}))
	}
	for _, d := range list {
		resp.Deliveries = append(resp.Deliveries, message(d))
	}
	return resp, nil
}

// RedeliverDeliveries makes deliveries due again at once.
func (s *Deliveries) RedeliverDeliveries(ctx context.Context, req *notifierv1.RedeliverDeliveriesRequest) (*notifierv1.RedeliverDeliveriesResponse, error) {
	if n := len(req.GetDeliveryIds()); n > MaxRedeliver {
		return nil, apierr.InvalidField("delivery_ids", "holds "+strconv.Itoa(n)+" ids, at most "+strconv.Itoa(MaxRedeliver)+" are taken")
	}
	if slices.ContainsFunc(req.GetDeliveryIds(), func(id string) bool { return !isText(id) }) {
		return nil, errNotFound
	}
	ids := slices.Clone(req.GetDeliveryIds())
	slices.Sort(ids)
	ids = slices.Compact(ids)
	n, err := s.store.Redeliver(ctx, ids, s.now())
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	s.wake()
	return &notifierv1.RedeliverDeliveriesResponse{DeliveryCount: int32(n)}, nil
}

var errNotFound = apierr.New(codes.NotFound, "DELIVERY_NOT_FOUND", "one of the deliveries does not exist; none was changed")

// isText reports whether s can be a name or an id: PostgreSQL refuses texts with a
// zero byte, and a page token may hold any bytes.
func isText(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

func formatPosition(p store.Position) string {
	return strconv.FormatInt(p.CreateTime.UnixNano(), 10) + " " + p.ID
}

func parsePosition(key string) (store.Position, error) {
	if key == "" {
		return store.Position{}, nil
	}
	at, id, ok := strings.Cut(key, " ")
	ns, err := strconv.ParseInt(at, 10, 64)
	if err != nil || !ok || !isText(id) {
		return store.Position{}, errors.New("not a position")
	}
	return store.Position{CreateTime: time.Unix(0, ns).UTC(), ID: id}, nil
}

var stateOf = map[notifierv1.Delivery_State]store.State{
	notifierv1.Delivery_STATE_UNSPECIFIED: 0,
	notifierv1.Delivery_STATE_PENDING:     store.StatePending,
	notifierv1.Delivery_STATE_DELIVERED:   store.StateDelivered,
	notifierv1.Delivery_STATE_FAILED:      store.StateFailed,
}

func message(d store.Delivery) *notifierv1.Delivery {
	m := &notifierv1.Delivery{
		DeliveryId: d.ID, Subscription: d.Subscription, ImageDigest: d.ImageDigest,
		State: notifierv1.Delivery_State(d.State), Attempts: int32(d.Attempts),
		LastError: d.LastError, LastStatusCode: int32(d.LastStatus),
		CreateTime: timestamppb.New(d.CreateTime), TraceId: d.TraceID,
	}
	if d.State == store.StateFailed && m.GetLastError() == "" {
		m.LastError = d.GiveUpReason
	}
	if d.State == store.StatePending && !d.NextAttempt.IsZero() {
		m.NextAttemptTime = timestamppb.New(d.NextAttempt)
	}
	return m
}
