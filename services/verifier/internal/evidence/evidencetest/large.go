package evidencetest

import (
	"crypto"
	"io"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// document is a JSON object of any size that is nowhere: {"a":"xxx…"}.
type document int64

const open, shut = `{"a":"`, `"}`

func (d document) Size() int64 { return int64(d) }

func (d document) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		switch at := off + int64(i); {
		case at >= int64(d):
			return i, io.EOF
		case at < int64(len(open)):
			p[i] = open[at]
		case at >= int64(d)-int64(len(shut)):
			p[i] = shut[at-int64(d)+int64(len(shut))]
		default:
			p[i] = 'x'
		}
	}
	return len(p), nil
}

// AttachLarge attaches a document of a size, signed with the key, as the signer does,
// and returns the digest of the attestation's manifest.
func (r *Registry) AttachLarge(k *Key, image imageref.Ref, predicateType string, size int64) string {
	r.tb.Helper()
	ctx, c := r.tb.Context(), r.Client()
	s, err := signature.LoadSigner(k.private, crypto.SHA256)
	if err != nil {
		r.tb.Fatal(err)
	}
	p, err := attest.NewDocumentPayload(attest.Statement{
		Subject: []attest.Subject{{Name: "image", SHA256: strings.TrimPrefix(image.Digest, "sha256:")}}, PredicateType: predicateType,
	}, document(size))
	if err != nil {
		r.tb.Fatal(err)
	}
	b, err := attest.SignPayload(ctx, s, k.Public(), p)
	if err != nil {
		r.tb.Fatal(err)
	}
	digest, err := b.Digest()
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := c.PutBlob(ctx, image, registry.Upload{Digest: digest, Size: b.Size(), Reader: b.Reader}); err != nil {
		r.tb.Fatal(err)
	}
	subject, err := c.Resolve(ctx, image)
	if err != nil {
		r.tb.Fatal(err)
	}
	manifest, err := attest.Manifest(subject, digest, b.Size(), predicateType, time.Now())
	if err != nil {
		r.tb.Fatal(err)
	}
	d, _, err := c.PutReferrerManifest(ctx, image, manifest)
	if err != nil {
		r.tb.Fatal(err)
	}
	return d.Digest
}
