// Package server answers the signer's RPCs: messages to domain and back, nothing
// else. No RPC signs anything.
package server

import (
	"context"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// Keys are the signer's keys; they are a *keyring.Ring.
type Keys interface {
	// List returns all keys, the one in use first.
	List(ctx context.Context) ([]store.SigningKey, error)
	Rotate(ctx context.Context, requestID string) (store.SigningKey, error)
	Revoke(ctx context.Context, id string) (store.SigningKey, error)
}

// Trust is what readers trust besides the keys.
type Trust struct {
	// Root is a Sigstore trusted root in JSON.
	Root []byte
	// Identities sign keyless; each has an ID of its name.
	Identities []attest.TrustedIdentity
}

// Register registers both services.
func Register(r grpc.ServiceRegistrar, s store.Store, k Keys, trust Trust) {
	signerv1.RegisterAttestationServiceServer(r, &attestations{store: s, keys: k, trust: trust})
	signerv1.RegisterKeyAdminServiceServer(r, &keyAdmin{keys: k})
}

type attestations struct {
	signerv1.UnimplementedAttestationServiceServer
	store store.Store
	keys  Keys
	trust Trust
}

// ListAttestations implements the RPC.
func (s *attestations) ListAttestations(ctx context.Context, req *signerv1.ListAttestationsRequest) (*signerv1.ListAttestationsResponse, error) {
	image := req.GetImage()
	if err := imageref.CheckDigest(image.GetDigest()); err != nil {
		return nil, apierr.InvalidField("image.digest", err.Error())
	}
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	query := strings.Join([]string{"attestations", image.GetRegistry(), image.GetRepository(), image.GetDigest()}, "\n")
	after, err := decodeCursor(query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	// One more than asked for tells whether there is a next page.
	entries, err := s.store.List(ctx, store.Query{
		SubjectDigest: image.GetDigest(), Registry: image.GetRegistry(), Repository: image.GetRepository(),
		After: after, Limit: size + 1,
	})
	if err != nil {
		return nil, err
	}
	out := &signerv1.ListAttestationsResponse{}
	if len(entries) > size {
		entries = entries[:size]
		out.NextPageToken = page.Encode(query, cursorKey(entries[size-1]))
	}
	for _, e := range entries {
		out.Attestations = append(out.Attestations, &signerv1.Attestation{
			Image:         &typev1.ImageRef{Registry: e.Registry, Repository: e.Repository, Digest: e.SubjectDigest},
			PredicateType: e.PredicateType, ManifestDigest: e.ManifestDigest, ContentDigest: e.ContentDigest,
			KeyId: e.KeyID, SignTime: timestamppb.New(e.SignTime), TraceId: e.TraceID,
			SupersedeTime: timestamp(e.SupersededTime),
			Identity:      e.Identity, LogIndex: e.LogIndex, ProveTime: timestamp(e.ProvenTime),
		})
	}
	return out, nil
}

func cursorKey(e store.Entry) string {
	return strconv.FormatInt(e.SignTime.UnixNano(), 10) + " " + e.ID
}

func decodeCursor(query, token string) (*store.Cursor, error) {
	key, err := page.Decode(query, token)
	if err != nil || key == "" {
		return nil, err
	}
	nanos, id, ok := strings.Cut(key, " ")
	n, err := strconv.ParseInt(nanos, 10, 64)
	if !ok || err != nil {
		return nil, apierr.New(codes.InvalidArgument, page.ReasonInvalidPageToken, "the page token is damaged")
	}
	return &store.Cursor{SignTime: time.Unix(0, n), ID: id}, nil
}

// GetTrustBundle implements the RPC.
func (s *attestations) GetTrustBundle(ctx context.Context, _ *signerv1.GetTrustBundleRequest) (*signerv1.GetTrustBundleResponse, error) {
	keys, err := list(ctx, s.keys)
	if err != nil {
		return nil, err
	}
	out := &signerv1.GetTrustBundleResponse{Keys: keys, TrustedRootJson: string(s.trust.Root)}
	for _, i := range s.trust.Identities {
		out.Identities = append(out.Identities, &signerv1.TrustedIdentity{
			Name: i.ID, Issuer: i.Issuer, Subject: i.Subject, Log: i.RequireLog, Timestamp: i.RequireTimestamp, Sct: i.RequireSCT,
		})
	}
	return out, nil
}
