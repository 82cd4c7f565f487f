package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// SQL keeps deliveries in SQLite or PostgreSQL: one text for both.
type SQL struct{ db *sqldb.DB }

// New returns a store on a database whose migrations are applied.
func New(db *sqldb.DB) *SQL { return &SQL{db: db} }

var _ Store = (*SQL)(nil)

const columns = `delivery_id, event_id, subscription, image_digest, trace_id, traceparent,
	event, event_stream, event_sequence, state, attempts, step, next_attempt_at,
	lease_token, last_error, last_status, give_up_reason, created_at`

func scan(rows *sql.Rows) ([]Delivery, error) {
	defer rows.Close()
	var out []Delivery
	for rows.Next() {
		var d Delivery
		var sequence, next, created int64
		if err := rows.Scan(&d.ID, &d.EventID, &d.Subscription, &d.ImageDigest, &d.TraceID, &d.Traceparent,
			&d.Event, &d.EventStream, &sequence, &d.State, &d.Attempts, &d.Step, &next,
			&d.LeaseToken, &d.LastError, &d.LastStatus, &d.GiveUpReason, &created); err != nil {
			return nil, err
		}
		d.EventSequence = uint64(sequence)
		d.NextAttempt, d.CreateTime = sqldb.FromTime(next), sqldb.FromTime(created)
		out = append(out, d)
	}
	return out, rows.Err()
}

// Add implements Store.
func (s *SQL) Add(ctx context.Context, deliveries []Delivery) (int, error) {
	added := 0
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		added = 0
		for _, d := range deliveries {
			result, err := tx.ExecContext(ctx, `INSERT INTO deliveries (delivery_id, event_id, subscription,
				image_digest, trace_id, traceparent, event, event_stream, event_sequence, state, attempts, step,
				next_attempt_at, last_error, give_up_reason, created_at, updated_at)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, $11, $12, $13, $14, $14)
				ON CONFLICT DO NOTHING`,
				d.ID, d.EventID, d.Subscription, d.ImageDigest, d.TraceID, d.Traceparent, d.Event,
				d.EventStream, int64(d.EventSequence), int64(d.State), sqldb.Time(d.NextAttempt),
				d.LastError, d.GiveUpReason, sqldb.Time(d.CreateTime))
			n, err := affected(result, err)
			if err != nil {
				return err
			}
			added += n
		}
		return nil
	})
	return added, wrap("add deliveries", err)
}

// Claim implements Store. Two claims at once cannot take the same row: the second
// waits for the first and then finds the lease taken, because the condition is
// repeated outside the subquery.
func (s *SQL) Claim(ctx context.Context, subscription string, now time.Time, lease time.Duration, token string, limit int) ([]Delivery, error) {
	rows, err := s.db.QueryContext(ctx, `UPDATE deliveries SET lease_until = $1, lease_token = $2
		WHERE delivery_id IN (
			SELECT delivery_id FROM deliveries
			WHERE subscription = $3 AND state = 1 AND next_attempt_at <= $4 AND lease_until <= $4
			ORDER BY next_attempt_at, delivery_id LIMIT $5)
		AND state = 1 AND next_attempt_at <= $4 AND lease_until <= $4
		RETURNING `+columns,
		sqldb.Time(now.Add(lease)), token, subscription, sqldb.Time(now), limit)
	if err != nil {
		return nil, wrap("claim deliveries", err)
	}
	out, err := scan(rows)
	return out, wrap("claim deliveries", err)
}

// Finish implements Store.
func (s *SQL) Finish(ctx context.Context, d Delivery, now time.Time, a Attempt) error {
	n, err := affected(s.db.ExecContext(ctx, `UPDATE deliveries SET state = $1, attempts = attempts + 1, step = step + 1,
		next_attempt_at = $2, last_error = $3, last_status = $4, give_up_reason = $5, dead_lettered = 0,
		lease_until = 0, lease_token = '', updated_at = $6
		WHERE delivery_id = $7 AND lease_token = $8 AND state = 1`,
		int64(a.State), sqldb.Time(a.NextAttempt), a.Error, a.Status, a.GiveUpReason, sqldb.Time(now), d.ID, d.LeaseToken))
	if err == nil && n == 0 {
		return ErrLeaseLost
	}
	return wrap("finish delivery", err)
}

// Release implements Store.
func (s *SQL) Release(ctx context.Context, d Delivery) error {
	_, err := s.db.ExecContext(ctx, `UPDATE deliveries SET lease_until = 0, lease_token = ''
		WHERE delivery_id = $1 AND lease_token = $2 AND state = 1`, d.ID, d.LeaseToken)
	return wrap("release delivery", err)
}

// DueSubscriptions implements Store.
func (s *SQL) DueSubscriptions(ctx context.Context, now time.Time) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT DISTINCT subscription FROM deliveries
		WHERE state = 1 AND next_attempt_at <= $1 AND lease_until <= $1 ORDER BY subscription`, sqldb.Time(now))
	if err != nil {
		return nil, wrap("due subscriptions", err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, wrap("due subscriptions", err)
		}
		out = append(out, name)
	}
	return out, wrap("due subscriptions", rows.Err())
}

// List implements Store.
func (s *SQL) List(ctx context.Context, q Query) ([]Delivery, error) {
	var where []string
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	if q.Subscription != "" {
		where = append(where, "subscription = "+arg(q.Subscription))
	}
	if q.State != 0 {
		where = append(where, "state = "+arg(int64(q.State)))
	}
	if q.ImageDigest != "" {
		where = append(where, "image_digest = "+arg(q.ImageDigest))
	}
	if q.After.ID != "" {
		at := arg(sqldb.Time(q.After.CreateTime))
		where = append(where, fmt.Sprintf("(created_at, delivery_id) < (%s, %s)", at, arg(q.After.ID)))
	}
	query := "SELECT " + columns + " FROM deliveries"
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	query += " ORDER BY created_at DESC, delivery_id DESC LIMIT " + arg(q.Limit)
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, wrap("list deliveries", err)
	}
	out, err := scan(rows)
	return out, wrap("list deliveries", err)
}

func affected(result sql.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// list returns "$from, $from+1, …" for the values and the values as arguments.
func list(from int, values []string) (string, []any) {
	marks := make([]string, len(values))
	args := make([]any, len(values))
	for i, v := range values {
		marks[i], args[i] = "$"+strconv.Itoa(from+i), v
	}
	return strings.Join(marks, ", "), args
}
