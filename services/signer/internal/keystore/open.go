package keystore

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// Names of the files in the key store's directory, as cosign names them.
const (
	PrivateFile = "cosign.key"
	PublicFile  = "cosign.pub"
)

// Key is the key in use. It signs; the private key itself cannot be had.
type Key struct {
	private   crypto.Signer
	signer    signature.Signer
	publicPEM []byte
	generated bool
}

// Open reads the key of the directory. If there is none and mayGenerate is set,
// it makes one first; of several processes that start at once on one directory
// one makes it and the others read it. The public key file is written again if
// it is missing or is not that of the key.
//
// Errors name the file and what to do, and wrap the errors of this package.
func Open(dir string, password []byte, mayGenerate bool) (*Key, error) {
	return open(dir, password, mayGenerate, ECDSAP256)
}

func open(dir string, password []byte, mayGenerate bool, a Algorithm) (*Key, error) {
	path := filepath.Join(dir, PrivateFile)
	if len(password) == 0 {
		return nil, errors.New("the key store's password is empty: set keystore.password")
	}
	private, generated, err := load(dir, path, password, mayGenerate, a)
	if err != nil {
		return nil, err
	}
	k, err := New(private)
	if err != nil {
		return nil, err
	}
	k.generated = generated
	return k, k.writePublic(filepath.Join(dir, PublicFile))
}

// load reads the key file, after making it if there is none.
func load(dir, path string, password []byte, mayGenerate bool, a Algorithm) (key crypto.Signer, generated bool, err error) {
	text, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !mayGenerate {
			return nil, false, fmt.Errorf("%w: %s does not exist: put a key made by `cosign generate-key-pair` there "+
				"or set keystore.generate to true", ErrMissing, path)
		}
		var made []byte
		if key, made, err = create(dir, path, password, a); err != nil {
			return nil, false, err
		}
		if text, err = readFile(path); err == nil && bytes.Equal(text, made) {
			return key, true, nil
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("read key file %s: %w: it must be a regular file that the signer's user can read", path, err)
	}
	if key, err = Decode(text, password); err != nil {
		return nil, false, fmt.Errorf("key file %s: %w%s", path, err, advice(err))
	}
	return key, false, nil
}

// New holds a key that is not on disk.
func New(private crypto.Signer) (*Key, error) {
	signer, err := signerOf(private)
	if err != nil {
		return nil, fmt.Errorf("load signer: %w", err)
	}
	public, err := cryptoutils.MarshalPublicKeyToPEM(private.Public())
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return &Key{private: private, signer: signer, publicPEM: public}, nil
}

// signerOf gives Ed25519 keys the signer that does not want large documents in memory.
func signerOf(private crypto.Signer) (signature.Signer, error) {
	if key, ok := private.(ed25519.PrivateKey); ok {
		return attest.NewEd25519Signer(key)
	}
	return signature.LoadSigner(private, crypto.SHA256)
}

func advice(err error) string {
	if errors.Is(err, ErrPassword) {
		return ": check keystore.password; if it is right, restore the file from a backup"
	}
	return ": restore the file from a backup, or move it away and set keystore.generate to true " +
		"to begin with a new key"
}

// Signer signs with ECDSA P-256 over SHA-256, or with pure Ed25519.
func (k *Key) Signer() signature.Signer { return k.signer }

// Public is the public key.
func (k *Key) Public() crypto.PublicKey { return k.private.Public() }

// PublicPEM is the public key, PKIX in PEM.
func (k *Key) PublicPEM() string { return string(k.publicPEM) }

// Generated reports whether this Open made the key.
func (k *Key) Generated() bool { return k.generated }

func (k *Key) writePublic(path string) error {
	if have, err := readFile(path); err == nil && bytes.Equal(have, k.publicPEM) {
		return nil
	}
	tmp, err := writeTemp(filepath.Dir(path), k.publicPEM, 0o644)
	if err == nil {
		defer os.Remove(tmp)
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("write public key file %s: %w: %w", path, err, ErrNotWritten)
	}
	return nil
}

// create makes a key and writes its file unless another process was faster. The
// file appears whole or not at all. It returns the key and the text it tried to
// write.
func create(dir, path string, password []byte, a Algorithm) (key crypto.Signer, text []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("generate key file %s: %w: %w", path, err, ErrNotWritten)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	if key, err = generate(a); err != nil {
		return nil, nil, err
	}
	if text, err = Encode(key, password); err != nil {
		return nil, nil, err
	}
	tmp, err := writeTemp(dir, text, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer os.Remove(tmp)
	// A link fails if the file exists: an existing key is never replaced.
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, nil, err
	}
	return key, text, syncDir(dir)
}

func writeTemp(dir string, data []byte, mode fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(dir, ".cosign-*.tmp")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	return f.Name(), err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile reads a small regular file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return io.ReadAll(io.LimitReader(f, MaxFile+1))
}
