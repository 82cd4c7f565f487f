package server

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
)

// Policies implements PolicyService over the policies that were loaded at start.
type Policies struct {
	verifierv1.UnimplementedPolicyServiceServer

	// all is ordered by name.
	all    []policy.Policy
	loaded time.Time
}

// NewPolicies returns the service. The policies are ordered by name.
func NewPolicies(all []policy.Policy, loaded time.Time) *Policies {
	return &Policies{all: all, loaded: loaded}
}

// GetPolicy implements PolicyService.
func (s *Policies) GetPolicy(_ context.Context, req *verifierv1.GetPolicyRequest) (*verifierv1.GetPolicyResponse, error) {
	if req.GetName() == "" {
		return nil, apierr.InvalidField("name", "a name is needed")
	}
	i, found := slices.BinarySearchFunc(s.all, req.GetName(), func(p policy.Policy, name string) int {
		return strings.Compare(p.Name, name)
	})
	if !found {
		return nil, apierr.New(codes.NotFound, "POLICY_NOT_FOUND", "there is no policy of that name").WithMetadata("name", req.GetName())
	}
	return &verifierv1.GetPolicyResponse{Policy: s.message(&s.all[i])}, nil
}

// ListPolicies implements PolicyService.
func (s *Policies) ListPolicies(_ context.Context, req *verifierv1.ListPoliciesRequest) (*verifierv1.ListPoliciesResponse, error) {
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := page.Decode("policies", req.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &verifierv1.ListPoliciesResponse{}
	for i := range s.all {
		p := &s.all[i]
		if p.Name <= after {
			continue
		}
		if len(out.Policies) == size {
			out.NextPageToken = page.Encode("policies", out.Policies[size-1].GetName())
			break
		}
		out.Policies = append(out.Policies, s.message(p))
	}
	return out, nil
}

func (s *Policies) message(p *policy.Policy) *verifierv1.Policy {
	return &verifierv1.Policy{
		Name: p.Name, Document: p.Document, Digest: p.Digest, Etag: p.Digest, UpdateTime: timestamppb.New(s.loaded),
	}
}
