package keystore

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// Identity is what signs, and how others know it.
type Identity interface {
	// KeyID is attest.KeyID of the public key.
	KeyID() string
	Public() crypto.PublicKey
	// PublicPEM is the public key, PKIX in PEM.
	PublicPEM() string
	Signer() signature.Signer
}

var _ Identity = (*Key)(nil)

// Dir is a key store's directory: the first key in cosign.key, those that were
// made later in key-<id>.key.
type Dir struct {
	Path     string
	Password []byte
	// Algorithm of keys that are made here; empty means ECDSAP256.
	Algorithm Algorithm
	// Generate allows to make the first key.
	Generate bool
}

// Open opens the first key, after making it if there is none and it may.
func (d *Dir) Open() (*Key, error) {
	return open(d.Path, d.Password, d.Generate, d.Algorithm)
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (d *Dir) file(id string) (string, error) {
	if !idPattern.MatchString(id) {
		return "", fmt.Errorf("invalid key id %q", clip(id))
	}
	return filepath.Join(d.Path, "key-"+id+".key"), nil
}

// OpenNamed opens the key with an id that Create made. The error wraps
// fs.ErrNotExist if the directory does not have it.
func (d *Dir) OpenNamed(id string) (*Key, error) {
	path, err := d.file(id)
	if err != nil {
		return nil, err
	}
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key file %s: %w", path, err)
	}
	private, err := Decode(text, d.Password)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w: restore the file from a backup; the password is that of the other keys", path, err)
	}
	k, err := New(private)
	if err != nil {
		return nil, err
	}
	if k.KeyID() != id {
		return nil, fmt.Errorf("key file %s: %w: it holds the key %s", path, ErrCorrupt, k.KeyID())
	}
	return k, nil
}

// Create makes a key and writes it into a file of its own: whole or not at all, then
// the error is ErrNotWritten.
func (d *Dir) Create() (*Key, error) {
	private, err := generate(d.Algorithm)
	if err != nil {
		return nil, err
	}
	k, err := New(private)
	if err != nil {
		return nil, err
	}
	path, err := d.file(k.KeyID())
	if err != nil {
		return nil, err
	}
	text, err := Encode(private, d.Password)
	if err != nil {
		return nil, err
	}
	tmp, err := writeTemp(d.Path, text, 0o600)
	if err == nil {
		defer os.Remove(tmp)
		err = os.Rename(tmp, path)
	}
	if err == nil {
		if err = syncDir(d.Path); err != nil {
			os.Remove(path) // nobody knows of it
		}
	}
	if err != nil {
		return nil, fmt.Errorf("write key file %s: %w: %w", path, err, ErrNotWritten)
	}
	return k, nil
}

// Discard deletes the file of a key that Create made and nobody uses.
func (d *Dir) Discard(k *Key) error {
	path, err := d.file(k.KeyID())
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard key: %w", err)
	}
	return nil
}

// KeyID implements Identity.
func (k *Key) KeyID() string { return attest.KeyID(k.private.Public()) }
