package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Revoked is the record of a revoked key, of the key store or of a KMS. It has all that
// a trust bundle needs to name the key as revoked after the database was lost.
type Revoked struct {
	KeyID     string `json:"key_id"`
	PublicPEM string `json:"public_key_pem"`
	// Identity is the name of the KMS identity; empty for keys of the key store.
	Identity   string    `json:"identity,omitempty"`
	RevokeTime time.Time `json:"revoke_time"`
}

const revokedPrefix = "revoked-"

// KeepRevoked writes the record of a revoked key, unless there is one: ErrNotWritten. A
// signer whose keys are all in a KMS has no directory until then.
func (d *Dir) KeepRevoked(r Revoked) error {
	if !idPattern.MatchString(r.KeyID) {
		return fmt.Errorf("invalid key id %q", clip(r.KeyID))
	}
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		return fmt.Errorf("make key store %s: %w: %w", d.Path, err, ErrNotWritten)
	}
	r.RevokeTime = r.RevokeTime.UTC()
	return d.writeOnce(revokedPrefix+r.KeyID+recordSuffix, r)
}

// AllRevoked returns the records that KeepRevoked wrote. A directory that does not exist
// has none; one that cannot be read, or has a damaged record, is an error.
func (d *Dir) AllRevoked() ([]Revoked, error) {
	entries, err := os.ReadDir(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read key store %s: %w", d.Path, err)
	}
	if len(entries) > maxRecords {
		return nil, fmt.Errorf("key store %s has %d files, the limit is %d", d.Path, len(entries), maxRecords)
	}
	var out []Revoked
	for _, e := range entries {
		name, isRecord := strings.CutPrefix(e.Name(), revokedPrefix)
		id, isJSON := strings.CutSuffix(name, recordSuffix)
		if !isRecord || !isJSON || !idPattern.MatchString(id) {
			continue
		}
		var r Revoked
		if err := d.readJSON(e.Name(), &r); err != nil {
			return nil, err
		}
		if r.KeyID != id || r.PublicPEM == "" || r.RevokeTime.IsZero() {
			return nil, d.damaged(e.Name(), errors.New("it is not the revocation of this key"))
		}
		out = append(out, r)
	}
	return out, nil
}
