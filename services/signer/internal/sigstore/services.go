package sigstore

import (
	"context"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorv1 "github.com/sigstore/rekor/pkg/client"
	"github.com/sigstore/rekor/pkg/generated/client/entries"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
)

// ErrNoService says that the signing config names no service of a kind, or none
// that is valid now.
var ErrNoService = errors.New("sigstore.signing_config names no such service that is valid now")

// Certificate asks a certificate authority for a certificate of the key, for whom
// the identity token is of. It returns DER.
func (c *Client) Certificate(ctx context.Context, key sign.Keypair, token string) ([]byte, error) {
	s, err := root.SelectService(c.signing.FulcioCertificateAuthorityURLs(), sign.FulcioAPIVersions, c.now())
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w: %w", ErrNoService, err)
	}
	var der []byte
	err = c.fulcio.Do(ctx, func(ctx context.Context) error {
		attempt := &call{ctx: ctx, base: c.transport}
		var err error
		// The deadline is ctx's.
		fulcio := sign.NewFulcio(&sign.FulcioOptions{BaseURL: s.URL, Timeout: -1, Transport: attempt})
		der, err = fulcio.GetCertificate(ctx, key, &sign.CertificateProviderOptions{IDToken: token})
		return attempt.judge(err)
	})
	return der, err
}

// stamp adds the timestamps that the signing config asks for.
func (c *Client) stamp(ctx context.Context, b *protobundle.Bundle) error {
	services, err := root.SelectServices(c.signing.TimestampAuthorityURLs(), c.signing.TimestampAuthorityURLsConfig(),
		sign.TimestampAuthorityAPIVersions, c.now())
	if err != nil {
		return fmt.Errorf("timestamp authority: %w: %w", ErrNoService, err)
	}
	signature := b.GetMessageSignature().GetSignature()
	if e := b.GetDsseEnvelope(); e != nil {
		signature = e.GetSignatures()[0].GetSig()
	}
	data := &protobundle.TimestampVerificationData{}
	for _, s := range services {
		err := c.stamps.Do(ctx, func(ctx context.Context) error {
			attempt := &call{ctx: ctx, base: c.transport}
			authority := sign.NewTimestampAuthority(&sign.TimestampAuthorityOptions{URL: s.URL, Timeout: -1, Transport: attempt})
			stamp, err := authority.GetTimestamp(ctx, signature)
			if err != nil {
				return attempt.judge(err)
			}
			data.Rfc3161Timestamps = append(data.Rfc3161Timestamps, &protocommon.RFC3161SignedTimestamp{SignedTimestamp: stamp})
			return nil
		})
		if err != nil {
			return err
		}
	}
	b.VerificationMaterial.TimestampVerificationData = data
	return nil
}

func (c *Client) logServices() ([]root.Service, error) {
	return root.SelectServices(c.signing.RekorLogURLs(), c.signing.RekorLogURLsConfig(), sign.RekorAPIVersions, c.now())
}

// enter adds entries of the logs that the signing config asks for.
func (c *Client) enter(ctx context.Context, b *protobundle.Bundle, signerPEM []byte) error {
	services, err := c.logServices()
	if err != nil {
		return fmt.Errorf("transparency log: %w: %w", ErrNoService, err)
	}
	for _, s := range services {
		log, err := c.log(s)
		if err != nil {
			return err
		}
		err = c.rekor.Do(ctx, func(ctx context.Context) error {
			return judgeSize(judgeRekor(log.GetTransparencyLogEntry(ctx, signerPEM, b)))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// log is the client of a log. It is made once: that of Rekor v1 has connections of its
// own.
func (c *Client) log(s root.Service) (*sign.Rekor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := fmt.Sprintf("%d %s", s.MajorAPIVersion, s.URL)
	if l, ok := c.logs[key]; ok {
		return l, nil
	}
	options := &sign.RekorOptions{BaseURL: s.URL, Version: s.MajorAPIVersion, Timeout: -1}
	if s.MajorAPIVersion == 1 {
		v1, err := rekorv1.GetRekorClient(s.URL, rekorv1.WithRetryCount(0))
		if err != nil {
			return nil, fmt.Errorf("client of the log %s: %w", s.URL, err)
		}
		options.Client = v1.Entries
	} else {
		v2, err := newRekorV2(s.URL, c.transport, c.trusted.Logs())
		if err != nil {
			return nil, fmt.Errorf("client of the log %s: %w", s.URL, err)
		}
		options.ClientV2 = v2
	}
	c.logs[key] = sign.NewRekor(options)
	return c.logs[key], nil
}

// judgeRekor is judge for the client of Rekor v1, which takes no transport; that of
// Rekor v2 judges by itself. A 409 of Rekor v1 never gets here: the client fetched the
// entry.
func judgeRekor(err error) error {
	if bad := new(entries.CreateLogEntryBadRequest); errors.As(err, &bad) {
		return guard.Permanent(err)
	}
	return err
}
