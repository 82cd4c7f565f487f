package trust

import (
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
	"github.com/seaworthy-dev/seaworthy/pkg/verdict/trustbundle"
)

// MaxKeyFile bounds a file of public keys, in bytes.
const MaxKeyFile = 64 << 10

// ReadKeys reads every public key of PEM files.
func ReadKeys(files []string) ([]attest.TrustedKey, error) {
	var keys []attest.TrustedKey
	for _, file := range files {
		data, err := regularfile.ReadFile(file)
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
		key, err := trustbundle.ParsePublicKey(block)
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
