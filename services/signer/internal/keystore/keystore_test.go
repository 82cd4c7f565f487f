package keystore

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

var password = []byte("correct horse battery staple")

func TestOpen_GeneratesOnceAndReadsBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := Open(dir, password, true)
	if err != nil {
		t.Fatal(err)
	}
	if !first.Generated() {
		t.Error("the first Open did not say that it made the key")
	}
	second, err := Open(dir, password, true)
	if err != nil {
		t.Fatal(err)
	}
	if second.Generated() {
		t.Error("the second Open made a key again")
	}
	if first.PublicPEM() != second.PublicPEM() {
		t.Error("the key changed between two starts")
	}
	info, err := os.Stat(filepath.Join(dir, PrivateFile))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode of the key file = %o, want 600", got)
	}
	public, err := os.ReadFile(filepath.Join(dir, PublicFile))
	if err != nil {
		t.Fatal(err)
	}
	if string(public) != first.PublicPEM() {
		t.Error("cosign.pub is not the public key")
	}
	leftovers, err := filepath.Glob(filepath.Join(dir, ".cosign-*"))
	if err != nil || len(leftovers) > 0 {
		t.Errorf("left behind: %v %v", leftovers, err)
	}
}

func TestKey_SignsWhatThePublicKeyVerifies(t *testing.T) {
	private, err := generate(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	k, err := New(private)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := k.Signer().SignMessage(strings.NewReader("message"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := signature.LoadVerifier(k.Public(), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.VerifySignature(bytes.NewReader(sig), strings.NewReader("message")); err != nil {
		t.Error(err)
	}
}

func TestOpen_ManyAtOnceShareOneKey(t *testing.T) {
	dir := t.TempDir()
	keys := make([]*Key, 2)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			k, err := Open(dir, password, true)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = k
		})
	}
	wg.Wait()
	made := 0
	for _, k := range keys {
		if k == nil {
			t.Fatal("an Open failed")
		}
		if k.Generated() {
			made++
		}
		if k.PublicPEM() != keys[0].PublicPEM() {
			t.Error("two processes have two keys")
		}
	}
	if made != 1 {
		t.Errorf("%d processes made the key, want 1", made)
	}
}

func TestOpen_RestoresThePublicKeyFile(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(dir, password, true)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, PublicFile)
	if err := os.WriteFile(path, []byte("another key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, password, false); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != k.PublicPEM() {
		t.Errorf("cosign.pub = %q, %v", got, err)
	}
}

func TestOpen_Failures(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", PrivateFile))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		file     []byte // nil: no file
		password []byte
		want     error
		advice   string
	}{
		{"missing", nil, password, ErrMissing, "keystore.generate"},
		{"wrong password", text, []byte("incorrect-1"), ErrPassword, "keystore.password"},
		{"no password", text, nil, nil, "keystore.password"},
		{"empty", []byte{}, password, ErrCorrupt, "backup"},
		{"not PEM", []byte("hello"), password, ErrCorrupt, "backup"},
		{"cut", text[:len(text)/2], password, ErrCorrupt, "backup"},
		{"twice", append(bytes.Clone(text), text...), password, ErrCorrupt, "backup"},
		{"too large", bytes.Repeat([]byte("a"), MaxFile+1), password, ErrCorrupt, "backup"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.file != nil {
				if err := os.WriteFile(filepath.Join(dir, PrivateFile), tt.file, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Open(dir, tt.password, false)
			if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) {
				t.Fatalf("Open() = %v, want %v", err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.advice) {
				t.Errorf("Open() = %v, want advice with %q", err, tt.advice)
			}
			if len(tt.password) > 0 && strings.Contains(err.Error(), string(tt.password)) {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

func TestOpen_KeyFileIsADirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, PrivateFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, password, true); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("Open() = %v", err)
	}
}

func TestOpen_DirectoryIsAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(filepath.Join(file, "keys"), password, true)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open() = %v", err)
	}
}

// TestDecode_WrittenBySigstore reads what sigstore's own library writes, which
// cosign uses, and gives it ours to read.
func TestDecode_WrittenBySigstore(t *testing.T) {
	pass := cryptoutils.StaticPasswordFunc(password)
	private, public, err := cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), pass)
	if err != nil {
		t.Fatal(err)
	}
	key, err := Decode(private, password)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil || !bytes.Equal(got, public) {
		t.Errorf("public key = %s, %v", got, err)
	}

	text, err := Encode(key, password)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := cryptoutils.UnmarshalPEMToPrivateKey(text, pass)
	if err != nil {
		t.Fatal(err)
	}
	if !key.Public().(*ecdsa.PublicKey).Equal(theirs.(*ecdsa.PrivateKey).Public()) {
		t.Error("sigstore reads another key than we wrote")
	}
}

// TestDecode_WrittenByCosign reads the files that `cosign generate-key-pair`
// (v3.1.3) wrote with COSIGN_PASSWORD=seaworthy.
func TestDecode_WrittenByCosign(t *testing.T) {
	private, err := os.ReadFile(filepath.Join("testdata", PrivateFile))
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(filepath.Join("testdata", PublicFile))
	if err != nil {
		t.Fatal(err)
	}
	key, err := Decode(private, []byte("seaworthy"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil || !bytes.Equal(got, public) {
		t.Errorf("public key = %s, %v", got, err)
	}
}

func TestDecode_OtherKeys(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	box, err := encrypted.EncryptWithCustomKDFParameters(der, password, encrypted.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	noKey, err := encrypted.EncryptWithCustomKDFParameters([]byte("no key"), password, encrypted.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, pemType string
		body          []byte
		want          error
	}{
		{"P-384", pemType, box, ErrUnsupported},
		{"no key inside", pemType, noKey, ErrCorrupt},
		{"not encrypted", "PRIVATE KEY", der, ErrUnsupported},
		{"certificate", "CERTIFICATE", der, ErrCorrupt},
		{"no box", pemType, []byte("{"), ErrCorrupt},
		{"other KDF", pemType, []byte(`{"kdf":{"name":"argon2"}}`), ErrUnsupported},
		{"costly KDF", pemType, bytes.Replace(box, []byte(`"N":32768`), []byte(`"N":1073741824`), 1), ErrUnsupported},
		{"damaged box", pemType, bytes.Replace(box, []byte(`"ciphertext":"`), []byte(`"ciphertext":"AAAA`), 1), ErrPassword},
		{"no nonce", pemType, bytes.Replace(box, []byte(`"nonce"`), []byte(`"other"`), 1), ErrCorrupt},
		{"legacy header", legacyPEMType, box, ErrUnsupported},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := pem.EncodeToMemory(&pem.Block{Type: tt.pemType, Bytes: tt.body})
			if _, err := Decode(text, password); !errors.Is(err, tt.want) {
				t.Errorf("Decode() = %v, want %v", err, tt.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", PrivateFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:100])
	f.Add([]byte("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\ne30=\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := Decode(text, []byte("seaworthy"))
		if err != nil {
			for _, known := range []error{ErrCorrupt, ErrPassword, ErrUnsupported} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("error of no known kind: %v", err)
		}
		switch key := key.(type) {
		case ed25519.PrivateKey:
		case *ecdsa.PrivateKey:
			if key.Curve != elliptic.P256() {
				t.Fatal("an ECDSA key that is not P-256")
			}
		default:
			t.Fatalf("a key of type %T", key)
		}
	})
}

func TestDir_Ed25519(t *testing.T) {
	dir := &Dir{Path: t.TempDir(), Password: password, Generate: true, Algorithm: Ed25519}
	first, err := dir.Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := first.Public().(ed25519.PublicKey); !ok {
		t.Fatalf("the key is of type %T", first.Public())
	}
	made, err := dir.Create()
	if err != nil {
		t.Fatal(err)
	}
	again, err := dir.OpenNamed(made.KeyID())
	if err != nil || again.PublicPEM() != made.PublicPEM() || made.KeyID() == first.KeyID() {
		t.Errorf("OpenNamed() = %v, %v", again, err)
	}
	if err := dir.Discard(made); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.OpenNamed(made.KeyID()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenNamed() of what was discarded = %v", err)
	}
	for _, id := range []string{"", "../../etc/passwd", strings.Repeat("A", 64)} {
		if _, err := dir.OpenNamed(id); err == nil {
			t.Errorf("OpenNamed(%q) took it", id)
		}
	}
}
