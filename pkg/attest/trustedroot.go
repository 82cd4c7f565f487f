package attest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// KeyedTrustedRoot is the Sigstore trusted root, `trusted_root.json`, of
// signatures by plain keys. It names no certificate authority, no transparency
// log and no timestamp authority, for there are none behind such signatures; and
// it names no keys, for the format has no place for them. Beside the key itself it
// is what cosign and sigstore-go want: without a trusted root cosign asks the
// public one on the internet.
func KeyedTrustedRoot() ([]byte, error) {
	r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, nil, nil, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	raw, err := r.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	return compact.Bytes(), nil
}
