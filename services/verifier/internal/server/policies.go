package server

import (
	"context"
	"errors"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/strictyaml"
)

// Reasons of errors.
const (
	ReasonPolicyExists     = "POLICY_EXISTS"
	ReasonPolicyNotFound   = "POLICY_NOT_FOUND"
	ReasonPolicyFromFile   = "POLICY_FROM_FILE"
	ReasonTooManyPolicies  = "TOO_MANY_POLICIES"
	ReasonEtagMismatch     = "ETAG_MISMATCH"
	ReasonPoliciesChanged  = "POLICIES_CHANGED"
	ReasonEvidenceNotFound = "EVIDENCE_NOT_FOUND"
)

// maxFaults bounds the violations of one answer.
const maxFaults = 50

// Policies implements PolicyService.
type Policies struct {
	verifierv1.UnimplementedPolicyServiceServer
	PoliciesDeps
}

// PoliciesDeps is what the service works with.
type PoliciesDeps struct {
	Store    store.Store
	Loader   *policy.Loader
	Replayer *replay.Replayer
	// Rules returns the rules in force.
	Rules   func(context.Context) (replay.Rules, error)
	Auditor Auditor
	// Changed is called after a change, so that it is told at once.
	Changed func()
	// CatchUp has answers that are kept ready see all changes so far.
	CatchUp func(context.Context) error
}

// NewPolicies returns the service.
func NewPolicies(d PoliciesDeps) *Policies { return &Policies{PoliciesDeps: d} }

// GetPolicy implements PolicyService.
func (s *Policies) GetPolicy(ctx context.Context, req *verifierv1.GetPolicyRequest) (*verifierv1.GetPolicyResponse, error) {
	if req.GetName() == "" {
		return nil, apierr.InvalidField("name", "a name is needed")
	}
	if req.GetVersion() < 0 {
		return nil, apierr.InvalidField("version", "must not be negative")
	}
	p, err := s.Store.Policy(ctx, req.GetName(), req.GetVersion())
	if err != nil {
		return nil, refused(err, req.GetName())
	}
	return &verifierv1.GetPolicyResponse{Policy: policyMessage(&p)}, nil
}

// ListPolicies implements PolicyService.
func (s *Policies) ListPolicies(ctx context.Context, req *verifierv1.ListPoliciesRequest) (*verifierv1.ListPoliciesResponse, error) {
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := page.Decode("policies", req.GetPageToken())
	if err != nil {
		return nil, err
	}
	all, err := s.Store.Policies(ctx, after, size+1)
	if err != nil {
		return nil, err
	}
	out := &verifierv1.ListPoliciesResponse{}
	for i := range all {
		out.Policies = append(out.Policies, policyMessage(&all[i]))
	}
	if fits := page.Fit(out.GetPolicies(), size); fits < len(all) {
		out.Policies = out.GetPolicies()[:fits]
		out.NextPageToken = page.Encode("policies", all[fits-1].Name)
	}
	return out, nil
}

// ListPolicyVersions implements PolicyService.
func (s *Policies) ListPolicyVersions(ctx context.Context, req *verifierv1.ListPolicyVersionsRequest) (*verifierv1.ListPolicyVersionsResponse, error) {
	if req.GetName() == "" {
		return nil, apierr.InvalidField("name", "a name is needed")
	}
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	query := "policy versions " + req.GetName()
	key, err := page.Decode(query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	before := int64(0)
	if key != "" {
		if before, err = strconv.ParseInt(key, 10, 64); err != nil || before < 1 {
			return nil, apierr.InvalidField("page_token", "it is damaged")
		}
	}
	all, err := s.Store.PolicyVersions(ctx, req.GetName(), before, size+1)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 && before == 0 {
		return nil, noPolicy(req.GetName())
	}
	out := &verifierv1.ListPolicyVersionsResponse{}
	for i := range all {
		out.Versions = append(out.Versions, policyMessage(&all[i]))
	}
	if fits := page.Fit(out.GetVersions(), size); fits < len(all) {
		out.Versions = out.GetVersions()[:fits]
		out.NextPageToken = page.Encode(query, strconv.FormatInt(all[fits-1].Version, 10))
	}
	return out, nil
}

// CreatePolicy implements PolicyService.
func (s *Policies) CreatePolicy(ctx context.Context, req *verifierv1.CreatePolicyRequest) (*verifierv1.CreatePolicyResponse, error) {
	p, err := s.version(ctx, req.GetDocument(), req.GetRequestId())
	if err != nil {
		return nil, err
	}
	stored, err := s.Store.CreatePolicy(ctx, p, policy.MaxPolicies, s.Auditor.By(ctx, verifierv1.PolicyService_CreatePolicy_FullMethodName))
	if err != nil {
		return nil, refused(err, p.Name)
	}
	s.Changed()
	return &verifierv1.CreatePolicyResponse{Policy: policyMessage(&stored)}, nil
}

// UpdatePolicy implements PolicyService.
func (s *Policies) UpdatePolicy(ctx context.Context, req *verifierv1.UpdatePolicyRequest) (*verifierv1.UpdatePolicyResponse, error) {
	if req.GetEtag() == "" {
		return nil, apierr.InvalidField("etag", "the etag of the policy to change is needed; GetPolicy gives it")
	}
	p, err := s.version(ctx, req.GetDocument(), req.GetRequestId())
	if err != nil {
		return nil, err
	}
	stored, err := s.Store.UpdatePolicy(ctx, p, req.GetEtag(), s.Auditor.By(ctx, verifierv1.PolicyService_UpdatePolicy_FullMethodName))
	if err != nil {
		return nil, refused(err, p.Name)
	}
	s.Changed()
	return &verifierv1.UpdatePolicyResponse{Policy: policyMessage(&stored)}, nil
}

// DeletePolicy implements PolicyService.
func (s *Policies) DeletePolicy(ctx context.Context, req *verifierv1.DeletePolicyRequest) (*verifierv1.DeletePolicyResponse, error) {
	if req.GetName() == "" {
		return nil, apierr.InvalidField("name", "a name is needed")
	}
	gone := store.Policy{Name: req.GetName(), Actor: grpcx.PeerID(ctx), CreateTime: s.Auditor.Now()}
	if err := s.Store.DeletePolicy(ctx, gone, req.GetEtag(), s.Auditor.By(ctx, verifierv1.PolicyService_DeletePolicy_FullMethodName)); err != nil {
		return nil, refused(err, gone.Name)
	}
	s.Changed()
	return &verifierv1.DeletePolicyResponse{}, nil
}

// version makes the new version that a document is.
func (s *Policies) version(ctx context.Context, document, requestID string) (store.Policy, error) {
	if len(requestID) > maxRequestID {
		return store.Policy{}, apierr.InvalidField("request_id", "must have at most 100 bytes")
	}
	p, err := s.parse(document)
	if err != nil {
		return store.Policy{}, err
	}
	return store.Policy{
		Name: p.Name, RequestID: requestID, Actor: grpcx.PeerID(ctx), CreateTime: s.Auditor.Now(),
		Digest: p.Digest, Document: p.Document, Repositories: p.Repositories,
	}, nil
}

// parse reads the document of a request; every fault is a violation of the field that it
// names in it.
func (s *Policies) parse(document string) (policy.Policy, error) {
	p, faults := s.Loader.ParseOne(document)
	if len(faults) == 0 {
		return p, nil
	}
	var out *apierr.Error
	for _, f := range faults[:min(len(faults), maxFaults)] {
		field, problem := "document", f.Error()
		if fault, ok := errors.AsType[*strictyaml.Fault](f); ok && fault.Path != "" {
			field, problem = field+"."+fault.Path, fault.Place()+fault.Problem
		}
		if out == nil {
			out = apierr.InvalidField(field, problem)
		} else {
			out = out.WithViolation(field, problem)
		}
	}
	return policy.Policy{}, out
}

// refused makes an answer of why the store did not do it.
func refused(err error, name string) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return noPolicy(name)
	case errors.Is(err, store.ErrExists):
		return apierr.New(codes.AlreadyExists, ReasonPolicyExists, "there is a policy of that name; update it").WithMetadata("name", name)
	case errors.Is(err, store.ErrEtag):
		return apierr.New(codes.Aborted, ReasonEtagMismatch, "the policy was changed meanwhile; read it again").
			WithMetadata("name", name).WithViolation("etag", "it is of another version of the policy")
	case errors.Is(err, store.ErrFromFile):
		return apierr.New(codes.FailedPrecondition, ReasonPolicyFromFile,
			"the policy comes from a file of the verifier; change it there").WithMetadata("name", name)
	case errors.Is(err, store.ErrTooMany):
		return apierr.Newf(codes.ResourceExhausted, ReasonTooManyPolicies, "there are %d policies; delete one that is not needed", policy.MaxPolicies)
	default:
		return err
	}
}

func noPolicy(name string) error {
	return apierr.New(codes.NotFound, ReasonPolicyNotFound, "no policy of that name").WithMetadata("name", name)
}

func policyMessage(p *store.Policy) *verifierv1.Policy {
	return &verifierv1.Policy{
		Name: p.Name, Document: p.Document, Digest: p.Digest, Etag: p.Etag(), UpdateTime: timestamppb.New(p.CreateTime),
		Version: p.Version, FromFile: p.FromFile, Actor: p.Actor, Deleted: p.Deleted,
	}
}
