package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/wake"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/warm"
)

const (
	// MaxBatch is the number of images in one BatchGetVerdicts.
	MaxBatch = 500
	// answerMargin of the deadline is left for the way back.
	answerMargin = 100 * time.Millisecond
	// MaxWait is the longest that a call waits, whatever its deadline: a caller without one
	// would be kept forever. It gets the answer as it is then, pending.
	MaxWait = 5 * time.Minute
	// pollEvery finds what another replica stored.
	pollEvery = 500 * time.Millisecond
)

// Verdicts implements VerdictService; Register adds it to a server.
type Verdicts struct {
	verifierv1.UnimplementedVerdictServiceServer

	store     store.Store
	cache     *warm.Cache
	resolver  *Resolver
	hub       *wake.Hub
	replayer  *replay.Replayer
	refresher *Refresher
	now       func() time.Time
	// keys are slices of warm.Key between two calls.
	keys sync.Pool
}

// Deps are what the service is made with.
type Deps struct {
	Store store.Store
	// Cache keeps answers ready; the caller runs it.
	Cache    *warm.Cache
	Resolver *Resolver
	Hub      *wake.Hub
	Replayer *replay.Replayer
	// Refresher judges images again when somebody asks for it.
	Refresher *Refresher
	Now       func() time.Time
}

// NewVerdicts returns the service.
func NewVerdicts(d Deps) *Verdicts {
	return &Verdicts{store: d.Store, cache: d.Cache, resolver: d.Resolver, hub: d.Hub, replayer: d.Replayer, refresher: d.Refresher, now: d.Now}
}

// GetVerdict implements VerdictService. The answer is put into the message as it
// was encoded once: the reader cannot tell, and a verdict is not encoded anew for
// everybody who asks.
func (s *Verdicts) GetVerdict(ctx context.Context, req *verifierv1.GetVerdictRequest) (*verifierv1.GetVerdictResponse, error) {
	ref, err := checkRequest(req.GetImage())
	if err != nil {
		return nil, err
	}
	q, err := checkQuestion(req, verifierv1.VerdictView_VERDICT_VIEW_FULL, ref)
	if err != nil {
		return nil, err
	}
	if req.GetResolve() && ref.Digest == "" {
		if ref, err = s.resolver.Resolve(ctx, ref); err != nil {
			return nil, err
		}
	}
	var body []byte
	if req.GetWait() {
		v, err := s.wait(ctx, ref, q.environment)
		if err != nil {
			return nil, err
		}
		if body, err = encode(v, q.viewOf(ref)); err != nil {
			return nil, err
		}
	} else {
		all, err := s.answers(ctx, []imageref.Ref{ref}, q)
		if err != nil {
			return nil, err
		}
		body = all[0]
	}
	out := &verifierv1.GetVerdictResponse{}
	out.ProtoReflect().SetUnknown(body)
	return out, nil
}

// waitUntil ends shortly before the deadline of ctx, or after MaxWait.
func waitUntil(ctx context.Context) (context.Context, context.CancelFunc) {
	end := time.Now().Add(MaxWait)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-answerMargin).Before(end) {
		end = deadline.Add(-answerMargin)
	}
	return context.WithDeadline(ctx, end)
}

// wait looks until the image has settled, or until waitUntil ends.
func (s *Verdicts) wait(ctx context.Context, ref imageref.Ref, environment string) (*verifierv1.Verdict, error) {
	waiting, cancel := waitUntil(ctx)
	defer cancel()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		changed := s.hub.Changed()
		v, err := s.lookup(ctx, ref, environment)
		if err != nil || settled(v) {
			return v, err
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-waiting.Done():
			return v, nil
		}
	}
}

// ListVerdicts implements VerdictService.
func (s *Verdicts) ListVerdicts(ctx context.Context, req *verifierv1.ListVerdictsRequest) (*verifierv1.ListVerdictsResponse, error) {
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	if _, ok := verifierv1.Verdict_State_name[int32(req.GetState())]; !ok {
		return nil, apierr.InvalidField("state", "there is no such state")
	}
	if r := req.GetRepository(); r != "" && !strings.Contains(r, "/") {
		return nil, apierr.InvalidField("repository", "must be registry/repository")
	}
	query := fmt.Sprintf("verdicts state=%d repository=%s", req.GetState(), req.GetRepository())
	key, err := page.Decode(query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := store.ListQuery{Limit: size + 1, State: core.State(req.GetState()), Repository: req.GetRepository(), Now: s.now()}
	if key != "" {
		if q.Before, err = strconv.ParseInt(key, 10, 64); err != nil {
			return nil, apierr.InvalidField("page_token", "it is damaged")
		}
	}
	records, err := s.store.List(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &verifierv1.ListVerdictsResponse{}
	if fits := pageSize(records, size); fits < len(records) {
		records, size = records[:fits], fits
		out.NextPageToken = page.Encode(query, strconv.FormatInt(records[size-1].Sequence, 10))
	}
	for i := range records {
		v, err := served(&records[i], "", q.Now)
		if err != nil {
			return nil, err
		}
		out.Verdicts = append(out.Verdicts, v)
	}
	return out, nil
}

// pageSize is how many records make a page: at most limit, and one or more of at most
// page.MaxBytes together.
func pageSize(records []store.Record, limit int) int {
	bytes := 0
	for i := range records {
		bytes += len(records[i].Body)
		if i == limit || i > 0 && bytes > page.MaxBytes {
			return i
		}
	}
	return len(records)
}
