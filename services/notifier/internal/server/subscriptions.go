package server

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	notifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/notifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
)

// Subscriptions implements SubscriptionService.
type Subscriptions struct {
	notifierv1.UnimplementedSubscriptionServiceServer

	store store.Store
	list  []core.Subscription
}

// NewSubscriptions serves the subscriptions of the configuration.
func NewSubscriptions(s store.Store, list []core.Subscription) *Subscriptions {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b core.Subscription) int { return strings.Compare(a.Name, b.Name) })
	return &Subscriptions{store: s, list: list}
}

// GetSubscription returns a subscription.
func (s *Subscriptions) GetSubscription(ctx context.Context, req *notifierv1.GetSubscriptionRequest) (*notifierv1.GetSubscriptionResponse, error) {
	i, ok := slices.BinarySearchFunc(s.list, req.GetName(), func(x core.Subscription, name string) int { return strings.Compare(x.Name, name) })
	if !ok {
		return nil, apierr.New(codes.NotFound, "SUBSCRIPTION_NOT_FOUND", "no subscription of that name")
	}
	gone, err := s.store.Gone(ctx)
	if err != nil {
		return nil, err
	}
	return &notifierv1.GetSubscriptionResponse{Subscription: subscriptionMessage(s.list[i], gone)}, nil
}

// ListSubscriptions lists the subscriptions, ordered by name.
func (s *Subscriptions) ListSubscriptions(ctx context.Context, req *notifierv1.ListSubscriptionsRequest) (*notifierv1.ListSubscriptionsResponse, error) {
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := page.Decode("ListSubscriptions", req.GetPageToken())
	if err != nil {
		return nil, err
	}
	gone, err := s.store.Gone(ctx)
	if err != nil {
		return nil, err
	}
	resp := &notifierv1.ListSubscriptionsResponse{}
	for _, x := range s.list {
		if x.Name <= after {
			continue
		}
		if len(resp.GetSubscriptions()) == size {
			resp.NextPageToken = page.Encode("ListSubscriptions", resp.GetSubscriptions()[size-1].GetName())
			break
		}
		resp.Subscriptions = append(resp.Subscriptions, subscriptionMessage(x, gone))
	}
	return resp, nil
}

// CreateSubscription is not in this release.
func (s *Subscriptions) CreateSubscription(context.Context, *notifierv1.CreateSubscriptionRequest) (*notifierv1.CreateSubscriptionResponse, error) {
	return nil, errFromConfig
}

// UpdateSubscription is not in this release.
func (s *Subscriptions) UpdateSubscription(context.Context, *notifierv1.UpdateSubscriptionRequest) (*notifierv1.UpdateSubscriptionResponse, error) {
	return nil, errFromConfig
}

// DeleteSubscription is not in this release.
func (s *Subscriptions) DeleteSubscription(context.Context, *notifierv1.DeleteSubscriptionRequest) (*notifierv1.DeleteSubscriptionResponse, error) {
	return nil, errFromConfig
}

// TestSubscription is not in this release.
func (s *Subscriptions) TestSubscription(context.Context, *notifierv1.TestSubscriptionRequest) (*notifierv1.TestSubscriptionResponse, error) {
	return nil, errFromConfig
}

var errFromConfig = apierr.New(codes.Unimplemented, "NOT_IMPLEMENTED",
	"in this release subscriptions come from the configuration")

func subscriptionMessage(s core.Subscription, gone map[string]string) *notifierv1.Subscription {
	return &notifierv1.Subscription{
		Name: s.Name, Url: s.Address, Repositories: s.Filter.Repositories, States: s.Filter.States,
		Disabled: gone[s.Name] == s.AddressHash,
	}
}
