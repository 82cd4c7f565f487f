package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// ErrDisagree says that database and key store name different keys as the one in use, and
// that nothing tells which of them is right. Nothing is signed then.
var ErrDisagree = errors.New("the database and keystore.dir disagree about the key in use")

// agree compares the key store with the database and returns what the database says
// after that. What only one of them knows of a revocation, or of a newer key, the other
// one is told: that withdraws trust and never gives any. It refuses where it would have
// to guess.
func (r *Ring) agree(ctx context.Context) ([]store.SigningKey, error) {
	records, err := r.dir.Records()
	if err != nil {
		return nil, err
	}
	rows, err := r.rows(ctx)
	if err != nil {
		return nil, err
	}
	if records, err = r.record(records, rows); err != nil {
		return nil, err
	}
	learn := missing(records, rows)
	if len(learn) > 0 {
		if err := r.store.Adopt(ctx, learn); err != nil {
			return nil, err
		}
		if rows, err = r.rows(ctx); err != nil {
			return nil, err
		}
	}
	if len(records) == 0 {
		return rows, nil
	}
	newest := records[0].KeyID
	for _, k := range rows {
		recorded := slices.ContainsFunc(records, func(have keystore.Record) bool { return have.KeyID == k.ID })
		if recorded && k.InUse() && k.ID != newest {
			// Those who verify may know what the database says now.
			return rows, fmt.Errorf("%w: %s by the database, %s by the key store: restore both from the same backup, or rotate the key",
				ErrDisagree, k.ID, newest)
		}
	}
	return rows, nil
}

// rows are the database's keys of the key store.
func (r *Ring) rows(ctx context.Context) ([]store.SigningKey, error) {
	all, err := r.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(k store.SigningKey) bool { return k.Identity != "" }), nil
}

// record writes into the key store what only the database knows of its keys: of those of
// earlier releases all, and revocations that a restored directory has lost.
func (r *Ring) record(records []keystore.Record, rows []store.SigningKey) ([]keystore.Record, error) {
	files, err := r.dir.Keys()
	if err != nil {
		return nil, err
	}
	unknown := slices.ContainsFunc(files, func(id string) bool {
		return !slices.ContainsFunc(rows, func(k store.SigningKey) bool { return k.ID == id })
	})
	if len(records) == 0 && unknown && len(rows) <= 1 {
		return nil, fmt.Errorf("%w: the directory has keys that the database knows nothing of and no record of which is the newest: "+
			"restore the database, or remove the files key-*.key that are not to be used", ErrDisagree)
	}
	changed := false
	// The oldest first: the generations are in the order in which they were seen.
	for _, k := range slices.Backward(rows) {
		if !r.has(k.ID, files) {
			continue
		}
		at := slices.IndexFunc(records, func(have keystore.Record) bool { return have.KeyID == k.ID })
		if at < 0 {
			err := r.dir.Keep(keystore.Record{
				KeyID: k.ID, PublicPEM: k.PublicPEM, Generation: next(records), StartTime: k.StartTime, MadeTime: k.SeenTime,
			})
			if errors.Is(err, keystore.ErrNotWritten) && len(records) == 0 && k.InUse() {
				return nil, nil // a directory that is mounted for reading, with one key
			}
			if err != nil {
				return nil, err
			}
			changed = true
			records = append(records, keystore.Record{KeyID: k.ID, Generation: next(records)})
			at = len(records) - 1
		}
		if !k.RevokeTime.IsZero() && records[at].RevokeTime.IsZero() {
			if err := r.dir.Revoke(k.ID, k.RevokeTime); err != nil {
				return nil, err
			}
			changed = true
		}
	}
	if !changed {
		return records, nil
	}
	return r.dir.Records()
}

// has tells whether a key is in the directory.
func (r *Ring) has(id string, files []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, loaded := r.loaded[id]
	return loaded || slices.Contains(files, id)
}

func next(records []keystore.Record) int64 {
	highest := int64(0)
	for _, r := range records {
		highest = max(highest, r.Generation)
	}
	return highest + 1
}

// missing is what the key store says and the database does not: keys, revocations, and
// that all but the newest key are at their end.
func missing(records []keystore.Record, rows []store.SigningKey) []store.SigningKey {
	var out []store.SigningKey
	for i, have := range records {
		want := store.SigningKey{
			ID: have.KeyID, PublicPEM: have.PublicPEM, StartTime: have.StartTime, SeenTime: have.MadeTime, RevokeTime: have.RevokeTime,
		}
		at := slices.IndexFunc(rows, func(k store.SigningKey) bool { return k.ID == have.KeyID })
		if i > 0 {
			// It ended when the newest one was made.
			want.EndTime = records[0].MadeTime.Add(clockSkew)
		}
		newestKnown := slices.ContainsFunc(rows, func(k store.SigningKey) bool { return k.ID == records[0].KeyID && k.InUse() })
		switch {
		case at < 0:
			out = append(out, want)
		case rows[at].RevokeTime.IsZero() && !have.RevokeTime.IsZero(),
			i > 0 && rows[at].EndTime.IsZero() && (newestKnown || !known(rows, records[0].KeyID)):
			out = append(out, want)
		}
	}
	return out
}

func known(rows []store.SigningKey, id string) bool {
	return slices.ContainsFunc(rows, func(k store.SigningKey) bool { return k.ID == id })
}
