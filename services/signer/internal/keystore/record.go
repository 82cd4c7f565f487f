package keystore

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The directory says itself what its keys are and which are revoked, so that losing or
// restoring the signer's database makes no key valid again: key-<id>.json is the record of
// a key, written once, and key-<id>.revoked says that it is revoked. Neither is ever
// changed or deleted.
const (
	recordSuffix  = ".json"
	revokedSuffix = ".revoked"
	// maxRecords bounds what is read of a directory.
	maxRecords = 10_000
)

// Record is what the key store says of one of its keys.
type Record struct {
	KeyID     string `json:"key_id"`
	PublicPEM string `json:"public_key_pem"`
	// Generation counts the keys of the directory: the highest is the newest.
	Generation int64 `json:"generation"`
	// StartTime is when it may have signed at the earliest; zero if nobody knows.
	StartTime time.Time `json:"start_time,omitzero"`
	// MadeTime is when the signer made it or first saw it.
	MadeTime time.Time `json:"made_time"`
	// RequestID is of the request to rotate that it was made for.
	RequestID string `json:"request_id,omitempty"`
	// RevokeTime is not zero if the key is revoked.
	RevokeTime time.Time `json:"-"`
}

type revocation struct {
	KeyID      string    `json:"key_id"`
	RevokeTime time.Time `json:"revoke_time"`
}

// Records are those of all keys, the newest first.
func (d *Dir) Records() ([]Record, error) {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return nil, fmt.Errorf("read key store %s: %w", d.Path, err)
	}
	if len(entries) > maxRecords {
		return nil, fmt.Errorf("key store %s has %d files, the limit is %d", d.Path, len(entries), maxRecords)
	}
	var out []Record
	revoked := map[string]time.Time{}
	for _, e := range entries {
		if id, ok := keyOf(e.Name(), recordSuffix); ok {
			var r Record
			if err := d.readJSON(e.Name(), &r); err != nil {
				return nil, err
			}
			if r.KeyID != id || r.PublicPEM == "" || r.Generation < 1 {
				return nil, d.damaged(e.Name(), errors.New("it is not the record of this key"))
			}
			out = append(out, r)
		}
		if id, ok := keyOf(e.Name(), revokedSuffix); ok {
			var r revocation
			if err := d.readJSON(e.Name(), &r); err != nil {
				return nil, err
			}
			if r.KeyID != id || r.RevokeTime.IsZero() {
				return nil, d.damaged(e.Name(), errors.New("it is not the revocation of this key"))
			}
			revoked[id] = r.RevokeTime
		}
	}
	for i := range out {
		out[i].RevokeTime = revoked[out[i].KeyID]
		delete(revoked, out[i].KeyID)
	}
	for id := range revoked {
		return nil, d.damaged("key-"+id+revokedSuffix, errors.New("record of this key missing"))
	}
	slices.SortFunc(out, func(a, b Record) int {
		return cmp.Or(cmp.Compare(b.Generation, a.Generation), b.MadeTime.Compare(a.MadeTime), strings.Compare(a.KeyID, b.KeyID))
	})
	return out, nil
}

func keyOf(name, suffix string) (id string, ok bool) {
	id, ok = strings.CutPrefix(name, "key-")
	if !ok {
		return "", false
	}
	id, ok = strings.CutSuffix(id, suffix)
	return id, ok && idPattern.MatchString(id)
}

// Keys are the IDs of the key files that Create made.
func (d *Dir) Keys() ([]string, error) {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return nil, fmt.Errorf("read key store %s: %w", d.Path, err)
	}
	var out []string
	for _, e := range entries {
		if id, ok := keyOf(e.Name(), ".key"); ok {
			out = append(out, id)
		}
	}
	return out, nil
}

// Keep writes the record of a key, unless there is one.
func (d *Dir) Keep(r Record) error {
	r.StartTime, r.MadeTime = r.StartTime.UTC(), r.MadeTime.UTC()
	return d.writeOnce("key-"+r.KeyID+recordSuffix, r)
}

// Revoke writes down that a key with a record is revoked. The first time stays.
func (d *Dir) Revoke(id string, at time.Time) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("invalid key id %q", clip(id))
	}
	return d.writeOnce("key-"+id+revokedSuffix, revocation{KeyID: id, RevokeTime: at.UTC()})
}

func (d *Dir) readJSON(name string, into any) error {
	text, err := readFile(filepath.Join(d.Path, name))
	if err == nil && len(text) > MaxFile {
		err = errors.New("it is too large")
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return d.damaged(name, err)
	}
	return nil
}

func (d *Dir) damaged(name string, err error) error {
	return fmt.Errorf("file %s: %w: %w: restore it from a backup", filepath.Join(d.Path, name), ErrCorrupt, err)
}

// writeOnce writes a file that is there whole or not at all, and never changes.
func (d *Dir) writeOnce(name string, content any) error {
	path := filepath.Join(d.Path, name)
	text, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	tmp, err := writeTemp(d.Path, append(text, '\n'), 0o644)
	if err == nil {
		defer os.Remove(tmp)
		if err = os.Link(tmp, path); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err == nil {
		err = syncDir(d.Path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w: %w", path, err, ErrNotWritten)
	}
	return nil
}

// Lock holds off other processes that change keys in the directory until unlock.
func (d *Dir) Lock() (unlock func(), err error) {
	f, err := os.Open(d.Path)
	if err != nil {
		return nil, fmt.Errorf("lock key store: %w: %w", err, ErrNotWritten)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock key store %s: %w", d.Path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
