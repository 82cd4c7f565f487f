package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
)

// Save implements Store.
func (s *SQL) Save(ctx context.Context, v NewVerdict) (Saved, error) {
	select {
	case s.saving <- struct{}{}:
		defer func() { <-s.saving }()
	case <-ctx.Done():
		return Saved{}, fmt.Errorf("save verdict: %w", context.Cause(ctx))
	}
	var saved Saved
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		var err error
		saved, err = save(ctx, tx, v)
		return err
	})
	if err != nil {
		return Saved{}, fmt.Errorf("save verdict: %w", err)
	}
	return saved, nil
}

func save(ctx context.Context, tx *sql.Tx, v NewVerdict) (Saved, error) {
	// Writing the row takes its lock: from here on verdicts are stored one after
	// the other, and the number becomes visible with the verdict.
	var last int64
	err := tx.QueryRowContext(ctx, `UPDATE counters SET value = value WHERE name = 'verdict' RETURNING value`).Scan(&last)
	if err != nil {
		return Saved{}, fmt.Errorf("lock sequence: %w", err)
	}
	if err := checkRevision(ctx, tx, v); err != nil {
		return Saved{}, err
	}
	current, err := newest(ctx, tx, v)
	if err != nil {
		return Saved{}, err
	}
	if current.sequence != v.After {
		return Saved{}, ErrConflict
	}
	overdue, evidence, err := checkWaiting(ctx, tx, v)
	if err != nil {
		return Saved{}, err
	}
	if err := saveReportTimes(ctx, tx, v); err != nil {
		return Saved{}, err
	}
	if err := planLook(ctx, tx, v); err != nil {
		return Saved{}, err
	}
	if v.Revision != AnyRevision {
		if err := endRetry(ctx, tx, v.Image); err != nil {
			return Saved{}, err
		}
	}
	saved, err := store(ctx, tx, v, last, current)
	if err != nil {
		return Saved{}, err
	}
	if err := setOverdue(ctx, tx, v.Image, overdue); err != nil {
		return Saved{}, err
	}
	return saved, saveEvidence(ctx, tx, v, evidence)
}

// store stores a verdict that nothing speaks against.
func store(ctx context.Context, tx *sql.Tx, v NewVerdict, last int64, current newestVerdict) (Saved, error) {
	same := current.sequence > 0 && current.changeKey == v.ChangeKey
	v.Quiet = v.Quiet || same
	if same && !v.Replace {
		// The time moves although the verdict stays: a push from before it that is
		// reported only now has its answer and must not wait for another.
		_, err := tx.ExecContext(ctx, `
			UPDATE images SET pending_time = pending_time * $5,
				verdict_time = CASE WHEN $5 = 0 AND verdict_time < $1 THEN $1 ELSE verdict_time END
			WHERE registry = $2 AND repository = $3 AND digest = $4`,
			sqldb.Time(v.CreateTime), v.Image.Registry, v.Image.Repository, v.Image.Digest, keep(v))
		return Saved{Sequence: current.sequence, Previous: current.state}, err
	}
	if err := saveDocuments(ctx, tx, v); err != nil {
		return Saved{}, err
	}
	if err := savePlatforms(ctx, tx, v); err != nil {
		return Saved{}, err
	}
	next := last + 1
	told, toldState, toldSequence, err := telling(ctx, tx, v, current)
	if err != nil {
		return Saved{}, err
	}
	for _, stmt := range []struct {
		query string
		args  []any
	}{
		{`UPDATE counters SET value = $1 WHERE name = 'verdict'`, []any{next}},
		{
			`INSERT INTO verdicts (sequence, registry, repository, digest, state, previous_state,
				verdict_digest, change_key, trace_id, create_time, body, cause, cause_detail)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
			[]any{
				next, v.Image.Registry, v.Image.Repository, v.Image.Digest, int64(v.State), int64(current.state),
				v.Digest, v.ChangeKey, v.TraceID, sqldb.Time(v.CreateTime), v.Body,
				int64(v.Cause.Kind), v.Cause.Detail,
			},
		},
		{
			`INSERT INTO images (registry, repository, digest, sequence, state, verdict_time, expire_time, pending_time)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 0)
			ON CONFLICT (registry, repository, digest) DO UPDATE
			SET sequence = excluded.sequence, state = excluded.state,
				verdict_time = CASE WHEN $8 = 1 THEN images.verdict_time ELSE excluded.verdict_time END,
				expire_time = excluded.expire_time, pending_time = images.pending_time * $8, told_sequence = $9`,
			[]any{
				v.Image.Registry, v.Image.Repository, v.Image.Digest, next, int64(v.State),
				sqldb.Time(v.CreateTime), sqldb.Time(v.ExpireTime), keep(v), toldSequence,
			},
		},
	} {
		if _, err := tx.ExecContext(ctx, stmt.query, stmt.args...); err != nil {
			return Saved{}, err
		}
	}
	if told {
		_, err := tx.ExecContext(ctx, `INSERT INTO outbox (sequence, headers, told_state) VALUES ($1, $2, $3)`, next, v.Headers, toldState)
		if err != nil {
			return Saved{}, err
		}
	}
	return Saved{Changed: true, Sequence: next, Previous: current.state}, nil
}

// telling decides whether subscribers are told of a change, which state they knew
// before if that is not the one before the change, and which verdict they know after it
// if that is not this one.
func telling(ctx context.Context, tx *sql.Tx, v NewVerdict, current newestVerdict) (told bool, before, known int64, err error) {
	known = current.told
	if v.Quiet {
		if known == 0 {
			known = current.sequence
		}
		return false, 0, known, nil
	}
	if known == 0 {
		return true, 0, 0, nil
	}
	var key string
	err = tx.QueryRowContext(ctx, `SELECT state, change_key FROM verdicts WHERE sequence = $1`, known).Scan(&before, &key)
	if err != nil {
		return false, 0, 0, fmt.Errorf("read what subscribers know: %w", err)
	}
	return key != v.ChangeKey, before, 0, nil
}

func saveEvidence(ctx context.Context, tx *sql.Tx, v NewVerdict, evidence map[string]judgedReport) error {
	if v.Evidence == nil {
		return nil
	}
	if err := writeEvidence(ctx, tx, v.Image, evidence); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE images SET scan_time = $1 WHERE registry = $2 AND repository = $3 AND digest = $4`,
		firstScan(v.Evidence), v.Image.Registry, v.Image.Repository, v.Image.Digest)
	if err != nil {
		return fmt.Errorf("write time of scan: %w", err)
	}
	return nil
}

// keep is the factor that keeps the time of a waiting push, or makes it 0.
func keep(v NewVerdict) int64 {
	if v.KeepPending {
		return 1
	}
	return 0
}

func checkRevision(ctx context.Context, tx *sql.Tx, v NewVerdict) error {
	if v.Revision == AnyRevision {
		return nil
	}
	var revision int64
	if err := tx.QueryRowContext(ctx, `SELECT value FROM counters WHERE name = 'rules'`).Scan(&revision); err != nil {
		return fmt.Errorf("read revision of the rules: %w", err)
	}
	if revision != v.Revision {
		return fmt.Errorf("%w: the rules have changed", ErrConflict)
	}
	return nil
}

type newestVerdict struct {
	sequence  int64
	state     core.State
	changeKey string
	// told is the sequence of the newest one that subscribers were told of; 0 if that is
	// this one.
	told int64
}

func newest(ctx context.Context, tx *sql.Tx, v NewVerdict) (newestVerdict, error) {
	var (
		n     newestVerdict
		state int64
	)
	err := tx.QueryRowContext(ctx, `
		SELECT i.sequence, i.state, COALESCE(v.change_key, ''), i.told_sequence
		FROM images i LEFT JOIN verdicts v ON v.sequence = i.sequence
		WHERE i.registry = $1 AND i.repository = $2 AND i.digest = $3`,
		v.Image.Registry, v.Image.Repository, v.Image.Digest).Scan(&n.sequence, &state, &n.changeKey, &n.told)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return newestVerdict{}, fmt.Errorf("read newest verdict: %w", err)
	}
	n.state = core.State(state)
	return n, nil
}

func saveReportTimes(ctx context.Context, tx *sql.Tx, v NewVerdict) error {
	// What is dated in the future is no evidence. If it is here all the same, or was
	// stored before that was so, it must not outlast the present.
	horizon := v.CreateTime.Add(attest.ClockSkew)
	for digest, signed := range v.ReportTimes {
		if signed.After(horizon) {
			continue
		}
		_, err := tx.ExecContext(ctx, `
			INSERT INTO report_times (registry, repository, digest, sign_time) VALUES ($1, $2, $3, $4)
			ON CONFLICT (registry, repository, digest) DO UPDATE SET sign_time = excluded.sign_time
			WHERE report_times.sign_time < excluded.sign_time OR report_times.sign_time > $5`,
			v.Image.Registry, v.Image.Repository, digest, sqldb.Time(signed), sqldb.Time(horizon))
		if err != nil {
			return fmt.Errorf("save report time: %w", err)
		}
	}
	return nil
}

func saveDocuments(ctx context.Context, tx *sql.Tx, v NewVerdict) error {
	for _, d := range v.Documents {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO documents (digest, body, create_time) VALUES ($1, $2, $3)
			ON CONFLICT (digest) DO NOTHING`, d.Digest, d.Packed, sqldb.Time(v.CreateTime))
		if err != nil {
			return fmt.Errorf("save document %s: %w", d.Digest, err)
		}
	}
	return nil
}

// Document implements Store.
func (s *SQL) Document(ctx context.Context, digest string) (record.Document, error) {
	d := record.Document{Digest: digest}
	err := s.db.QueryRowContext(ctx, `SELECT body FROM documents WHERE digest = $1`, digest).Scan(&d.Packed)
	if errors.Is(err, sql.ErrNoRows) {
		return record.Document{}, ErrNotFound
	}
	if err != nil {
		return record.Document{}, fmt.Errorf("read document: %w", err)
	}
	return d, nil
}

// Documents implements Store.
func (s *SQL) Documents(ctx context.Context, digests []string, limit int64) (map[string]record.Document, error) {
	out := make(map[string]record.Document, len(digests))
	if len(digests) == 0 {
		return out, nil
	}
	var places strings.Builder
	args := make([]any, len(digests))
	for i, d := range digests {
		if args[i] = d; i > 0 {
			places.WriteString(", ")
		}
		fmt.Fprintf(&places, "$%d", i+1)
	}
	rows, err := s.db.QueryContext(ctx, `SELECT digest, body FROM documents WHERE digest IN (`+places.String()+`)`, args...)
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	defer rows.Close()
	for limit > 0 && rows.Next() {
		var d record.Document
		if err := rows.Scan(&d.Digest, &d.Packed); err != nil {
			return nil, fmt.Errorf("read documents: %w", err)
		}
		out[d.Digest] = d
		limit -= int64(len(d.Packed))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	return out, nil
}

// Outbox implements Store.
func (s *SQL) Outbox(ctx context.Context, limit int) ([]OutboxEntry, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT `+recordColumns+`, o.headers, o.told_state FROM outbox o JOIN verdicts v ON v.sequence = o.sequence
		ORDER BY o.sequence LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	defer rows.Close()
	var out []OutboxEntry
	for rows.Next() {
		var (
			e    OutboxEntry
			told int64
			err  error
		)
		if e.Record, err = scanRecord(rows, &e.Headers, &told); err != nil {
			return nil, fmt.Errorf("read outbox: %w", err)
		}
		if told != 0 {
			e.PreviousState = core.State(told)
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	return out, nil
}

// Published implements Store.
func (s *SQL) Published(ctx context.Context, sequence int64) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM outbox WHERE sequence = $1`, sequence); err != nil {
		return fmt.Errorf("clear outbox: %w", err)
	}
	return nil
}

// SaveTrust implements Store.
func (s *SQL) SaveTrust(ctx context.Context, source string, body []byte, fetched time.Time) error {
	_, err := s.db.ExecContext(ctx, `
		INSERT INTO trust_bundles (source, body, fetch_time) VALUES ($1, $2, $3)
		ON CONFLICT (source) DO UPDATE SET body = excluded.body, fetch_time = excluded.fetch_time`,
		source, body, sqldb.Time(fetched))
	if err != nil {
		return fmt.Errorf("save trust bundle: %w", err)
	}
	return nil
}

// LoadTrust implements Store.
func (s *SQL) LoadTrust(ctx context.Context, source string) ([]byte, time.Time, error) {
	var (
		body    []byte
		fetched int64
	)
	err := s.db.QueryRowContext(ctx,
		`SELECT body, fetch_time FROM trust_bundles WHERE source = $1`, source).Scan(&body, &fetched)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, time.Time{}, ErrNotFound
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("load trust bundle: %w", err)
	}
	return body, sqldb.FromTime(fetched), nil
}
