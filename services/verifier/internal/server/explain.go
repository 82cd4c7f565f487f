package server

import (
	"context"
	"errors"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

// Reasons of errors.
const (
	ReasonVerdictNotFound  = "VERDICT_NOT_FOUND"
	ReasonVerdictNotJudged = "VERDICT_NOT_JUDGED"
	ReasonTagUnknown       = "TAG_UNKNOWN"
)

// ExplainVerdict implements VerdictService.
func (s *Verdicts) ExplainVerdict(ctx context.Context, req *verifierv1.ExplainVerdictRequest) (*verifierv1.ExplainVerdictResponse, error) {
	if err := imageref.CheckDigest(req.GetVerdictDigest()); err != nil {
		return nil, apierr.InvalidField("verdict_digest", err.Error())
	}
	r, err := s.store.Verdict(ctx, req.GetVerdictDigest())
	if errors.Is(err, store.ErrNotFound) {
		return nil, apierr.New(codes.NotFound, ReasonVerdictNotFound, "no verdict with that digest")
	}
	if err != nil {
		return nil, err
	}
	recorded, err := verdictpb.Decode(r.Body, r.Sequence, r.Digest, r.TraceID)
	if err != nil {
		return nil, err
	}
	found, err := s.replayer.Explain(ctx, recorded)
	if errors.Is(err, replay.ErrNotJudged) {
		return nil, apierr.New(codes.FailedPrecondition, ReasonVerdictNotJudged, "no policy was evaluated for this verdict; its reason says why")
	}
	if err != nil {
		return nil, err
	}
	out := &verifierv1.ExplainVerdictResponse{
		Recorded: recorded, Replayed: found.Replayed, Equal: found.Equal, MissingInputs: found.Missing,
	}
	for _, w := range found.Withdrawn {
		out.WithdrawnInputs = append(out.WithdrawnInputs, &verifierv1.WithdrawnInput{
			ManifestDigest: w.ManifestDigest, PredicateType: w.PredicateType, KeyId: w.KeyID, PlatformDigest: w.PlatformDigest,
		})
	}
	for _, m := range found.VexMismatches {
		out.VexMismatches = append(out.VexMismatches, &verifierv1.VexMismatch{
			Vulnerability: m.Vulnerability, Purl: m.Purl, PlatformDigest: m.PlatformDigest, Status: m.Status, Author: m.Author,
			DocumentDigest: m.Document, StatementTime: timestamppb.New(m.Time), Why: m.Why,
		})
	}
	return out, nil
}

// GetVerdictHistory implements VerdictService.
func (s *Verdicts) GetVerdictHistory(ctx context.Context, req *verifierv1.GetVerdictHistoryRequest) (*verifierv1.GetVerdictHistoryResponse, error) {
	ref, err := checkRequest(req.GetImage())
	if err != nil {
		return nil, err
	}
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	if ref.Digest == "" {
		tags, err := s.store.ResolveTags(ctx, []imageref.Ref{ref})
		if err != nil {
			return nil, err
		}
		if tags[0] == nil || tags[0].Digest == "" {
			return nil, apierr.New(codes.NotFound, ReasonTagUnknown, "what this tag means is not known: it was never pushed, or its push failed")
		}
		ref = ref.WithDigest(tags[0].Digest)
	}
	query := "history " + ref.Registry + "/" + ref.Repository + "@" + ref.Digest
	key, err := page.Decode(query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	before := int64(0)
	if key != "" {
		if before, err = strconv.ParseInt(key, 10, 64); err != nil {
			return nil, apierr.InvalidField("page_token", "it is damaged")
		}
	}
	records, err := s.store.History(ctx, ref, before, size+1)
	if err != nil {
		return nil, err
	}
	out := &verifierv1.GetVerdictHistoryResponse{}
	if fits := pageSize(records, size); fits < len(records) {
		records = records[:fits]
		out.NextPageToken = page.Encode(query, strconv.FormatInt(records[fits-1].Sequence, 10))
	}
	for _, r := range records {
		v, err := verdictpb.Decode(r.Body, r.Sequence, r.Digest, r.TraceID)
		if err != nil {
			return nil, err
		}
		out.Changes = append(out.Changes, &verifierv1.VerdictChange{
			Verdict: v, PreviousState: verifierv1.Verdict_State(r.PreviousState),
			Cause: verifierv1.VerdictChange_Cause(r.Cause.Kind), Detail: r.Cause.Detail,
		})
	}
	return out, nil
}
