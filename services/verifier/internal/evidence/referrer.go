package evidence

import (
	"context"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// Referrer is what the manifest of a referrer says, unverified.
type Referrer struct {
	// Subject is the digest that it refers to; empty if it refers to nothing.
	Subject string
	// Ours tells whether it calls itself a verdict summary. Whoever lies about that
	// only has their own evidence ignored.
	Ours bool
}

// Referrer reads the manifest of something that was pushed and may refer to an image.
// For the errors see Collect.
func (c *Collector) Referrer(ctx context.Context, ref imageref.Ref) (Referrer, error) {
	_, raw, err := c.client.Manifest(ctx, ref)
	if err != nil {
		return Referrer{}, lasting(err)
	}
	return parseReferrer(raw)
}

func parseReferrer(raw []byte) (Referrer, error) {
	var m struct {
		Subject     *registry.Descriptor `json:"subject"`
		Annotations map[string]string    `json:"annotations"`
	}
	if err := strictjson.Unmarshal(raw, &m); err != nil {
		return Referrer{}, fmt.Errorf("%w: %w", ErrNotAnImage, err)
	}
	if m.Subject == nil || imageref.CheckDigest(m.Subject.Digest) != nil {
		return Referrer{}, nil //nolint:nilerr // it refers to nothing
	}
	return Referrer{Subject: m.Subject.Digest, Ours: m.Annotations[attest.AnnotationPredicateType] == attest.PredicateVSA}, nil
}
