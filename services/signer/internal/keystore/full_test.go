//go:build unix

package keystore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

// inChild is set in a process that may write files of no more than so many bytes:
// the part of a key that fits is written and the rest refused, as by a disk that is
// full (EFBIG in place of ENOSPC), whoever runs the test and wherever.
const inChild = "SEAWORTHY_TEST_FULL_DISK"

const most = 100

// whenFull runs the test with a name anew in a process that cannot write a key.
func whenFull(t *testing.T, dir string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inChild+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v:\n%s", err, out)
	}
}

func limitFiles(t *testing.T) {
	t.Helper()
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
		t.Fatal(err)
	}
}

func wantFull(t *testing.T, err error, file string) {
	t.Helper()
	if !errors.Is(err, ErrNotWritten) || !errors.Is(err, syscall.EFBIG) {
		t.Errorf("%v, want ErrNotWritten", err)
		return
	}
	for _, want := range []string{file, "disk", "writable"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(content)
	}
	return out
}

func TestFullDisk_FirstStart(t *testing.T) {
	if dir := os.Getenv(inChild); dir != "" {
		limitFiles(t)
		_, err := Open(dir, password, true)
		wantFull(t, err, PrivateFile)
		return
	}
	dir := t.TempDir()
	whenFull(t, dir)
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	// There is room again.
	if k, err := Open(dir, password, true); err != nil || !k.Generated() {
		t.Errorf("Open() = %v", err)
	}
}

// keyIn puts a key into a directory whose password takes little work to check.
func keyIn(t *testing.T, dir string) *Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	box, err := encrypted.EncryptWithCustomKDFParameters(der, password, encrypted.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: box})
	if err := os.WriteFile(filepath.Join(dir, PrivateFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := New(private)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The private key fits and the public one does not: the next start writes it.
func TestFullDisk_PublicKey(t *testing.T) {
	if dir := os.Getenv(inChild); dir != "" {
		limitFiles(t)
		_, err := Open(dir, password, false)
		wantFull(t, err, PublicFile)
		return
	}
	dir := t.TempDir()
	k := keyIn(t, dir)
	whenFull(t, dir)
	if left := files(t, dir); len(left) != 1 || left[PrivateFile] == "" {
		t.Errorf("left behind: %v", left)
	}
	again, err := Open(dir, password, false)
	if err != nil || again.PublicPEM() != k.PublicPEM() || files(t, dir)[PublicFile] != k.PublicPEM() {
		t.Errorf("Open() = %v", err)
	}
}

func TestFullDisk_Create(t *testing.T) {
	if dir := os.Getenv(inChild); dir != "" {
		limitFiles(t)
		_, err := (&Dir{Path: dir, Password: password}).Create()
		wantFull(t, err, "key-")
		return
	}
	dir := t.TempDir()
	keyIn(t, dir)
	before := files(t, dir)
	whenFull(t, dir)
	after := files(t, dir)
	if len(after) != 1 || after[PrivateFile] != before[PrivateFile] {
		t.Errorf("the directory changed: %v", after)
	}
}
