package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// Audit is a change by hand, to be told to whoever keeps records.
type Audit struct {
	// ID is the identity of the event.
	ID   string
	Time time.Time
	// Actor is a SPIFFE ID.
	Actor string
	// Action is the full name of the RPC, or what else changed something.
	Action string
	// Resource is what it was done to; the store sets it.
	Resource string
	// Headers carry the trace context.
	Headers string
}

// ruleChange is what a change of the rules did.
type ruleChange struct {
	changed bool
	cause   Cause
	// repositories are globs of the images to judge again; none is all.
	repositories []string
	audits       []Audit
}

// commitRules does a change, orders the images to be judged again and notes who did
// it, all or nothing. It takes the lock of Save first: a verdict that is stored after
// the change was made by it.
func (s *SQL) commitRules(ctx context.Context, change func(tx *sql.Tx) (ruleChange, error)) error {
	return s.db.InTx(ctx, func(tx *sql.Tx) error {
		var last, revision int64
		err := tx.QueryRowContext(ctx, `UPDATE counters SET value = value WHERE name = 'verdict' RETURNING value`).Scan(&last)
		if err != nil {
			return fmt.Errorf("lock verdicts: %w", err)
		}
		c, err := change(tx)
		if err != nil || !c.changed {
			return err
		}
		err = tx.QueryRowContext(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'rules' RETURNING value`).Scan(&revision)
		if err != nil {
			return fmt.Errorf("raise revision of the rules: %w", err)
		}
		globs := ""
		if len(c.repositories) > 0 {
			b, err := json.Marshal(c.repositories)
			if err != nil {
				return err
			}
			globs = string(b)
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO reevaluations (revision, cause, detail, digest, registry, repository, repositories)
			VALUES ($1, $2, $3, '', '', '', $4)`, revision, int64(c.cause.Kind), core.Truncate(c.cause.Detail), globs)
		if err != nil {
			return fmt.Errorf("order re-evaluation: %w", err)
		}
		for _, a := range c.audits {
			_, err := tx.ExecContext(ctx, `
				INSERT INTO audit_outbox (id, create_time, actor, action, resource, headers) VALUES ($1, $2, $3, $4, $5, $6)`,
				a.ID, sqldb.Time(a.Time), a.Actor, a.Action, a.Resource, a.Headers)
			if err != nil {
				return fmt.Errorf("note who did it: %w", err)
			}
		}
		return nil
	})
}

// changeRules is commitRules for a change that concerns all images. change returns what
// it was done to; nothing was changed if that is nothing.
func (s *SQL) changeRules(ctx context.Context, cause Cause, by Audit, change func(tx *sql.Tx) (resources []string, err error)) error {
	return s.commitRules(ctx, func(tx *sql.Tx) (ruleChange, error) {
		resources, err := change(tx)
		return ruleChange{changed: len(resources) > 0, cause: cause, audits: by.of(resources)}, err
	})
}

// of are the audits of one change to several resources.
func (a Audit) of(resources []string) []Audit {
	out := make([]Audit, len(resources))
	for i, r := range resources {
		out[i] = a
		out[i].Resource = r
		if len(resources) > 1 {
			out[i].ID += "/" + strconv.Itoa(i)
		}
	}
	return out
}

// Audits implements Store.
func (s *SQL) Audits(ctx context.Context, limit int) ([]Audit, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT id, create_time, actor, action, resource, headers FROM audit_outbox ORDER BY create_time, id LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("read audit outbox: %w", err)
	}
	defer rows.Close()
	var out []Audit
	for rows.Next() {
		var (
			a  Audit
			at int64
		)
		if err := rows.Scan(&a.ID, &at, &a.Actor, &a.Action, &a.Resource, &a.Headers); err != nil {
			return nil, fmt.Errorf("read audit outbox: %w", err)
		}
		a.Time = sqldb.FromTime(at)
		out = append(out, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read audit outbox: %w", err)
	}
	return out, nil
}

// AuditPublished implements Store.
func (s *SQL) AuditPublished(ctx context.Context, id string) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM audit_outbox WHERE id = $1`, id); err != nil {
		return fmt.Errorf("clear audit outbox: %w", err)
	}
	return nil
}
