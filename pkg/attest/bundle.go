package attest

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
)

// Bundle is a signed bundle. Its JSON is made while it is read, the same bytes each
// time, so that a bundle of a large document takes no more memory than one of a
// small one. The payload's document must be there for as long as it is used.
type Bundle struct {
	payload   Payload
	public    crypto.PublicKey
	hint      string
	signature []byte
	// sum is the SHA-256 of what was signed, if that was needed to sign it.
	sum []byte
	// head and tail are the JSON around the payload. If whole is set there is
	// nothing else.
	head, tail []byte
	whole      []byte
}

// BundleOf is the bundle whose JSON is raw, which is not looked into.
func BundleOf(raw []byte) *Bundle { return &Bundle{whole: raw} }

// openEnvelope is the JSON between the verification material and the payload.
const openEnvelope = `},"dsseEnvelope":{"payload":"`

// newBundle is of a signature with a key, witnessed by nobody. Only base64 goes into
// the JSON, so nothing has to be escaped.
func newBundle(p Payload, pub crypto.PublicKey, hint string, sum, sig []byte) *Bundle {
	b := &Bundle{payload: p, public: pub, hint: hint, sum: sum, signature: sig}
	const (
		begin = `{"mediaType":"` + BundleMediaType + `","verificationMaterial":{"publicKey":{"hint":"`
		open  = `"}` + openEnvelope
		shut  = `","payloadType":"` + PayloadType + `","signatures":[{"sig":"`
		end   = `"}]}}`
	)
	b.head = append(append(append(make([]byte, 0, len(begin)+len(hint)+len(open)), begin...), hint...), open...)
	b.tail = append(make([]byte, 0, len(shut)+base64.StdEncoding.EncodedLen(len(sig))+len(end)), shut...)
	b.tail = append(base64.StdEncoding.AppendEncode(b.tail, sig), end...)
	return b
}

// Size is the number of bytes of the JSON.
func (b *Bundle) Size() int64 {
	if b.whole != nil {
		return int64(len(b.whole))
	}
	return int64(len(b.head)) + (b.payload.size+2)/3*4 + int64(len(b.tail))
}

// Reader reads the JSON from the begin. Several readers can be used at once.
func (b *Bundle) Reader() io.Reader {
	if b.whole != nil {
		return bytes.NewReader(b.whole)
	}
	return io.MultiReader(bytes.NewReader(b.head), newEncoder(b.payload.Reader(), b.payload.size), bytes.NewReader(b.tail))
}

// Digest is "sha256:" and the hex SHA-256 of the JSON.
func (b *Bundle) Digest() (string, error) {
	h := sha256.New()
	if b.whole != nil {
		h.Write(b.whole)
	} else {
		h.Write(b.head)
		if _, err := newEncoder(b.payload.Reader(), b.payload.size).WriteTo(h); err != nil {
			return "", fmt.Errorf("read the document: %w", err)
		}
		h.Write(b.tail)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// Bytes is the JSON in memory, of at most MaxBundle bytes.
func (b *Bundle) Bytes() ([]byte, error) {
	if b.whole != nil {
		return b.whole, nil
	}
	if b.Size() > MaxBundle {
		return nil, fmt.Errorf("%w: bundle of %d bytes exceeds the limit of %d", ErrTooLarge, b.Size(), MaxBundle)
	}
	payload, err := b.payload.Bytes()
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, b.Size()), b.head...)
	return append(base64.StdEncoding.AppendEncode(out, payload), b.tail...), nil
}

var errWritten = errors.New("the bundle is written down already")

// keyMaterial names the key and nothing else.
func (b *Bundle) keyMaterial() *protobundle.VerificationMaterial {
	return &protobundle.VerificationMaterial{
		Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: b.hint}},
	}
}

// Proto is the bundle as a message, into whose verification material certificate,
// log entries and timestamps can be put. Its payload has at most MaxStatement bytes.
func (b *Bundle) Proto() (*protobundle.Bundle, error) {
	if b.whole != nil {
		return nil, errWritten
	}
	payload, err := b.payload.Bytes()
	if err != nil {
		return nil, err
	}
	return &protobundle.Bundle{
		MediaType:            BundleMediaType,
		VerificationMaterial: b.keyMaterial(),
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: payload, PayloadType: PayloadType,
			Signatures: []*protodsse.Signature{{Sig: slices.Clone(b.signature)}},
		}},
	}, nil
}

// encoder reads base64 of what it reads.
type encoder struct {
	from     io.Reader
	raw, out []byte
	ready    []byte // the part of out that was not read yet
	err      error
}

// encodeAtOnce is a multiple of three: only the end is padded.
const encodeAtOnce = 48 << 10

func newEncoder(from io.Reader, size int64) *encoder {
	n := int(min(encodeAtOnce, (size+2)/3*3))
	return &encoder{from: from, raw: make([]byte, n), out: make([]byte, base64.StdEncoding.EncodedLen(n))}
}

// more encodes the next piece and says false at the end.
func (e *encoder) more() bool {
	if e.err != nil {
		return false
	}
	n, err := io.ReadFull(e.from, e.raw)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	e.err = err
	e.ready = e.out[:base64.StdEncoding.EncodedLen(n)]
	base64.StdEncoding.Encode(e.ready, e.raw[:n])
	return n > 0
}

// Read implements io.Reader.
func (e *encoder) Read(p []byte) (int, error) {
	if len(e.ready) == 0 && !e.more() {
		return 0, e.err
	}
	n := copy(p, e.ready)
	e.ready = e.ready[n:]
	return n, nil
}

// WriteTo implements io.WriterTo, for io.Copy needs no buffer then.
func (e *encoder) WriteTo(w io.Writer) (int64, error) {
	written := int64(0)
	for len(e.ready) > 0 || e.more() {
		n, err := w.Write(e.ready)
		written += int64(n)
		e.ready = e.ready[n:]
		if err != nil {
			return written, err
		}
	}
	if errors.Is(e.err, io.EOF) {
		return written, nil
	}
	return written, e.err
}
