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
)

// secretBytes is the entropy of a generated secret: 256 bits.
const secretBytes = 32

// secretFile returns the path of a secret in dir that only this user can read, and
// its value. It is generated the first time and kept from then on; prefix is put
// before the random part, for formats that want one.
func secretFile(dir, name, prefix string) (path, value string, err error) {
	path = filepath.Join(dir, name)
	content, err := os.ReadFile(path)
	if err == nil {
		return path, strings.TrimSpace(string(content)), nil
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
	if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
		return "", "", fmt.Errorf("write secret: %w", err)
	}
	return path, value, nil
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
