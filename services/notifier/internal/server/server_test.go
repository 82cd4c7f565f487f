package server_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	notifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/notifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/store/storetest"
)

func open(t *testing.T) *store.SQL {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.SQLite(t), store.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), store.Migrations()); err != nil {
		t.Fatal(err)
	}
	return store.New(db)
}

func now() time.Time { return storetest.T0 }

func TestListDeliveries(t *testing.T) {
	s := open(t)
	for i := range 5 {
		d := storetest.Delivery(fmt.Sprint("e", i), "a")
		d.CreateTime = d.CreateTime.Add(time.Duration(i) * time.Second)
		if _, err := s.Add(t.Context(), []store.Delivery{d}); err != nil {
			t.Fatal(err)
		}
	}
	api := server.NewDeliveries(s, func() {}, now)
	var got []string
	req := &notifierv1.ListDeliveriesRequest{PageSize: 2, Subscription: "a", State: notifierv1.Delivery_STATE_PENDING}
	for {
		resp, err := api.ListDeliveries(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range resp.GetDeliveries() {
			got = append(got, d.GetDeliveryId())
		}
		if resp.GetNextPageToken() == "" {
			break
		}
		req.PageToken = resp.GetNextPageToken()
	}
	if diff := cmp.Diff([]string{"dlv_e4_a", "dlv_e3_a", "dlv_e2_a", "dlv_e1_a", "dlv_e0_a"}, got); diff != "" {
		t.Error(diff)
	}
	resp, err := api.ListDeliveries(t.Context(), &notifierv1.ListDeliveriesRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	want := &notifierv1.Delivery{
		DeliveryId: "dlv_e4_a", Subscription: "a", ImageDigest: "sha256:e4", State: notifierv1.Delivery_STATE_PENDING,
		NextAttemptTime: timestamppb.New(storetest.T0), CreateTime: timestamppb.New(storetest.T0.Add(4 * time.Second)), TraceId: "trace-e4",
	}
	if diff := cmp.Diff(want, resp.GetDeliveries()[0], protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	for name, bad := range map[string]*notifierv1.ListDeliveriesRequest{
		"negative size":       {PageSize: -1},
		"foreign token":       {PageToken: req.GetPageToken()},
		"no token":            {PageToken: "!"},
		"unknown state":       {State: 99},
		"zero byte":           {Subscription: "a\x00b"},
		"digest is no digest": {ImageDigest: "latest"},
	} {
		if _, err := api.ListDeliveries(t.Context(), bad); err == nil || apierr.From(err).Code() != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRedeliverDeliveries(t *testing.T) {
	s := open(t)
	d := storetest.Delivery("e1", "a")
	if _, err := s.Add(t.Context(), []store.Delivery{d}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GiveUp(t.Context(), "a", "GONE", time.Time{}, now()); err != nil {
		t.Fatal(err)
	}
	wakes := 0
	api := server.NewDeliveries(s, func() { wakes++ }, now)
	resp, err := api.RedeliverDeliveries(t.Context(), &notifierv1.RedeliverDeliveriesRequest{DeliveryIds: []string{d.ID, d.ID}})
	if err != nil || resp.GetDeliveryCount() != 1 || wakes != 1 {
		t.Errorf("%v, %v, %d wakes", resp, err, wakes)
	}
	for _, ids := range [][]string{{"nobody"}, {d.ID, "nobody"}, {"\x00"}, {""}} {
		_, err := api.RedeliverDeliveries(t.Context(), &notifierv1.RedeliverDeliveriesRequest{DeliveryIds: ids})
		if !apierr.HasReason(err, "DELIVERY_NOT_FOUND") || apierr.From(err).Code() != codes.NotFound {
			t.Errorf("%q: %v", ids, err)
		}
	}
	many := make([]string, server.MaxRedeliver+1)
	if _, err := api.RedeliverDeliveries(t.Context(), &notifierv1.RedeliverDeliveriesRequest{DeliveryIds: many}); apierr.From(err).Code() != codes.InvalidArgument {
		t.Errorf("%v", err)
	}
}

func TestSubscriptions(t *testing.T) {
	s := open(t)
	if err := s.MarkGone(t.Context(), "b", "hash-b", now()); err != nil {
		t.Fatal(err)
	}
	if err := s.MarkGone(t.Context(), "c", "hash of another address", now()); err != nil {
		t.Fatal(err)
	}
	api := server.NewSubscriptions(s, []core.Subscription{
		{Name: "c", Address: "https://c.example", AddressHash: "hash-c"},
		{Name: "a", Address: "https://a.example", AddressHash: "hash-a", Filter: core.Filter{Repositories: []string{"x/**"}, States: []string{"FAIL"}}},
		{Name: "b", Address: "https://b.example", AddressHash: "hash-b"},
	})
	var got []*notifierv1.Subscription
	req := &notifierv1.ListSubscriptionsRequest{PageSize: 2}
	for {
		resp, err := api.ListSubscriptions(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, resp.GetSubscriptions()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	want := []*notifierv1.Subscription{
		{Name: "a", Url: "https://a.example", Repositories: []string{"x/**"}, States: []string{"FAIL"}},
		{Name: "b", Url: "https://b.example", Disabled: true},
		{Name: "c", Url: "https://c.example"},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	one, err := api.GetSubscription(t.Context(), &notifierv1.GetSubscriptionRequest{Name: "b"})
	if err != nil || !one.GetSubscription().GetDisabled() {
		t.Errorf("%v, %v", one, err)
	}
	if _, err := api.GetSubscription(t.Context(), &notifierv1.GetSubscriptionRequest{Name: "x"}); !apierr.HasReason(err, "SUBSCRIPTION_NOT_FOUND") {
		t.Errorf("%v", err)
	}
	if _, err := api.CreateSubscription(t.Context(), nil); apierr.From(err).Code() != codes.Unimplemented {
		t.Errorf("%v", err)
	}
}
