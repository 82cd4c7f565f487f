package advisorybundle_test

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/advisorybundle"
)

var snapshot = bytes.Repeat([]byte("advisories "), 1000)

func statement(content []byte) advisorybundle.Statement {
	sum := sha256.Sum256(content)
	return advisorybundle.Statement{
		Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(content)), AdvisoryCount: 3,
		DataTime: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), CreateTime: time.Date(2026, 2, 2, 3, 4, 5, 0, time.UTC),
	}
}

func keys(tb testing.TB) []crypto.Signer {
	tb.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return []crypto.Signer{ed, ec}
}

func write(tb testing.TB, s advisorybundle.Statement, key crypto.Signer) []byte {
	tb.Helper()
	var out bytes.Buffer
	if err := advisorybundle.Write(&out, s, snapshot, key); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func TestBundle(t *testing.T) {
	signers := keys(t)
	for i, key := range signers {
		bundle := write(t, statement(snapshot), key)
		trusted := []crypto.PublicKey{signers[1-i].Public(), key.Public()}
		s, content, err := advisorybundle.Read(bytes.NewReader(bundle), trusted, 1<<20)
		if err != nil || s != statement(snapshot) || !bytes.Equal(content, snapshot) {
			t.Errorf("read: %+v, %d bytes, %v", s, len(content), err)
		}
		for _, wrong := range [][]crypto.PublicKey{nil, trusted[:1], {"no key"}} {
			if _, _, err := advisorybundle.Read(bytes.NewReader(bundle), wrong, 1<<20); !errors.Is(err, advisorybundle.ErrUntrusted) {
				t.Errorf("keys %v: %v", wrong, err)
			}
		}
		if _, _, err := advisorybundle.Read(bytes.NewReader(bundle), trusted, 100); !errors.Is(err, advisorybundle.ErrFormat) {
			t.Errorf("too large: %v", err)
		}
		for n := range bundle {
			damaged := slices.Clone(bundle)
			damaged[n] ^= 0x20
			if _, got, err := advisorybundle.Read(bytes.NewReader(damaged), trusted, 1<<20); err == nil && !bytes.Equal(got, snapshot) {
				t.Fatalf("byte %d: another snapshot is accepted", n)
			}
			if _, _, err := advisorybundle.Read(bytes.NewReader(bundle[:n]), trusted, 1<<20); err == nil {
				t.Fatalf("truncated to %d bytes: accepted", n)
			}
		}
	}
}

// TestAnotherSnapshot: what was not signed is not taken, whatever lies behind the
// envelope, and a bomb is not unpacked.
func TestAnotherSnapshot(t *testing.T) {
	key := keys(t)[0]
	trusted := []crypto.PublicKey{key.Public()}
	lie := statement(snapshot)
	lie.Size--
	if _, _, err := advisorybundle.Read(bytes.NewReader(write(t, lie, key)), trusted, 1<<20); !errors.Is(err, advisorybundle.ErrFormat) {
		t.Errorf("lying size: %v", err)
	}
	lie = statement([]byte("others"))
	lie.Size = int64(len(snapshot))
	if _, _, err := advisorybundle.Read(bytes.NewReader(write(t, lie, key)), trusted, 1<<20); !errors.Is(err, advisorybundle.ErrFormat) {
		t.Errorf("another digest: %v", err)
	}
	bundle := write(t, statement(snapshot), key)
	start := bytes.Index(bundle, []byte{0x1f, 0x8b, 0x08})
	bomb := bytes.NewBuffer(slices.Clone(bundle[:start]))
	zw := gzip.NewWriter(bomb)
	if _, err := io.CopyN(zw, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := advisorybundle.Read(bomb, trusted, 1<<20); !errors.Is(err, advisorybundle.ErrFormat) {
		t.Errorf("a bomb: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestParsePublicKey(t *testing.T) {
	for _, key := range keys(t) {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		got, err := advisorybundle.ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		if err != nil || !got.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Errorf("%T: %v", got, err)
		}
	}
	for _, text := range []string{"", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := advisorybundle.ParsePublicKey([]byte(text)); !errors.Is(err, advisorybundle.ErrKey) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzRead: whatever a bundle is, it is refused or holds what was signed.
func FuzzRead(f *testing.F) {
	key := keys(f)[0]
	f.Add(write(f, statement(snapshot), key))
	f.Add([]byte("SWBUNDLE\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		_, got, err := advisorybundle.Read(bytes.NewReader(content), []crypto.PublicKey{key.Public()}, 1<<20)
		if err == nil && !bytes.Equal(got, snapshot) {
			t.Fatal("something else is accepted")
		}
	})
}
