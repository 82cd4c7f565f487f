package fleet

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// secretBytes is the entropy of a generated secret: 256 bits.
const secretBytes = 32

// secretFile returns the path of a secret in dir that only this user can read, and
// its value. It is generated the first time and kept from then on; prefix is put
// before the random part, for formats that want one.
func secretFile(dir, name, prefix string) (path, value string, err error) {
	path = filepath.Join(dir, name)
	content, err := regularfile.ReadFile(path)
	if err == nil {
		if value = strings.TrimSpace(string(content)); value == "" {
			return "", "", fmt.Errorf("secret %s is empty: restore it, or delete it to have a new one made", path)
		}
		return path, value, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("read secret: %w", err)
	}
	random := make([]byte, secretBytes)
	if _, err := rand.Read(random); err != nil {
		return "", "", fmt.Errorf("generate secret: %w", err)
	}
	value = prefix + base64.StdEncoding.EncodeToString(random)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("write secret: %w", err)
	}
	if err := writeWhole(path, value+"\n"); err != nil {
		return "", "", fmt.Errorf("write secret: %w", err)
	}
	return path, value, nil
}

// writeWhole writes a file that only this user can read and that is there whole or
// not at all, also after a power cut: without its password the signing key, which
// is on the disk by then, would be lost.
func writeWhole(path, content string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".secret-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after the rename
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// secrets are those that the all-in-one generates for itself.
type secrets struct {
	webhook      string // the embedded registry shows it to the gateway
	webhookFile  string
	keystoreFile string // password of the signer's key
}

func openSecrets(dir string) (*secrets, error) {
	var s secrets
	var err error
	if s.webhookFile, s.webhook, err = secretFile(dir, "webhook", ""); err != nil {
		return nil, err
	}
	if s.keystoreFile, _, err = secretFile(dir, "keystore-password", ""); err != nil {
		return nil, err
	}
	return &s, nil
}
