package command

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/fleet"
	notifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/notifier/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

// deliveryQuery is what deliveries are chosen by.
type deliveryQuery struct {
	state, subscription string
	limit               int
}

func (s *session) deliveries() *cobra.Command {
	var q deliveryQuery
	cmd := &cobra.Command{
		Use:   "deliveries [IMAGE]",
		Short: "List notifications and what became of them, newest first",
		Example: `  seaworthyctl deliveries shop/ledger:1.5.0
  seaworthyctl deliveries --state failed`,
		Args: cobra.MaximumNArgs(1),
		RunE: s.run(func(ctx context.Context, args []string) error { return s.runDeliveries(ctx, args, q) }),
	}
	cmd.Flags().StringVar(&q.state, "state", "", "only those in this state: pending, delivered or failed")
	cmd.Flags().StringVar(&q.subscription, "subscription", "", "only those of this subscription")
	cmd.Flags().IntVar(&q.limit, "limit", 100, "list at most this many")
	return cmd
}

func (s *session) runDeliveries(ctx context.Context, args []string, q deliveryQuery) error {
	if q.limit < 1 {
		return usagef("--limit %d is less than 1", q.limit)
	}
	req := &notifierv1.ListDeliveriesRequest{Subscription: q.subscription}
	if q.state != "" {
		n, ok := notifierv1.Delivery_State_value["STATE_"+strings.ToUpper(q.state)]
		if !ok || n == 0 {
			return usagef("--state %q is none of pending, delivered, failed", q.state)
		}
		req.State = notifierv1.Delivery_State(n)
	}
	f, err := s.open()
	if err != nil {
		return err
	}
	client, err := f.Deliveries()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	if len(args) == 1 {
		if req.ImageDigest, err = digestOf(ctx, f, args[0]); err != nil {
			return err
		}
	}
	all := &notifierv1.ListDeliveriesResponse{}
	for len(all.GetDeliveries()) < q.limit {
		req.PageSize = int32(min(pageSize, q.limit-len(all.GetDeliveries())))
		resp, err := client.ListDeliveries(ctx, req)
		if err != nil {
			return err
		}
		all.Deliveries = append(all.Deliveries, resp.GetDeliveries()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	return s.printDeliveries(all)
}

// digestOf is the digest of an image; of a tag that which the verifier knows.
func digestOf(ctx context.Context, f *fleet.Fleet, arg string) (string, error) {
	img, err := imageMessage(f, arg)
	if err != nil || img.GetDigest() != "" {
		return img.GetDigest(), err
	}
	client, err := f.Verdicts()
	if err != nil {
		return "", err
	}
	resp, err := client.GetVerdict(ctx, &verifierv1.GetVerdictRequest{Image: img})
	if err != nil {
		return "", err
	}
	if digest := resp.GetVerdict().GetImage().GetDigest(); digest != "" {
		return digest, nil
	}
	return "", apierr.Newf(codes.NotFound, "NEVER_SEEN", "the fleet has never seen %s", imageName(img))
}

func (s *session) printDeliveries(all *notifierv1.ListDeliveriesResponse) error {
	if s.json() {
		return output.JSON(s.env.Out, all)
	}
	if len(all.GetDeliveries()) == 0 {
		s.notef("no deliveries")
		return nil
	}
	t := output.NewTable(s.env.Out, "CREATED", "SUBSCRIPTION", "STATE", "ATTEMPTS", "STATUS", "NEXT ATTEMPT", "IMAGE", "LAST ERROR")
	for _, d := range all.GetDeliveries() {
		status := ""
		if d.GetLastStatusCode() != 0 {
			status = strconv.Itoa(int(d.GetLastStatusCode()))
		}
		t.Row(output.Timestamp(d.GetCreateTime()), d.GetSubscription(), output.Enum(d.GetState(), "STATE_"), strconv.Itoa(int(d.GetAttempts())),
			status, output.Timestamp(d.GetNextAttemptTime()), output.ShortDigest(d.GetImageDigest()), output.Cut(d.GetLastError(), 60))
	}
	return t.Flush()
}
