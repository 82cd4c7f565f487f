package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// TagScan is the newest scan of a tag.
type TagScan struct {
	ID string
	// Digest is empty while the tag is not resolved.
	Digest     string
	State      State
	CreateTime time.Time
}

// Absence is an image that its registry does not have any more.
type Absence struct {
	// First is when the registry first said so, Told when everybody was told; zero
	// before.
	First, Told time.Time
}

// TagScans implements Store.
func (s *SQL) TagScans(ctx context.Context, repository imageref.Ref, tags []string) (map[string]TagScan, error) {
	out := make(map[string]TagScan, len(tags))
	for batch := range slices.Chunk(tags, keyBatch) {
		err := s.inRepository(ctx, repository, batch, `SELECT tag, id, digest, state, create_time FROM scans s
			WHERE registry = $1 AND repository = $2 AND tag IN (%s) AND NOT EXISTS (SELECT 1 FROM scans n
				WHERE n.registry = s.registry AND n.repository = s.repository AND n.tag = s.tag
				AND (n.create_time > s.create_time OR n.create_time = s.create_time AND n.id > s.id))`,
			func(rows *sql.Rows) error {
				var tag string
				var t TagScan
				var created int64
				err := rows.Scan(&tag, &t.ID, &t.Digest, &t.State, &created)
				t.CreateTime = sqldb.FromTime(created)
				out[tag] = t
				return err
			})
		if err != nil {
			return nil, fmt.Errorf("find scans of tags: %w", err)
		}
	}
	return out, nil
}

// Absences implements Store.
func (s *SQL) Absences(ctx context.Context, repository imageref.Ref, digests []string) (map[string]Absence, error) {
	out := map[string]Absence{}
	for batch := range slices.Chunk(digests, keyBatch) {
		err := s.inRepository(ctx, repository, batch, `SELECT digest, first_time, told_time FROM absences
			WHERE registry = $1 AND repository = $2 AND digest IN (%s)`,
			func(rows *sql.Rows) error {
				var digest string
				var first, told int64
				err := rows.Scan(&digest, &first, &told)
				out[digest] = Absence{First: sqldb.FromTime(first), Told: sqldb.FromTime(told)}
				return err
			})
		if err != nil {
			return nil, fmt.Errorf("read absences: %w", err)
		}
	}
	return out, nil
}

// inRepository runs a query with a place for a list of values.
func (s *SQL) inRepository(ctx context.Context, repository imageref.Ref, values []string, query string, scan func(*sql.Rows) error) error {
	args := []any{repository.Registry, repository.Repository}
	var places []string
	for _, v := range values {
		args = append(args, v)
		places = append(places, place(len(args)))
	}
	rows, err := s.db.QueryContext(ctx, fmt.Sprintf(query, strings.Join(places, ", ")), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// SetAbsence implements Store.
func (s *SQL) SetAbsence(ctx context.Context, image imageref.Ref, a Absence) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO absences (registry, repository, digest, first_time, told_time) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (registry, repository, digest) DO UPDATE SET first_time = excluded.first_time, told_time = excluded.told_time`,
		image.Registry, image.Repository, image.Digest, sqldb.Time(a.First), sqldb.Time(a.Told))
	if err != nil {
		return fmt.Errorf("set absence: %w", err)
	}
	return nil
}

// ClearAbsence implements Store.
func (s *SQL) ClearAbsence(ctx context.Context, image imageref.Ref) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM absences WHERE registry = $1 AND repository = $2 AND digest = $3`,
		image.Registry, image.Repository, image.Digest)
	if err != nil {
		return fmt.Errorf("clear absence: %w", err)
	}
	return nil
}

// ScannedDigests implements Store.
func (s *SQL) ScannedDigests(ctx context.Context, repository imageref.Ref, after string, n int) ([]string, error) {
	return s.column(ctx, `SELECT DISTINCT digest FROM scans WHERE registry = $1 AND repository = $2 AND digest > $3 AND state = $4
		AND NOT EXISTS (SELECT 1 FROM absences a WHERE a.registry = scans.registry AND a.repository = scans.repository
			AND a.digest = scans.digest AND a.told_time > 0)
		ORDER BY digest LIMIT $5`, repository.Registry, repository.Repository, after, int64(Succeeded), int64(n))
}

// ScannedRepositories implements Store.
func (s *SQL) ScannedRepositories(ctx context.Context, registry string, n int) ([]string, error) {
	return s.column(ctx, `SELECT DISTINCT repository FROM scans WHERE registry = $1 ORDER BY repository LIMIT $2`, registry, int64(n))
}

func (s *SQL) column(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("find scans: %w", err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, fmt.Errorf("find scans: %w", err)
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// Reconciled implements Store.
func (s *SQL) Reconciled(ctx context.Context, registry string) (time.Time, error) {
	var end int64
	err := s.db.QueryRowContext(ctx, `SELECT end_time FROM reconciliations WHERE registry = $1`, registry).Scan(&end)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, fmt.Errorf("read reconciliation: %w", err)
	}
	return sqldb.FromTime(end), nil
}

// SetReconciled implements Store.
func (s *SQL) SetReconciled(ctx context.Context, registry string, end time.Time) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO reconciliations (registry, end_time) VALUES ($1, $2)
		ON CONFLICT (registry) DO UPDATE SET end_time = excluded.end_time`, registry, sqldb.Time(end))
	if err != nil {
		return fmt.Errorf("set reconciliation: %w", err)
	}
	return nil
}
