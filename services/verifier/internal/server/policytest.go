package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/whatif"
)

// chunk of an export, in bytes.
const chunk = 64 << 10

// TestPolicy implements PolicyService.
func (s *Policies) TestPolicy(ctx context.Context, req *verifierv1.TestPolicyRequest) (*verifierv1.TestPolicyResponse, error) {
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	rules, err := s.Rules(ctx)
	if err != nil {
		return nil, err
	}
	change, query, err := s.change(req, rules.Policies)
	if err != nil {
		return nil, err
	}
	after, err := afterToken(query, req.GetPageToken(), rules.Revision)
	if err != nil {
		return nil, err
	}
	tester := whatif.Tester{Store: s.Store, Replayer: s.Replayer, Now: s.Auditor.Now}
	found, err := tester.Page(ctx, rules, change, after, size)
	if err != nil {
		return nil, err
	}
	out := &verifierv1.TestPolicyResponse{
		EvaluatedCount: int64(found.Evaluated), ChangedCount: int64(found.Changed),
		UnmatchedCount: int64(found.Unmatched), SkippedCount: int64(found.Skipped),
	}
	for _, k := range slices.SortedFunc(maps.Keys(found.States), func(a, b [2]core.State) int { return slices.Compare(a[:], b[:]) }) {
		out.StateChanges = append(out.StateChanges, &verifierv1.StateChange{
			From: verifierv1.Verdict_State(k[0]), To: verifierv1.Verdict_State(k[1]), Count: int64(found.States[k]),
		})
	}
	bytes := 0
	for i := range found.Flips {
		m := flipMessage(&found.Flips[i])
		if bytes += proto.Size(m); bytes > page.MaxBytes {
			m.Reasons = nil
		}
		out.Flips = append(out.Flips, m)
	}
	if found.More {
		out.NextPageToken = page.Encode(query, strings.Join([]string{
			strconv.FormatInt(rules.Revision, 10), found.Last.Digest, found.Last.Registry, found.Last.Repository,
		}, " "))
	}
	return out, nil
}

// change reads what is to be tried; the query names it for page tokens.
func (s *Policies) change(req *verifierv1.TestPolicyRequest, inForce []policy.Policy) (whatif.Change, string, error) {
	name := req.GetDeleteName()
	if (name == "") == (req.GetDocument() == "") {
		return whatif.Change{}, "", apierr.InvalidField("document", "a document or delete_name is needed, and not both")
	}
	if name != "" {
		if !slices.ContainsFunc(inForce, func(p policy.Policy) bool { return p.Name == name }) {
			return whatif.Change{}, "", noPolicy(name)
		}
		return whatif.Change{Delete: name}, "policy test without " + name, nil
	}
	p, err := s.parse(req.GetDocument())
	if err != nil {
		return whatif.Change{}, "", err
	}
	return whatif.Change{Policy: &p}, "policy test of " + p.Digest, nil
}

// afterToken is the image that the page before ended with.
func afterToken(query, token string, revision int64) (imageref.Ref, error) {
	key, err := page.Decode(query, token)
	if err != nil || key == "" {
		return imageref.Ref{}, err
	}
	parts := strings.Split(key, " ")
	if len(parts) != 4 {
		return imageref.Ref{}, apierr.InvalidField("page_token", "it is damaged")
	}
	if parts[0] != strconv.FormatInt(revision, 10) {
		return imageref.Ref{}, apierr.New(codes.Aborted, ReasonPoliciesChanged, "the policies or exceptions changed meanwhile; start again")
	}
	return imageref.Ref{Digest: parts[1], Registry: parts[2], Repository: parts[3]}, nil
}

func flipMessage(f *whatif.Flip) *verifierv1.VerdictFlip {
	m := &verifierv1.VerdictFlip{
		Image: verdictpb.Image(f.Image), PlatformDigest: f.Digest,
		From: verifierv1.Verdict_State(f.From), To: verifierv1.Verdict_State(f.To),
	}
	if f.Platform != (core.Platform{}) {
		m.Platform = &typev1.Platform{Os: f.Platform.OS, Architecture: f.Platform.Architecture, Variant: f.Platform.Variant}
	}
	for _, r := range f.Reasons {
		m.Reasons = append(m.Reasons, verdictpb.Reason(r))
	}
	return m
}

// ExportEvidence implements PolicyService.
func (s *Policies) ExportEvidence(req *verifierv1.ExportEvidenceRequest, stream grpc.ServerStreamingServer[verifierv1.ExportEvidenceResponse]) error {
	ctx := stream.Context()
	ref, err := checkRequest(req.GetImage())
	if err != nil {
		return err
	}
	if ref.Digest == "" {
		tags, err := s.Store.ResolveTags(ctx, []imageref.Ref{ref})
		if err != nil {
			return err
		}
		if tags[0] == nil || tags[0].Digest == "" {
			return noEvidence("what this tag means is not known: it was never pushed, or its push failed")
		}
		ref = ref.WithDigest(tags[0].Digest)
	}
	images, err := s.Store.Lookup(ctx, []imageref.Ref{ref}, s.Auditor.Now())
	if err != nil {
		return err
	}
	if images[0] == nil || images[0].Latest == nil {
		return noEvidence("no verdict of this image was reached")
	}
	latest := images[0].Latest
	recorded, err := verdictpb.Decode(latest.Body, latest.Sequence, latest.Digest, latest.TraceID)
	if err != nil {
		return err
	}
	platforms, missing, err := s.Replayer.Evidence(ctx, recorded, core.AllParts)
	if err != nil {
		return err
	}
	if len(missing) > 0 || len(platforms) == 0 {
		return noEvidence(fmt.Sprintf("the evidence of this image's verdict is not recorded: %d documents are missing", len(missing)))
	}
	data, err := record.EncodeImage(verdictpb.Ref(recorded.GetImage()), recorded.GetEvaluateTime().AsTime(), platforms)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(data, chunk) {
		if err := stream.Send(&verifierv1.ExportEvidenceResponse{Chunk: part}); err != nil {
			return fmt.Errorf("send evidence: %w", err)
		}
	}
	return nil
}

func noEvidence(why string) error { return apierr.New(codes.NotFound, ReasonEvidenceNotFound, why) }
