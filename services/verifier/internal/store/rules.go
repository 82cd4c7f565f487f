package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// Errors of changes to the rules.
var (
	// ErrExists says that the name is taken.
	ErrExists = errors.New("the name is taken")
	// ErrFromFile says that only a file can change it.
	ErrFromFile = errors.New("it comes from a file")
	// ErrTooMany says that there are as many as there may be.
	ErrTooMany = errors.New("there are too many")
)

// Exception is a stored exception.
type Exception struct {
	Name       string
	FromFile   bool
	RequestID  string
	CreateTime time.Time
	// Body is the exception as the caller encoded it.
	Body []byte
}

// deleted is what is said of a resource that is gone.
const deleted = " (deleted)"

func (e Exception) resource() string { return "exception " + e.Name }

// Reevaluation is the work of judging images again after a change of the rules.
type Reevaluation struct {
	// Revision of the rules that made it necessary.
	Revision int64
	Cause    Cause
	// After is the image that the work has come to.
	After imageref.Ref
	// Repositories are globs of the images to judge; none is all.
	Repositories []string
}

// RulesRevision implements Store.
func (s *SQL) RulesRevision(ctx context.Context) (int64, error) {
	var n int64
	if err := s.db.QueryRowContext(ctx, `SELECT value FROM counters WHERE name = 'rules'`).Scan(&n); err != nil {
		return 0, fmt.Errorf("read revision of the rules: %w", err)
	}
	return n, nil
}

// CreateException implements Store.
func (s *SQL) CreateException(ctx context.Context, e Exception, limit int, cause Cause, by Audit) (Exception, error) {
	out := e
	err := s.changeRules(ctx, cause, by, func(tx *sql.Tx) ([]string, error) {
		there, err := scanException(tx.QueryRowContext(ctx, selectExceptions+` WHERE name = $1`, e.Name))
		switch {
		case err == nil && e.RequestID != "" && there.RequestID == e.RequestID:
			out = there
			return nil, nil
		case err == nil:
			return nil, ErrExists
		case !errors.Is(err, sql.ErrNoRows):
			return nil, err
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM exceptions`).Scan(&n); err != nil {
			return nil, err
		}
		if n >= limit {
			return nil, ErrTooMany
		}
		out = e
		return []string{e.resource()}, insertException(ctx, tx, e)
	})
	if err != nil {
		return Exception{}, fmt.Errorf("create exception: %w", err)
	}
	return out, nil
}

func insertException(ctx context.Context, tx *sql.Tx, e Exception) error {
	fromFile := 0
	if e.FromFile {
		fromFile = 1
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO exceptions (name, from_file, request_id, create_time, body) VALUES ($1, $2, $3, $4, $5)`,
		e.Name, fromFile, e.RequestID, sqldb.Time(e.CreateTime), e.Body)
	return err
}

// DeleteException implements Store.
func (s *SQL) DeleteException(ctx context.Context, name string, cause Cause, by Audit) error {
	err := s.changeRules(ctx, cause, by, func(tx *sql.Tx) ([]string, error) {
		e, err := scanException(tx.QueryRowContext(ctx, selectExceptions+` WHERE name = $1`, name))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil, ErrNotFound
		case err != nil:
			return nil, err
		case e.FromFile:
			return nil, ErrFromFile
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM exceptions WHERE name = $1`, name)
		return []string{e.resource() + deleted}, err
	})
	if err != nil {
		return fmt.Errorf("delete exception: %w", err)
	}
	return nil
}

// SyncExceptions implements Store.
func (s *SQL) SyncExceptions(ctx context.Context, fromFiles []Exception, cause Cause, by Audit) error {
	err := s.changeRules(ctx, cause, by, func(tx *sql.Tx) ([]string, error) {
		there, err := listExceptions(ctx, tx, selectExceptions+` WHERE from_file = 1 ORDER BY name`)
		if err != nil {
			return nil, err
		}
		var changed []string
		for _, old := range there {
			if slices.ContainsFunc(fromFiles, func(e Exception) bool { return e.Name == old.Name && slices.Equal(e.Body, old.Body) }) {
				continue
			}
			changed = append(changed, old.resource()+deleted)
			if _, err := tx.ExecContext(ctx, `DELETE FROM exceptions WHERE name = $1`, old.Name); err != nil {
				return nil, err
			}
		}
		for _, e := range fromFiles {
			if slices.ContainsFunc(there, func(old Exception) bool { return e.Name == old.Name && slices.Equal(e.Body, old.Body) }) {
				continue
			}
			var taken int
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM exceptions WHERE name = $1`, e.Name).Scan(&taken); err != nil {
				return nil, err
			}
			if taken > 0 {
				return nil, fmt.Errorf("%w: %s was created through the API; delete it there or rename the one in the file", ErrExists, e.Name)
			}
			changed = append(changed, e.resource())
			if err := insertException(ctx, tx, e); err != nil {
				return nil, err
			}
		}
		return changed, nil
	})
	if err != nil {
		return fmt.Errorf("take over exceptions of files: %w", err)
	}
	return nil
}

const selectExceptions = `SELECT name, from_file, request_id, create_time, body FROM exceptions`

func scanException(r row) (Exception, error) {
	var (
		e        Exception
		fromFile int64
		created  int64
	)
	if err := r.Scan(&e.Name, &fromFile, &e.RequestID, &created, &e.Body); err != nil {
		return Exception{}, err
	}
	e.FromFile, e.CreateTime = fromFile != 0, sqldb.FromTime(created)
	return e, nil
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func listExceptions(ctx context.Context, q querier, query string, args ...any) ([]Exception, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Exception
	for rows.Next() {
		e, err := scanException(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

// Exceptions implements Store.
func (s *SQL) Exceptions(ctx context.Context, after string, limit int) ([]Exception, error) {
	out, err := listExceptions(ctx, s.db, selectExceptions+` WHERE name > $1 ORDER BY name LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list exceptions: %w", err)
	}
	return out, nil
}

// Exception implements Store.
func (s *SQL) Exception(ctx context.Context, name string) (Exception, error) {
	e, err := scanException(s.db.QueryRowContext(ctx, selectExceptions+` WHERE name = $1`, name))
	if errors.Is(err, sql.ErrNoRows) {
		return Exception{}, ErrNotFound
	}
	if err != nil {
		return Exception{}, fmt.Errorf("read exception: %w", err)
	}
	return e, nil
}

// NextReevaluation implements Store.
func (s *SQL) NextReevaluation(ctx context.Context) (Reevaluation, error) {
	return scanReevaluation(s.db.QueryRowContext(ctx, `
		SELECT revision, cause, detail, digest, registry, repository, repositories FROM reevaluations ORDER BY revision LIMIT 1`))
}

func scanReevaluation(from row) (Reevaluation, error) {
	var (
		r     Reevaluation
		cause int64
		globs string
	)
	err := from.Scan(&r.Revision, &cause, &r.Cause.Detail, &r.After.Digest, &r.After.Registry, &r.After.Repository, &globs)
	if errors.Is(err, sql.ErrNoRows) {
		return Reevaluation{}, ErrNotFound
	}
	if err != nil {
		return Reevaluation{}, fmt.Errorf("read re-evaluation: %w", err)
	}
	r.Cause.Kind = core.Cause(cause)
	if globs != "" {
		if err := json.Unmarshal([]byte(globs), &r.Repositories); err != nil {
			return Reevaluation{}, fmt.Errorf("globs of re-evaluation %d: %w", r.Revision, err)
		}
	}
	return r, nil
}

// AdvanceReevaluation implements Store.
func (s *SQL) AdvanceReevaluation(ctx context.Context, r Reevaluation, done bool) error {
	query, args := `DELETE FROM reevaluations WHERE revision = $1`, []any{r.Revision}
	if !done {
		query = `UPDATE reevaluations SET digest = $2, registry = $3, repository = $4 WHERE revision = $1`
		args = append(args, r.After.Digest, r.After.Registry, r.After.Repository)
	}
	if _, err := s.db.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("advance re-evaluation: %w", err)
	}
	return nil
}

// JudgedAfter implements Store.
func (s *SQL) JudgedAfter(ctx context.Context, after imageref.Ref, limit int) ([]imageref.Ref, error) {
	return s.refs(ctx, `
		SELECT registry, repository, digest FROM images
		WHERE (digest, registry, repository) > ($1, $2, $3) AND sequence > 0
		ORDER BY digest, registry, repository LIMIT $4`, after.Digest, after.Registry, after.Repository, limit)
}

// Expired implements Store.
func (s *SQL) Expired(ctx context.Context, now time.Time, after imageref.Ref, limit int) ([]imageref.Ref, error) {
	return s.refs(ctx, `
		SELECT registry, repository, digest FROM images
		WHERE (digest, registry, repository) > ($1, $2, $3) AND expire_time > 0 AND expire_time <= $4
		ORDER BY digest, registry, repository LIMIT $5`,
		after.Digest, after.Registry, after.Repository, sqldb.Time(now), limit)
}

func (s *SQL) refs(ctx context.Context, query string, args ...any) ([]imageref.Ref, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	defer rows.Close()
	var out []imageref.Ref
	for rows.Next() {
		var r imageref.Ref
		if err := rows.Scan(&r.Registry, &r.Repository, &r.Digest); err != nil {
			return nil, fmt.Errorf("list images: %w", err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return out, nil
}

// Lease implements Store.
func (s *SQL) Lease(ctx context.Context, name, holder string, now time.Time, d time.Duration) (bool, error) {
	var got string
	err := s.db.QueryRowContext(ctx, `
		INSERT INTO leases (name, holder, expire_time) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expire_time = excluded.expire_time
		WHERE leases.holder = excluded.holder OR leases.expire_time <= $4
		RETURNING holder`, name, holder, sqldb.Time(now.Add(d)), sqldb.Time(now)).Scan(&got)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take lease %s: %w", name, err)
	}
	return true, nil
}
