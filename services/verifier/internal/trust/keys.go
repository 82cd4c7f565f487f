package trust

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// MaxKeyFile bounds a file of public keys, in bytes.
const MaxKeyFile = 64 << 10

// ReadKeys reads every public key of PEM files.
func ReadKeys(files []string) ([]attest.TrustedKey, error) {
	var keys []attest.TrustedKey
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read trusted key: %w", err)
		}
		if len(data) > MaxKeyFile {
			return nil, fmt.Errorf("trusted key %s: %d bytes, more than %d", file, len(data), MaxKeyFile)
		}
		found, err := parseKeys(data)
		if err != nil {
			return nil, fmt.Errorf("trusted key %s: %w", file, err)
		}
		keys = append(keys, found...)
	}
	return keys, checkCount(keys)
}

func checkCount(keys []attest.TrustedKey) error {
	if len(keys) > attest.MaxTrustedKeys {
		return fmt.Errorf("%d trusted keys, more than %d", len(keys), attest.MaxTrustedKeys)
	}
	return nil
}

func parseKeys(data []byte) ([]attest.TrustedKey, error) {
	var keys []attest.TrustedKey
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, err
		}
		keys = append(keys, attest.TrustedKey{Key: key, ID: attest.KeyID(key)})
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM block in it")
	}
	return keys, nil
}

func parseKey(block *pem.Block) (crypto.PublicKey, error) {
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("PEM block %q instead of PUBLIC KEY", block.Type)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse public key: %w", err)
	}
	return key, nil
}

// parseBundle reads the keys of a signer's bundle and checks that they are what
// they are called.
func parseBundle(body []byte) ([]attest.TrustedKey, error) {
	var m signerv1.GetTrustBundleResponse
	if err := proto.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("decode trust bundle: %w", err)
	}
	if len(m.GetKeys()) == 0 {
		return nil, errors.New("the trust bundle has no keys")
	}
	keys := make([]attest.TrustedKey, 0, len(m.GetKeys()))
	for _, k := range m.GetKeys() {
		block, _ := pem.Decode([]byte(k.GetPublicKeyPem()))
		if block == nil {
			return nil, fmt.Errorf("key %.64q of the trust bundle is not PEM", k.GetKeyId())
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, fmt.Errorf("key %.64q of the trust bundle: %w", k.GetKeyId(), err)
		}
		if id := attest.KeyID(key); id != k.GetKeyId() {
			return nil, fmt.Errorf("key %.64q of the trust bundle is %s", k.GetKeyId(), id)
		}
		t := attest.TrustedKey{Key: key, ID: k.GetKeyId()}
		if s := k.GetStartTime(); s != nil {
			t.NotBefore = s.AsTime()
		}
		if e := k.GetEndTime(); e != nil {
			t.NotAfter = e.AsTime()
		}
		if r := k.GetRevokeTime(); r != nil {
			t.Revoked = r.AsTime()
		}
		keys = append(keys, t)
	}
	return keys, checkCount(keys)
}
