package sigstore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekortilespb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/rekor-tiles/v2/pkg/verify"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"
	sumdbnote "golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// files answers each path with the same thing.
type files map[string][]byte

// RoundTrip implements http.RoundTripper.
func (f files) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody, Request: r}
	for part, content := range f {
		if strings.Contains(r.URL.Path, part) {
			answer.StatusCode, answer.Body = http.StatusOK, io.NopCloser(bytes.NewReader(content))
		}
	}
	return answer, nil
}

func FuzzPlaceOf(f *testing.F) {
	f.Add("7", []byte(""))
	f.Add("", []byte(`{"code":6,"message":"an equivalent entry already exists in the transparency log with index 12","details":[]}`))
	f.Add("-1", []byte("with index 1"))
	f.Add("", []byte("already exists in the transparency log with index 99999999999999999999"))
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		h := http.Header{}
		h.Set(placeHeader, header)
		index, err := placeOf(h, body)
		if err != nil {
			if index != 0 || len(err.Error()) > 1200 {
				t.Errorf("%d, %d bytes: %v", index, len(err.Error()), err)
			}
			return
		}
		if text := fmt.Sprint(index); index < 0 || !strings.Contains(header+string(body), text) {
			t.Errorf("%q of %q, %q", text, header, body)
		}
	})
}

// FuzzProve has the log answer anything. What comes out of it as an entry has to be the
// one that was asked for, and what the log's key signed has to include it.
func FuzzProve(f *testing.F) {
	const name = "rekor.seaworthy.test"
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	key, err := signature.LoadED25519SignerVerifier(private)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := note.NewNoteSigner(f.Context(), name, key)
	if err != nil {
		f.Fatal(err)
	}
	verifier, err := note.NewNoteVerifier(name, key)
	if err != nil {
		f.Fatal(err)
	}
	request := someRequest(f)
	body, err := canonical(request)
	if err != nil {
		f.Fatal(err)
	}
	own := tlog.RecordHash(body)
	trusted := map[string]*root.TransparencyLog{"": {BaseURL: "https://" + name, PublicKey: public, SignatureHashFunc: crypto.SHA256}}

	f.Add(int64(0), int64(1), uint8(0), []byte{}, own[:], []byte{})
	f.Add(int64(1), int64(2), uint8(1), []byte{}, bytes.Repeat(own[:], 2), []byte{})
	f.Add(int64(3), int64(300), uint8(3), []byte{}, make([]byte, 300*32), make([]byte, 32))
	f.Add(int64(0), int64(1), uint8(0), []byte(name+"\n1\nAAAA\n\n— "+name+" AAAA\n"), own[:], []byte{})
	f.Add(int64(1<<62), int64(1<<47), uint8(0), []byte{}, own[:], own[:])
	// The checkpoint is the text or, without one, signed over the size and the root of the
	// leaves' hashes, of which that of the entry stands at a place.
	f.Fuzz(func(t *testing.T, index, size int64, place uint8, text, leaves, above []byte) {
		if index < 0 || size < 0 {
			return // placeOf and the checkpoint's own parser do not let these through
		}
		if at := int(place) * tlog.HashSize; at+tlog.HashSize <= len(leaves) {
			leaves = bytes.Clone(leaves)
			copy(leaves[at:], own[:])
		}
		if len(text) == 0 {
			sum := rootOf(leaves)
			var err error
			if text, err = sumdbnote.Sign(&sumdbnote.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", name, size, base64.StdEncoding.EncodeToString(sum[:]))}, signer); err != nil {
				t.Fatal(err)
			}
		}
		log, err := newRekorV2("https://rekor.example", files{"/checkpoint": text, "/tile/0/": leaves, "/tile/1/": above}, trusted)
		if err != nil {
			t.Fatal(err)
		}
		// Too late to wait for another checkpoint.
		ctx, cancel := context.WithTimeout(t.Context(), checkpointPause-100*time.Millisecond)
		defer cancel()
		entry, err := log.prove(ctx, request, index)
		if err != nil {
			if entry != nil {
				t.Errorf("%v with %v", entry, err)
			}
			return
		}
		if entry.GetLogIndex() != index || !bytes.Equal(entry.GetCanonicalizedBody(), body) {
			t.Errorf("another entry: %v", entry)
		}
		if err := verify.VerifyLogEntry(entry, verifier); err != nil {
			t.Errorf("%v: %v", entry, err)
		}
	})
}

// rootOf is the root of a tree of hashes, of at most one tile.
func rootOf(leaves []byte) tlog.Hash {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	n := int64(min(len(leaves)/tlog.HashSize, tileWidth))
	for i := range n {
		more, err := tlog.StoredHashesForRecordHash(i, tlog.Hash(leaves[i*tlog.HashSize:]), reader)
		if err != nil {
			panic(err)
		}
		stored = append(stored, more...)
	}
	sum, err := tlog.TreeHash(n, reader)
	if err != nil {
		panic(err)
	}
	return sum
}

func someRequest(tb testing.TB) *rekortilespb.HashedRekordRequestV002 {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return &rekortilespb.HashedRekordRequestV002{
		Digest: make([]byte, 32),
		Signature: &rekortilespb.Signature{Content: []byte("signature"), Verifier: &rekortilespb.Verifier{
			KeyDetails: protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
			Verifier:   &rekortilespb.Verifier_PublicKey{PublicKey: &rekortilespb.PublicKey{RawBytes: der}},
		}},
	}
}
