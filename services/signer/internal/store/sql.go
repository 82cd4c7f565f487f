package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// Schema is the name of the signer's database schema.
const Schema = "signer"

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations are the changes that make the schema.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		// The directory is embedded above: this cannot fail in a program that compiled.
		return migrations
	}
	return sub
}

// SQL is the Store in a SQL database.
type SQL struct{ db *sqldb.DB }

var _ Store = (*SQL)(nil)

// New brings the schema up to date and returns the store.
func New(ctx context.Context, db *sqldb.DB) (*SQL, error) {
	if err := db.Migrate(ctx, Migrations()); err != nil {
		return nil, fmt.Errorf("migrate the signing log: %w", err)
	}
	return &SQL{db: db}, nil
}

const columns = `entry_id, registry, repository, subject_digest, predicate_type, content_key,
	content_digest, key_id, sign_time, trace_id, manifest_digest, done_time,
	claim_time, superseded_time, removal, identity, log_index, proven_time`

// inLine chooses the rows of one line; its five arguments are those of args.
const inLine = ofType + ` AND identity = $5`

// ofType chooses those of all identities; its arguments are the first four.
const ofType = `registry = $1 AND repository = $2 AND subject_digest = $3 AND predicate_type = $4`

func (l Line) args(more ...any) []any {
	return append([]any{l.Registry, l.Repository, l.SubjectDigest, l.PredicateType, l.Identity}, more...)
}

// noIndex stands for an entry that is in no transparency log.
const noIndex = -1

func logIndex(e Entry) int64 {
	if e.LogIndex == nil {
		return noIndex
	}
	return *e.LogIndex
}

// Get implements Store.
func (s *SQL) Get(ctx context.Context, id string) (Entry, error) {
	e, err := get(ctx, s.db, `entry_id = $1`, id)
	if err != nil {
		return Entry{}, err
	}
	err = s.db.QueryRowContext(ctx, `SELECT manifest, bundle FROM signing_log WHERE entry_id = $1`, id).Scan(&e.Manifest, &e.Bundle)
	if errors.Is(err, sql.ErrNoRows) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read manifest and bundle: %w", err)
	}
	if len(e.Manifest) == 0 {
		e.Manifest = nil
	}
	if len(e.Bundle) == 0 {
		e.Bundle = nil
	}
	return e, nil
}

// Current implements Store.
func (s *SQL) Current(ctx context.Context, l Line) (Entry, error) { return current(ctx, s.db, l) }

func current(ctx context.Context, q querier, l Line) (Entry, error) {
	return get(ctx, q, inLine+` AND removal <> 'deleted' ORDER BY claim_time DESC, sign_time DESC, entry_id DESC LIMIT 1`, l.args()...)
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// get reads an entry without its bundle.
func get(ctx context.Context, q querier, where string, args ...any) (Entry, error) {
	var e Entry
	err := scan(q.QueryRowContext(ctx, `SELECT `+columns+` FROM signing_log WHERE `+where, args...).Scan, &e)
	if errors.Is(err, sql.ErrNoRows) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read signing log: %w", err)
	}
	return e, nil
}

func scan(row func(...any) error, e *Entry, more ...any) error {
	var signed, done, claimed, superseded, index, proven int64
	dest := []any{
		&e.ID, &e.Registry, &e.Repository, &e.SubjectDigest, &e.PredicateType, &e.ContentKey,
		&e.ContentDigest, &e.KeyID, &signed, &e.TraceID, &e.ManifestDigest, &done,
		&claimed, &superseded, &e.Removal, &e.Identity, &index, &proven,
	}
	if err := row(append(dest, more...)...); err != nil {
		return err
	}
	e.SignTime, e.DoneTime = sqldb.FromTime(signed), sqldb.FromTime(done)
	e.ClaimTime, e.SupersededTime = sqldb.FromTime(claimed), sqldb.FromTime(superseded)
	e.ProvenTime = sqldb.FromTime(proven)
	if index != noIndex {
		e.LogIndex = &index
	}
	return nil
}

// lockKeys is for changes of the signing keys.
const lockKeys = "keys"

// lockLines is taken by whoever reads what is in force of lines and then changes it.
// The order is the same for all, so that two never wait for each other.
func (s *SQL) lockLines(ctx context.Context, tx *sql.Tx, lines []Line) error {
	names := make([]string, len(lines))
	for i, l := range lines {
		names[i] = strings.Join([]string{"line", l.Registry, l.Repository, l.SubjectDigest, l.PredicateType, l.Identity}, "\n")
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := s.db.Lock(ctx, tx, name); err != nil {
			return err
		}
	}
	return nil
}

// Begin implements Store.
func (s *SQL) Begin(ctx context.Context, entries []Entry, serves func(i int, current Entry) bool) ([]Entry, error) {
	var stored []Entry
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		lines := make([]Line, len(entries))
		for i := range entries {
			lines[i] = entries[i].Line
		}
		if err := s.lockLines(ctx, tx, lines); err != nil {
			return err
		}
		stored = make([]Entry, len(entries))
		for i, e := range entries {
			var err error
			if stored[i], err = begin(ctx, tx, e, func(current Entry) bool { return serves(i, current) }); err != nil {
				return err
			}
		}
		return nil
	})
	return stored, err
}

func begin(ctx context.Context, tx *sql.Tx, e Entry, serves func(current Entry) bool) (Entry, error) {
	stored, err := current(ctx, tx, e.Line)
	if err == nil && serves(stored) {
		return stored, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Entry{}, err
	}
	// Empty and not NULL.
	manifest, bundle := append([]byte{}, e.Manifest...), append([]byte{}, e.Bundle...)
	// Only what is gone from its registry makes room.
	res, err := tx.ExecContext(ctx, `INSERT INTO signing_log (`+columns+`, manifest, bundle)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
		ON CONFLICT (entry_id) DO UPDATE SET
			content_digest = excluded.content_digest, sign_time = excluded.sign_time, trace_id = excluded.trace_id,
			manifest_digest = excluded.manifest_digest, done_time = excluded.done_time, superseded_time = 0, removal = '',
			log_index = excluded.log_index, proven_time = excluded.proven_time, manifest = excluded.manifest, bundle = excluded.bundle
		WHERE signing_log.removal = 'deleted'`,
		e.ID, e.Registry, e.Repository, e.SubjectDigest, e.PredicateType, e.ContentKey,
		e.ContentDigest, e.KeyID, sqldb.Time(e.SignTime), e.TraceID, e.ManifestDigest, sqldb.Time(e.DoneTime),
		sqldb.Time(e.ClaimTime), sqldb.Time(e.SupersededTime), string(e.Removal),
		e.Identity, logIndex(e), sqldb.Time(e.ProvenTime), manifest, bundle)
	if err != nil {
		return Entry{}, fmt.Errorf("write signing log: %w", err)
	}
	if n, err := res.RowsAffected(); err == nil && n == 1 {
		return e, nil
	}
	return get(ctx, tx, `entry_id = $1`, e.ID)
}

// Finish implements Store.
func (s *SQL) Finish(ctx context.Context, done []Finished, at time.Time) error {
	return s.db.InTx(ctx, func(tx *sql.Tx) error {
		var lines []Line
		for _, f := range done {
			e, err := get(ctx, tx, `entry_id = $1`, f.ID)
			if err != nil {
				return err
			}
			lines = append(lines, e.Line)
		}
		if err := s.lockLines(ctx, tx, lines); err != nil {
			return err
		}
		for i, f := range done {
			if err := finish(ctx, tx, lines[i], f, at); err != nil {
				return err
			}
		}
		return nil
	})
}

func finish(ctx context.Context, tx *sql.Tx, l Line, f Finished, at time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE signing_log SET manifest_digest = $1, done_time = $2, removal = '' WHERE entry_id = $3`,
		f.ManifestDigest, sqldb.Time(at), f.ID)
	if err != nil {
		return fmt.Errorf("finish signing log entry: %w", err)
	}
	return supersede(ctx, tx, l, at)
}

// Lose implements Store.
func (s *SQL) Lose(ctx context.Context, e Entry, at time.Time) error {
	return s.db.InTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE signing_log SET removal = 'deleted', superseded_time = $1 WHERE entry_id = $2 AND manifest = $3`,
			sqldb.Time(at), e.ID, append([]byte{}, e.Manifest...)); err != nil {
			return fmt.Errorf("record a loss: %w", err)
		}
		return nil
	})
}

// supersede marks what is older than the latest one of a line that is done.
func supersede(ctx context.Context, tx *sql.Tx, l Line, at time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE signing_log SET superseded_time = $6 WHERE `+inLine+`
		AND superseded_time = 0 AND (claim_time, sign_time, entry_id) < (
			SELECT claim_time, sign_time, entry_id FROM signing_log WHERE `+inLine+`
			AND done_time > 0 AND removal <> 'deleted' ORDER BY claim_time DESC, sign_time DESC, entry_id DESC LIMIT 1)`,
		l.args(sqldb.Time(at))...)
	if err != nil {
		return fmt.Errorf("supersede attestations: %w", err)
	}
	return nil
}

// Known implements Store.
func (s *SQL) Known(ctx context.Context, l Line) (map[string]bool, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT manifest_digest FROM signing_log WHERE `+ofType+` AND manifest_digest <> ''`,
		l.Registry, l.Repository, l.SubjectDigest, l.PredicateType)
	if err != nil {
		return nil, fmt.Errorf("list signing log: %w", err)
	}
	defer rows.Close()
	out := map[string]bool{}
	for rows.Next() {
		var digest string
		if err := rows.Scan(&digest); err != nil {
			return nil, fmt.Errorf("list signing log: %w", err)
		}
		out[digest] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list signing log: %w", err)
	}
	return out, nil
}

// Superseded implements Store.
func (s *SQL) Superseded(ctx context.Context, before time.Time, after string, limit int) ([]Entry, error) {
	return s.list(ctx, `superseded_time > 0 AND superseded_time < $1 AND removal = '' AND manifest_digest <> ''
		AND entry_id > $2 ORDER BY entry_id LIMIT $3`, sqldb.Time(before), after, limit)
}

// SetRemoval implements Store.
func (s *SQL) SetRemoval(ctx context.Context, id string, r Removal) error {
	return s.db.InTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE signing_log SET removal = $1 WHERE entry_id = $2`, string(r), id); err != nil {
			return fmt.Errorf("record a removal: %w", err)
		}
		return nil
	})
}

// List implements Store.
func (s *SQL) List(ctx context.Context, q Query) ([]Entry, error) {
	before, id := int64(math.MaxInt64), ""
	if q.After != nil {
		before, id = sqldb.Time(q.After.SignTime), q.After.ID
	}
	return s.list(ctx, `subject_digest = $1 AND ($2 = '' OR registry = $3) AND ($4 = '' OR repository = $5)
		AND done_time > 0 AND removal <> 'deleted' AND (sign_time < $6 OR (sign_time = $7 AND entry_id < $8))
		ORDER BY sign_time DESC, entry_id DESC LIMIT $9`,
		q.SubjectDigest, q.Registry, q.Registry, q.Repository, q.Repository, before, before, id, q.Limit)
}

func (s *SQL) list(ctx context.Context, where string, args ...any) ([]Entry, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+columns+` FROM signing_log WHERE `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("list signing log: %w", err)
	}
	defer rows.Close()
	var out []Entry
	for rows.Next() {
		var e Entry
		if err := scan(rows.Scan, &e); err != nil {
			return nil, fmt.Errorf("list signing log: %w", err)
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list signing log: %w", err)
	}
	return out, nil
}
