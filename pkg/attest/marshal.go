package attest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

// Marshal gives a bundle's JSON, without the random spaces that protojson puts in.
// Over the limit is ErrTooLarge.
//
// The payload is most of a bundle. protojson would copy it several times and read
// it byte by byte to take the spaces out; here it is written once.
func Marshal(b *protobundle.Bundle) ([]byte, error) {
	e := b.GetDsseEnvelope()
	if e == nil {
		return nil, malformed("bundle without a DSSE envelope", nil)
	}
	payload := e.GetPayload()
	if size := base64.StdEncoding.EncodedLen(len(payload)); size > MaxBundle {
		return nil, fmt.Errorf("%w: bundle of more than %d bytes, the limit is %d", ErrTooLarge, size, MaxBundle)
	}
	head, err := marshalHead(b)
	if err != nil {
		return nil, err
	}
	tail, err := json.Marshal(envelopeTail{PayloadType: e.GetPayloadType(), Signatures: signaturesOf(e.GetSignatures())})
	if err != nil {
		return nil, fmt.Errorf("marshal bundle: %w", err)
	}
	const open, separator = `,"dsseEnvelope":{"payload":"`, `",`
	out := make([]byte, 0, len(head)+len(open)+base64.StdEncoding.EncodedLen(len(payload))+len(separator)+len(tail)+1)
	out = append(append(out, bytes.TrimSuffix(head, []byte("}"))...), open...)
	out = base64.StdEncoding.AppendEncode(out, payload)
	out = append(append(append(out, separator...), tail[1:]...), '}')
	if len(out) > MaxBundle {
		return nil, fmt.Errorf("%w: bundle of %d bytes, the limit is %d", ErrTooLarge, len(out), MaxBundle)
	}
	return slices.Clip(out), nil
}

// envelopeTail is what follows the payload, in the order of the message's fields.
type envelopeTail struct {
	PayloadType string                `json:"payloadType"`
	Signatures  []envelopeTailElement `json:"signatures"`
}

type envelopeTailElement struct {
	Sig   []byte `json:"sig"`
	KeyID string `json:"keyid,omitempty"`
}

func signaturesOf[S interface {
	GetSig() []byte
	GetKeyid() string
}](in []S) []envelopeTailElement {
	out := make([]envelopeTailElement, 0, len(in))
	for _, s := range in {
		out = append(out, envelopeTailElement{Sig: s.GetSig(), KeyID: s.GetKeyid()})
	}
	return out
}

// marshalHead is the JSON of the bundle without its envelope.
func marshalHead(b *protobundle.Bundle) ([]byte, error) {
	m := b.GetVerificationMaterial()
	raw, err := protojson.Marshal(&protobundle.Bundle{MediaType: b.GetMediaType(), VerificationMaterial: m})
	if err != nil {
		return nil, fmt.Errorf("marshal bundle: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return nil, fmt.Errorf("marshal bundle: %w", err)
	}
	return compact.Bytes(), nil
}
