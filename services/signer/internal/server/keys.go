package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"regexp"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keyring"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

type keyAdmin struct {
	signerv1.UnimplementedKeyAdminServiceServer
	keys Keys
}

// ListKeys implements the RPC.
func (s *keyAdmin) ListKeys(ctx context.Context, _ *signerv1.ListKeysRequest) (*signerv1.ListKeysResponse, error) {
	keys, err := list(ctx, s.keys)
	if err != nil {
		return nil, err
	}
	return &signerv1.ListKeysResponse{Keys: keys}, nil
}

var (
	uuidPattern  = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	keyIDPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// RotateKey implements the RPC.
func (s *keyAdmin) RotateKey(ctx context.Context, req *signerv1.RotateKeyRequest) (*signerv1.RotateKeyResponse, error) {
	if !uuidPattern.MatchString(req.GetRequestId()) {
		return nil, apierr.InvalidField("request_id", "must be a UUID")
	}
	k, err := s.keys.Rotate(ctx, req.GetRequestId())
	switch {
	case errors.Is(err, keyring.ErrNoKeyStore):
		return nil, apierr.New(codes.FailedPrecondition, "NO_KEY_STORE", "the signer has no key store: none of its identities is of type key")
	case errors.Is(err, keystore.ErrNotWritten):
		return nil, apierr.New(codes.FailedPrecondition, "KEY_NOT_WRITTEN", "the new key could not be written, the one in use stays in use: "+
			"see that the disk of the signer's keystore.dir is not full and that the signer's user may write there, then rotate again").WithCause(err)
	case err != nil:
		return nil, err
	}
	return &signerv1.RotateKeyResponse{Key: trustedKey(k)}, nil
}

// RevokeKey implements the RPC.
func (s *keyAdmin) RevokeKey(ctx context.Context, req *signerv1.RevokeKeyRequest) (*signerv1.RevokeKeyResponse, error) {
	if !keyIDPattern.MatchString(req.GetKeyId()) {
		return nil, apierr.InvalidField("key_id", "must be 64 lower-case hex digits")
	}
	k, err := s.keys.Revoke(ctx, req.GetKeyId())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, apierr.New(codes.NotFound, "KEY_NOT_FOUND", "the signer never had this key")
	case errors.Is(err, store.ErrInUse):
		return nil, apierr.New(codes.FailedPrecondition, "KEY_IN_USE", "the key is in use: rotate it first")
	case errors.Is(err, keystore.ErrNotWritten):
		return nil, apierr.New(codes.FailedPrecondition, "REVOCATION_NOT_WRITTEN", "the revocation could not be written into the signer's keystore.dir, "+
			"so a lost database would forget it: see that the disk is not full and that the signer's user may write there, then revoke the key again").WithCause(err)
	case err != nil:
		return nil, err
	}
	return &signerv1.RevokeKeyResponse{Key: trustedKey(k)}, nil
}

func list(ctx context.Context, keys Keys) ([]*signerv1.TrustedKey, error) {
	all, err := keys.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*signerv1.TrustedKey, 0, len(all))
	for _, k := range all {
		out = append(out, trustedKey(k))
	}
	return out, nil
}

func trustedKey(k store.SigningKey) *signerv1.TrustedKey {
	return &signerv1.TrustedKey{
		KeyId: k.ID, PublicKeyPem: k.PublicPEM, StartTime: timestamp(k.StartTime), EndTime: timestamp(k.EndTime),
		RevokeTime: timestamp(k.RevokeTime), Algorithm: algorithm(k.PublicPEM),
	}
}

func algorithm(publicPEM string) string {
	pub, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(publicPEM))
	if err != nil {
		return ""
	}
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return ""
		}
		return "ECDSA_P256"
	case ed25519.PublicKey:
		return "ED25519"
	case *rsa.PublicKey:
		return "RSA"
	default:
		return ""
	}
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
