package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

const (
	selectPolicies = `SELECT v.name, v.version, v.from_file, v.deleted, v.request_id, v.actor, v.create_time, v.digest, v.document, v.repositories
		FROM policy_versions v`
	inForce = ` JOIN policies p ON p.name = v.name AND p.version = v.version`
)

func scanPolicy(r row) (Policy, error) {
	var (
		p                          Policy
		fromFile, deleted, created int64
		globs                      string
	)
	err := r.Scan(&p.Name, &p.Version, &fromFile, &deleted, &p.RequestID, &p.Actor, &created, &p.Digest, &p.Document, &globs)
	if err != nil {
		return Policy{}, err
	}
	p.FromFile, p.Deleted, p.CreateTime = fromFile != 0, deleted != 0, sqldb.FromTime(created)
	if err := json.Unmarshal([]byte(globs), &p.Repositories); err != nil {
		return Policy{}, fmt.Errorf("globs of %s v%d: %w", p.Name, p.Version, err)
	}
	return p, nil
}

func listPolicies(ctx context.Context, q querier, query string, args ...any) ([]Policy, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Policy
	for rows.Next() {
		p, err := scanPolicy(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, rows.Err()
}

// Policies implements Store.
func (s *SQL) Policies(ctx context.Context, after string, limit int) ([]Policy, error) {
	out, err := listPolicies(ctx, s.db, selectPolicies+inForce+` WHERE v.name > $1 ORDER BY v.name LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	return out, nil
}

// PolicyVersions implements Store.
func (s *SQL) PolicyVersions(ctx context.Context, name string, before int64, limit int) ([]Policy, error) {
	out, err := listPolicies(ctx, s.db, selectPolicies+` WHERE v.name = $1 AND (v.version < $2 OR $2 = 0) ORDER BY v.version DESC LIMIT $3`,
		name, before, limit)
	if err != nil {
		return nil, fmt.Errorf("list versions of policy: %w", err)
	}
	return out, nil
}

type rowQuerier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func policyInForce(ctx context.Context, q rowQuerier, name string) (Policy, error) {
	p, err := scanPolicy(q.QueryRowContext(ctx, selectPolicies+inForce+` WHERE v.name = $1`, name))
	if errors.Is(err, sql.ErrNoRows) {
		return Policy{}, ErrNotFound
	}
	return p, err
}

// Policy implements Store.
func (s *SQL) Policy(ctx context.Context, name string, version int64) (Policy, error) {
	if version == 0 {
		p, err := policyInForce(ctx, s.db, name)
		if err != nil {
			return Policy{}, fmt.Errorf("read policy: %w", err)
		}
		return p, nil
	}
	p, err := scanPolicy(s.db.QueryRowContext(ctx, selectPolicies+` WHERE v.name = $1 AND v.version = $2`, name, version))
	if errors.Is(err, sql.ErrNoRows) {
		return Policy{}, ErrNotFound
	}
	if err != nil {
		return Policy{}, fmt.Errorf("read policy: %w", err)
	}
	return p, nil
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
