package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// SQL is the Store over database/sql.
type SQL struct {
	db *sqldb.DB
	// saving lets verdicts of this process be stored one after the other: they all
	// take the same row, and waiting here is cheaper than a transaction that the
	// database sends back.
	saving chan struct{}
}

var _ Store = (*SQL)(nil)

// New returns the store of a migrated database.
func New(db *sqldb.DB) *SQL { return &SQL{db: db, saving: make(chan struct{}, 1)} }

// RecordPush implements Store.
func (s *SQL) RecordPush(ctx context.Context, image imageref.Ref, pushed time.Time) error {
	_, err := s.db.ExecContext(ctx, `
		INSERT INTO images (registry, repository, digest, sequence, state, verdict_time, expire_time, pending_time)
		VALUES ($1, $2, $3, 0, 0, 0, 0, $4)
		ON CONFLICT (registry, repository, digest) DO UPDATE SET pending_time = excluded.pending_time
		WHERE images.verdict_time < excluded.pending_time AND images.pending_time < excluded.pending_time`,
		image.Registry, image.Repository, image.Digest, sqldb.Time(pushed))
	if err != nil {
		return fmt.Errorf("record push: %w", err)
	}
	return nil
}

// RecordTag implements Store.
func (s *SQL) RecordTag(ctx context.Context, image imageref.Ref, asked time.Time) error {
	_, err := s.db.ExecContext(ctx, `
		INSERT INTO tags (registry, repository, tag, digest, push_time, problem) VALUES ($1, $2, $3, $4, $5, '')
		ON CONFLICT (registry, repository, tag) DO UPDATE
		SET digest = excluded.digest, push_time = excluded.push_time, problem = ''
		WHERE tags.push_time < excluded.push_time`,
		image.Registry, image.Repository, image.Tag, image.Digest, sqldb.Time(asked))
	if err != nil {
		return fmt.Errorf("record tag: %w", err)
	}
	return nil
}

// FailTag implements Store.
func (s *SQL) FailTag(ctx context.Context, image imageref.Ref, problem string, failed time.Time) error {
	_, err := s.db.ExecContext(ctx, `
		INSERT INTO tags (registry, repository, tag, digest, push_time, problem) VALUES ($1, $2, $3, '', $5, $4)
		ON CONFLICT (registry, repository, tag) DO UPDATE SET problem = excluded.problem
		WHERE tags.digest = ''`,
		image.Registry, image.Repository, image.Tag, problem, sqldb.Time(failed))
	if err != nil {
		return fmt.Errorf("record problem of a tag: %w", err)
	}
	return nil
}

// recordColumns are the columns that scanRecord reads, of verdicts as v.
const recordColumns = `v.sequence, v.registry, v.repository, v.digest, v.state, v.previous_state,
	v.verdict_digest, v.trace_id, v.create_time, v.body, v.cause, v.cause_detail,
	COALESCE((SELECT n.overdue_time FROM images n WHERE n.sequence = v.sequence), 0)`

type row interface{ Scan(dest ...any) error }

func scanRecord(r row, more ...any) (Record, error) {
	var (
		rec         Record
		created     int64
		state, prev int64
		cause       int64
		overdue     int64
	)
	dest := []any{
		&rec.Sequence, &rec.Image.Registry, &rec.Image.Repository, &rec.Image.Digest,
		&state, &prev, &rec.Digest, &rec.TraceID, &created, &rec.Body, &cause, &rec.Cause.Detail, &overdue,
	}
	if err := r.Scan(append(dest, more...)...); err != nil {
		return Record{}, err
	}
	rec.State, rec.PreviousState = core.State(state), core.State(prev)
	rec.CreateTime, rec.Cause.Kind, rec.OverdueTime = sqldb.FromTime(created), core.Cause(cause), sqldb.FromTime(overdue)
	return rec, nil
}

// Settle implements Store.
func (s *SQL) Settle(ctx context.Context, image imageref.Ref) error {
	_, err := s.db.ExecContext(ctx, `
		UPDATE images SET pending_time = 0 WHERE registry = $1 AND repository = $2 AND digest = $3`,
		image.Registry, image.Repository, image.Digest)
	if err != nil {
		return fmt.Errorf("settle image: %w", err)
	}
	return nil
}

// List implements Store.
func (s *SQL) List(ctx context.Context, q ListQuery) ([]Record, error) {
	var (
		where strings.Builder
		args  []any
	)
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	where.WriteString(`i.sequence > 0`)
	if q.Before > 0 {
		where.WriteString(` AND i.sequence < ` + arg(q.Before))
	}
	if q.State != core.StateUnspecified {
		where.WriteString(` AND CASE WHEN ` + endOf + ` > 0 AND ` + endOf + ` <= ` + arg(sqldb.Time(q.Now)) +
			` THEN 3 ELSE i.state END = ` + arg(int64(q.State)))
	}
	if q.Repository != "" {
		registry, repository, _ := strings.Cut(q.Repository, "/")
		where.WriteString(` AND i.registry = ` + arg(registry) + ` AND i.repository = ` + arg(repository))
	}
	return s.records(ctx, `
		SELECT `+recordColumns+` FROM images i JOIN verdicts v ON v.sequence = i.sequence
		WHERE `+where.String()+` ORDER BY i.sequence DESC LIMIT `+arg(q.Limit), args...)
}

// Changes implements Store.
func (s *SQL) Changes(ctx context.Context, after int64, limit int) ([]Record, error) {
	return s.records(ctx, `
		SELECT `+recordColumns+` FROM verdicts v WHERE v.sequence > $1 ORDER BY v.sequence LIMIT $2`, after, limit)
}

// History implements Store.
func (s *SQL) History(ctx context.Context, image imageref.Ref, before int64, limit int) ([]Record, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	where, args := `v.digest = $1 AND v.sequence < $2`, []any{image.Digest, before, limit}
	if image.Registry != "" || image.Repository != "" {
		where += ` AND v.registry = $4 AND v.repository = $5`
		args = append(args, image.Registry, image.Repository)
	}
	return s.records(ctx, `
		SELECT `+recordColumns+` FROM verdicts v WHERE `+where+` ORDER BY v.sequence DESC LIMIT $3`, args...)
}

// Verdict implements Store.
func (s *SQL) Verdict(ctx context.Context, verdictDigest string) (Record, error) {
	all, err := s.records(ctx, `
		SELECT `+recordColumns+` FROM verdicts v WHERE v.verdict_digest = $1
		ORDER BY v.sequence DESC LIMIT 1`, verdictDigest)
	if err != nil {
		return Record{}, err
	}
	if len(all) == 0 {
		return Record{}, ErrNotFound
	}
	return all[0], nil
}

func (s *SQL) records(ctx context.Context, query string, args ...any) ([]Record, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read verdicts: %w", err)
	}
	defer rows.Close()
	var out []Record
	for rows.Next() {
		rec, err := scanRecord(rows)
		if err != nil {
			return nil, fmt.Errorf("read verdicts: %w", err)
		}
		out = append(out, rec)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read verdicts: %w", err)
	}
	return out, nil
}

// LastSequence implements Store.
func (s *SQL) LastSequence(ctx context.Context) (int64, error) {
	var n int64
	if err := s.db.QueryRowContext(ctx, `SELECT value FROM counters WHERE name = 'verdict'`).Scan(&n); err != nil {
		return 0, fmt.Errorf("read sequence: %w", err)
	}
	return n, nil
}

// ReportTimes implements Store.
func (s *SQL) ReportTimes(ctx context.Context, image imageref.Ref, digests []string) (map[string]time.Time, error) {
	out := make(map[string]time.Time, len(digests))
	for _, d := range digests {
		var signed int64
		err := s.db.QueryRowContext(ctx, `
			SELECT sign_time FROM report_times WHERE registry = $1 AND repository = $2 AND digest = $3`,
			image.Registry, image.Repository, d).Scan(&signed)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read report times: %w", err)
		}
		out[d] = sqldb.FromTime(signed)
	}
	return out, nil
}
