package command_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"google.golang.org/grpc/codes"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/advisorybundle"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

func TestBundle(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, bundle := filepath.Join(dir, "key.pem"), filepath.Join(dir, "advisories.bundle")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	f.scanner.file = bytes.Repeat([]byte("advisories "), 1000)
	sum := sha256.Sum256(f.scanner.file)
	f.scanner.snapshot = &scannerv1.SnapshotInfo{Digest: "sha256:" + hex.EncodeToString(sum[:]), DataTime: at(-60 * 24), AdvisoryCount: 58759}

	if r := f.run("advisories", "export", bundle, "--key", key); r.code != 0 || !strings.Contains(r.out, "58759") {
		t.Fatalf("export: %+v", r)
	}
	content, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	s, file, err := advisorybundle.Read(bytes.NewReader(content), []crypto.PublicKey{public}, 1<<20)
	if err != nil || !bytes.Equal(file, f.scanner.file) || s.AdvisoryCount != 58759 || !s.CreateTime.Equal(now) {
		t.Errorf("bundle %+v, %v", s, err)
	}
	if r := f.run("advisories", "import", bundle, "--force"); r.code != 0 || !bytes.Equal(f.scanner.bundle, content) {
		t.Errorf("import: %+v, %d bytes arrived", r, len(f.scanner.bundle))
	}
	if req, ok := f.scanner.asked().(*scannerv1.ImportBundleRequest); !ok || !req.GetForce() {
		t.Error("--force did not arrive")
	}
	f.scanner.err = apierr.New(codes.FailedPrecondition, "NO_TRUSTED_KEYS", "no key is configured that a bundle could be verified with (advisories.trusted_keys)")
	f.golden("bundle-no-keys", f.run("advisories", "import", bundle))
	f.scanner.err = apierr.New(codes.PermissionDenied, "BUNDLE_UNTRUSTED", "the bundle is not signed by a trusted key")
	f.golden("bundle-untrusted", f.run("advisories", "import", bundle))
	for name, args := range map[string][]string{
		"no key": {"export", bundle}, "no such key": {"export", bundle, "--key", key + "x"}, "not a key": {"export", bundle, "--key", bundle},
	} {
		if r := f.run(append([]string{"advisories"}, args...)...); r.code != 4 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestBundle_EncryptedKey signs with a key as cosign keeps it.
func TestBundle_EncryptedKey(t *testing.T) {
	f := newFleet(t)
	dir := t.TempDir()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	box, err := cryptoutils.MarshalPrivateKeyToEncryptedDER(private, func(bool) ([]byte, error) { return []byte("secret"), nil })
	if err != nil {
		t.Fatal(err)
	}
	key, bundle := filepath.Join(dir, "cosign.key"), filepath.Join(dir, "advisories.bundle")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: box}), 0o600); err != nil {
		t.Fatal(err)
	}
	f.scanner.file = []byte("advisories")
	sum := sha256.Sum256(f.scanner.file)
	f.scanner.snapshot = &scannerv1.SnapshotInfo{Digest: "sha256:" + hex.EncodeToString(sum[:])}
	t.Setenv("COSIGN_PASSWORD", "wrong")
	if r := f.run("advisories", "export", bundle, "--key", key); r.code != 4 {
		t.Errorf("wrong password: %+v", r)
	}
	t.Setenv("COSIGN_PASSWORD", "secret")
	if r := f.run("advisories", "export", bundle, "--key", key); r.code != 0 {
		t.Errorf("export: %+v", r)
	}
	content, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := advisorybundle.Read(bytes.NewReader(content), []crypto.PublicKey{private.Public()}, 1<<20); err != nil {
		t.Error(err)
	}
}
