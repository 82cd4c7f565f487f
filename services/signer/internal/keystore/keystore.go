// Package keystore holds signing keys on disk, ECDSA P-256 or Ed25519, in the file
// form that `cosign generate-key-pair` writes (PKCS #8, encrypted with scrypt and
// NaCl secretbox, PEM), and beside it the public key. Either program reads what
// the other wrote.
package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

const (
	pemType = "ENCRYPTED SIGSTORE PRIVATE KEY"
	// legacyPEMType is what cosign wrote before version 2.
	legacyPEMType = "ENCRYPTED COSIGN PRIVATE KEY"
	// MaxFile bounds a key file, in bytes. Real ones have less than 1 KiB.
	MaxFile = 64 << 10
)

// Errors of this package, for errors.Is.
var (
	// ErrMissing: there is no key file and none may be generated.
	ErrMissing = errors.New("no key file")
	// ErrCorrupt: the file is not a key file of this form.
	ErrCorrupt = errors.New("not a cosign key file")
	// ErrPassword: the password is wrong, or the encrypted part was changed.
	ErrPassword = errors.New("wrong password or damaged key file")
	// ErrUnsupported: a key file, but of another kind of key.
	ErrUnsupported = errors.New("unsupported kind of key")
	// ErrNotWritten: the directory takes no file. What was in it is as it was.
	ErrNotWritten = errors.New("make the directory writable for the signer's user and see that its disk is not full")
)

// Algorithm is a kind of key, as it is called in the configuration.
type Algorithm string

// Algorithms. ECDSA P-256 is what every Sigstore client takes.
const (
	ECDSAP256 Algorithm = "ecdsa-p256"
	Ed25519   Algorithm = "ed25519"
)

// Encode makes the text of a key file.
func Encode(key crypto.Signer, password []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	box, err := encrypted.Encrypt(der, password)
	giveBack()
	if err != nil {
		return nil, fmt.Errorf("encrypt private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: box}), nil
}

// Decode reads the text of a key file. Errors wrap ErrCorrupt, ErrPassword or
// ErrUnsupported and never contain anything of the file or the password.
func Decode(text, password []byte) (crypto.Signer, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("%w: %d bytes exceeds the limit of %d", ErrCorrupt, len(text), MaxFile)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%w: no PEM block", ErrCorrupt)
	case block.Type == "PRIVATE KEY" || block.Type == "EC PRIVATE KEY":
		return nil, fmt.Errorf("%w: the key is not encrypted; import it with `cosign import-key-pair`", ErrUnsupported)
	case block.Type != pemType && block.Type != legacyPEMType:
		return nil, fmt.Errorf("%w: PEM block is %q, want %q", ErrCorrupt, block.Type, pemType)
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, fmt.Errorf("%w: more than one PEM block", ErrCorrupt)
	}
	if err := checkBox(block.Bytes); err != nil {
		return nil, err
	}
	der, err := encrypted.Decrypt(block.Bytes, password)
	giveBack()
	if err != nil {
		// The form was checked, so what is left is the authentication of the box.
		return nil, ErrPassword
	}
	return parse(der)
}

// giveBack returns the 64 MiB that scrypt wants for a moment to the system: a
// signer may be idle for hours after, and would hold them.
func giveBack() { debug.FreeOSMemory() }

// checkBox tells a damaged file from a wrong password: only what has the right
// form is worth a try with the password.
func checkBox(box []byte) error {
	var b struct {
		KDF struct {
			Name   string `json:"name"`
			Params struct {
				N, R, P int
			} `json:"params"`
			Salt []byte `json:"salt"`
		} `json:"kdf"`
		Cipher struct {
			Name  string `json:"name"`
			Nonce []byte `json:"nonce"`
		} `json:"cipher"`
		Ciphertext []byte `json:"ciphertext"`
	}
	if err := json.Unmarshal(box, &b); err != nil {
		return fmt.Errorf("%w: the PEM block does not hold an encrypted box", ErrCorrupt)
	}
	switch {
	case b.KDF.Name != "scrypt" || b.Cipher.Name != "nacl/secretbox":
		return fmt.Errorf("%w: encrypted with %q and %q, want scrypt and nacl/secretbox",
			ErrUnsupported, clip(b.KDF.Name), clip(b.Cipher.Name))
	case b.KDF.Params.N > 1<<17 || b.KDF.Params.R != 8 || b.KDF.Params.P != 1:
		return fmt.Errorf("%w: scrypt parameters that cosign never writes", ErrUnsupported)
	case len(b.KDF.Salt) == 0 || len(b.Cipher.Nonce) != 24 || len(b.Ciphertext) == 0:
		return fmt.Errorf("%w: salt, nonce or ciphertext is missing", ErrCorrupt)
	}
	return nil
}

func parse(der []byte) (crypto.Signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: what was decrypted is not a PKCS #8 key", ErrCorrupt)
	}
	switch key := parsed.(type) {
	case *ecdsa.PrivateKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("%w: want ECDSA P-256 or Ed25519", ErrUnsupported)
}

func generate(a Algorithm) (crypto.Signer, error) {
	var key crypto.Signer
	var err error
	switch a {
	case ECDSAP256, "":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fmt.Errorf("%w: %q", ErrUnsupported, clip(string(a)))
	}
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

func clip(s string) string {
	const limit = 40
	if len(s) > limit {
		return s[:limit]
	}
	return s
}
