// Package server answers the signer's RPCs: messages to domain and back, nothing
// else. No RPC signs anything.
package server

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// Register registers both services. currentKey is the id of the key in use.
func Register(r grpc.ServiceRegistrar, s store.Store, currentKey string) {
	keys := keys{store: s, current: currentKey}
	signerv1.RegisterAttestationServiceServer(r, &attestations{store: s, keys: keys})
	signerv1.RegisterKeyAdminServiceServer(r, &keyAdmin{keys: keys})
}

type attestations struct {
	signerv1.UnimplementedAttestationServiceServer
	store store.Store
	keys  keys
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
	keys, err := s.keys.list(ctx)
	if err != nil {
		return nil, err
	}
	return &signerv1.GetTrustBundleResponse{Keys: keys}, nil
}

type keyAdmin struct {
	signerv1.UnimplementedKeyAdminServiceServer
	keys keys
}

// ListKeys implements the RPC.
func (s *keyAdmin) ListKeys(ctx context.Context, _ *signerv1.ListKeysRequest) (*signerv1.ListKeysResponse, error) {
	keys, err := s.keys.list(ctx)
	if err != nil {
		return nil, err
	}
	return &signerv1.ListKeysResponse{Keys: keys}, nil
}

type keys struct {
	store   store.Store
	current string
}

// list returns all keys, the one in use first.
func (k keys) list(ctx context.Context) ([]*signerv1.TrustedKey, error) {
	all, err := k.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(x store.SigningKey) bool { return x.ID == k.current })
	if i < 0 {
		return nil, fmt.Errorf("the key in use, %s, is not in the database", k.current)
	}
	out := []*signerv1.TrustedKey{trustedKey(all[i])}
	for _, x := range slices.Delete(all, i, i+1) {
		out = append(out, trustedKey(x))
	}
	return out, nil
}

func trustedKey(k store.SigningKey) *signerv1.TrustedKey {
	return &signerv1.TrustedKey{
		KeyId: k.ID, PublicKeyPem: k.PublicPEM, StartTime: timestamp(k.StartTime), EndTime: timestamp(k.EndTime),
	}
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
