package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// Retry is an image to judge again by itself.
type Retry struct {
	Image imageref.Ref
	// Cause of judging it again.
	Cause Cause
	// Problem is why it could not be done so far; empty if it was not tried.
	Problem  string
	Attempts int
	// NextTime is when it is tried.
	NextTime time.Time
}

// RepositoryCount counts images of one repository.
type RepositoryCount struct {
	// Repository is `registry/repository`.
	Repository string
	Count      int64
}

// ScheduleRetry implements Store.
func (s *SQL) ScheduleRetry(ctx context.Context, r Retry) error {
	return s.db.InTx(ctx, func(tx *sql.Tx) error { return scheduleRetry(ctx, tx, r) })
}

func scheduleRetry(ctx context.Context, tx *sql.Tx, r Retry) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO retries (registry, repository, digest, cause, detail, problem, attempts, next_time)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (registry, repository, digest) DO UPDATE SET cause = excluded.cause, detail = excluded.detail,
			problem = excluded.problem, attempts = excluded.attempts, next_time = excluded.next_time`,
		r.Image.Registry, r.Image.Repository, r.Image.Digest, int64(r.Cause.Kind), core.Truncate(r.Cause.Detail),
		core.Truncate(r.Problem), int64(r.Attempts), sqldb.Time(r.NextTime))
	if err != nil {
		return fmt.Errorf("schedule retry: %w", err)
	}
	return nil
}

// EndRetry implements Store.
func (s *SQL) EndRetry(ctx context.Context, image imageref.Ref) error {
	return s.db.InTx(ctx, func(tx *sql.Tx) error { return endRetry(ctx, tx, image) })
}

func endRetry(ctx context.Context, tx *sql.Tx, image imageref.Ref) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM retries WHERE registry = $1 AND repository = $2 AND digest = $3`,
		image.Registry, image.Repository, image.Digest)
	if err != nil {
		return fmt.Errorf("end retry: %w", err)
	}
	return nil
}

// Retries implements Store.
func (s *SQL) Retries(ctx context.Context, until time.Time, limit int) ([]Retry, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT registry, repository, digest, cause, detail, problem, attempts, next_time FROM retries
		WHERE next_time <= $1 ORDER BY next_time, digest LIMIT $2`, sqldb.Time(until), limit)
	if err != nil {
		return nil, fmt.Errorf("read retries: %w", err)
	}
	defer rows.Close()
	var out []Retry
	for rows.Next() {
		var (
			r                     Retry
			cause, attempts, next int64
		)
		if err := rows.Scan(&r.Image.Registry, &r.Image.Repository, &r.Image.Digest, &cause, &r.Cause.Detail, &r.Problem, &attempts, &next); err != nil {
			return nil, fmt.Errorf("read retries: %w", err)
		}
		r.Cause.Kind, r.Attempts, r.NextTime = core.Cause(cause), int(attempts), sqldb.FromTime(next)
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read retries: %w", err)
	}
	return out, nil
}

// Reevaluations implements Store.
func (s *SQL) Reevaluations(ctx context.Context) ([]Reevaluation, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT revision, cause, detail, digest, registry, repository, repositories FROM reevaluations ORDER BY revision`)
	if err != nil {
		return nil, fmt.Errorf("read re-evaluations: %w", err)
	}
	defer rows.Close()
	var out []Reevaluation
	for rows.Next() {
		r, err := scanReevaluation(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read re-evaluations: %w", err)
	}
	return out, nil
}

// JudgedIn implements Store.
func (s *SQL) JudgedIn(ctx context.Context, after imageref.Ref) ([]RepositoryCount, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT registry, repository, COUNT(*) FROM images
		WHERE (digest, registry, repository) > ($1, $2, $3) AND sequence > 0
		GROUP BY registry, repository ORDER BY registry, repository`, after.Digest, after.Registry, after.Repository)
	if err != nil {
		return nil, fmt.Errorf("count images: %w", err)
	}
	defer rows.Close()
	var out []RepositoryCount
	for rows.Next() {
		var i imageref.Ref
		var n int64
		if err := rows.Scan(&i.Registry, &i.Repository, &n); err != nil {
			return nil, fmt.Errorf("count images: %w", err)
		}
		out = append(out, RepositoryCount{Repository: i.Name(), Count: n})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count images: %w", err)
	}
	return out, nil
}
