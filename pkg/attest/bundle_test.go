package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// elsewhere signs digests as a KMS does.
type elsewhere struct{ *signature.ECDSASigner }

func (r elsewhere) SignDigest(_ context.Context, sum []byte) ([]byte, error) {
	return r.Sign(rand.Reader, sum, crypto.SHA256)
}

// deaf takes no digests and no other options.
type deaf struct{ s signature.Signer }

func (d deaf) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return d.s.PublicKey()
}

func (d deaf) SignMessage(m io.Reader, _ ...signature.SignOption) ([]byte, error) {
	return d.s.SignMessage(m)
}

// signers are of every kind of key, in this process and outside of it.
func signers(t *testing.T) map[string]signature.Signer {
	t.Helper()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own, err := NewEd25519Signer(ed)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]signature.Signer{"own ed25519": own}
	for name, key := range map[string]crypto.Signer{"p256": p256, "rsa": large, "ed25519": ed} {
		s, err := signature.LoadDefaultSigner(key)
		if err != nil {
			t.Fatal(err)
		}
		out[name], out[name+" elsewhere"] = s, deaf{s}
		if s, ok := s.(*signature.ECDSASigner); ok {
			out["kms"] = elsewhere{s}
		}
	}
	return out
}

// documents are the predicate in memory and as something that is read.
func payloads(t *testing.T, st Statement) map[string]Payload {
	t.Helper()
	small, err := NewPayload(st)
	if err != nil {
		t.Fatal(err)
	}
	doc := bytes.NewReader(st.Predicate)
	st.Predicate = nil
	streamed, err := NewDocumentPayload(st, doc)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Payload{"statement": small, "document": streamed}
}

// TestSignPayload_EveryKey: with every kind of key and either kind of payload the
// bundle is one that readers believe, and its JSON is that of the message.
func TestSignPayload_EveryKey(t *testing.T) {
	st := testStatement()
	for _, length := range []int{0, 1, 2, encodeAtOnce, 200_000} {
		st.Predicate = json.RawMessage(`{"a":"` + strings.Repeat("<", length) + `"}`)
		for kind, p := range payloads(t, st) {
			for name, s := range signers(t) {
				what := fmt.Sprintf("%s, %s of %d", name, kind, length)
				pub, err := s.PublicKey()
				if err != nil {
					t.Fatal(err)
				}
				b, err := SignPayload(t.Context(), s, pub, p)
				if err != nil {
					t.Errorf("%s: %v", what, err)
					continue
				}
				checkBundle(t, what, b)
				raw, err := b.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := Verify(raw, p.Subject(), TrustRoots{Keys: []TrustedKey{{Key: pub}}}); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
	}
}

// checkBundle checks that a bundle is the same bytes whichever way it is read, and
// those of its message.
func checkBundle(t *testing.T, what string, b *Bundle) {
	t.Helper()
	raw, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) < 4<<10 {
		if err := iotest.TestReader(b.Reader(), raw); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	read, err := io.ReadAll(b.Reader())
	if err != nil || !bytes.Equal(read, raw) || b.Size() != int64(len(raw)) {
		t.Errorf("%s: read %d bytes, %v; size %d, bytes %d", what, len(read), err, b.Size(), len(raw))
	}
	if digest, err := b.Digest(); err != nil || digest != registry.Digest(raw) {
		t.Errorf("%s: digest %s, %v", what, digest, err)
	}
	message, err := b.Proto()
	if err != nil {
		t.Fatal(err)
	}
	var got protobundle.Bundle
	if err := protojson.Unmarshal(raw, &got); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if !proto.Equal(message, &got) {
		t.Errorf("%s: another message was read", what)
	}
}

func TestSignPayload_WrongPair(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, otherEd, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for kind, p := range payloads(t, testStatement()) {
		for name, s := range signers(t) {
			pub := crypto.PublicKey(&other.PublicKey)
			if strings.Contains(name, "ed25519") {
				pub = otherEd.Public()
			}
			if strings.Contains(name, "rsa") {
				continue // a key of another kind is no pair at all
			}
			if _, err := SignPayload(t.Context(), s, pub, p); !errors.Is(err, ErrBadSignature) {
				t.Errorf("%s, %s: %v, want ErrBadSignature", name, kind, err)
			}
		}
	}
}

// zeros is a document of any size that is nowhere.
type zeros int64

func (z zeros) Size() int64 { return int64(z) }

func (z zeros) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = '0'
		if off == 0 && i == 0 {
			p[i] = '{'
		}
	}
	if int64(len(p)) > int64(z)-off {
		return int(int64(z) - off), io.EOF
	}
	return len(p), nil
}

// TestDocumentPayload_Limits: what is signed by hash may be larger than what has to
// be in memory.
func TestDocumentPayload_Limits(t *testing.T) {
	st := testStatement()
	st.Predicate = nil
	if _, err := NewDocumentPayload(st, zeros(MaxDocument+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := NewDocumentPayload(st, strings.NewReader("[]")); !errors.Is(err, ErrMalformed) {
		t.Errorf("no object: %v", err)
	}
	if _, err := NewDocumentPayload(Statement{PredicateType: st.PredicateType}, zeros(2)); !errors.Is(err, ErrMalformed) {
		t.Errorf("no subject: %v", err)
	}
	p, err := NewDocumentPayload(st, zeros(MaxStatement+1))
	if err != nil {
		t.Fatal(err)
	}
	all := signers(t)
	for name, want := range map[string]error{"p256": nil, "kms": nil, "own ed25519": nil, "ed25519": ErrTooLarge, "p256 elsewhere": ErrTooLarge} {
		pub, err := all[name].PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		b, err := SignPayload(t.Context(), all[name], pub, p)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err != nil {
			continue
		}
		_, whole := b.Bytes()
		_, message := b.Proto()
		if !errors.Is(whole, ErrTooLarge) && b.Size() > MaxBundle || !errors.Is(message, ErrTooLarge) {
			t.Errorf("%s: in memory all the same: %v, %v", name, whole, message)
		}
	}
}

func TestBundleOf(t *testing.T) {
	b := BundleOf([]byte("{}"))
	raw, err := io.ReadAll(b.Reader())
	if err != nil || string(raw) != "{}" || b.Size() != 2 {
		t.Errorf("%q, %v, size %d", raw, err, b.Size())
	}
	if digest, err := b.Digest(); err != nil || digest != registry.Digest(raw) {
		t.Errorf("%s, %v", digest, err)
	}
	if _, err := b.Proto(); err == nil {
		t.Error("a message of what was written down")
	}
}
