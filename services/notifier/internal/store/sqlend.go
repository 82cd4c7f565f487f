package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// restart is what makes a delivery due again from the start of the schedule.
const restart = `UPDATE deliveries SET state = 1, step = 0, next_attempt_at = $1, lease_until = 0,
	lease_token = '', give_up_reason = '', dead_lettered = 0, updated_at = $1 `

// Redeliver implements Store.
func (s *SQL) Redeliver(ctx context.Context, ids []string, now time.Time) (int, error) {
	if len(ids) == 0 {
		return 0, nil
	}
	at := sqldb.Time(now)
	total := 0
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		marks, args := list(1, ids)
		// The update takes the rows' locks: none of them is purged meanwhile.
		var err error
		total, err = affected(tx.ExecContext(ctx, `UPDATE deliveries SET updated_at = updated_at WHERE delivery_id IN (`+marks+`)`, args...))
		if err != nil {
			return err
		}
		if total != len(ids) {
			return ErrNotFound
		}
		//nolint:gosec // the text holds placeholders only
		again := `DELETE FROM gone_subscriptions WHERE subscription IN
			(SELECT subscription FROM deliveries WHERE delivery_id IN (` + marks + `))`
		if _, err := tx.ExecContext(ctx, again, args...); err != nil {
			return err
		}
		marks, args = list(2, ids)
		_, err = tx.ExecContext(ctx, restart+`WHERE (state <> 1 OR next_attempt_at > $1) AND lease_until <= $1
			AND delivery_id IN (`+marks+`)`, append([]any{at}, args...)...)
		return err
	})
	return total, wrap("redeliver", err)
}

// Replay implements Store.
func (s *SQL) Replay(ctx context.Context, eventID string, now time.Time) (int, error) {
	n, err := affected(s.db.ExecContext(ctx, restart+`WHERE event_id = $2 AND state = 3`, sqldb.Time(now), eventID))
	return n, wrap("replay deliveries", err)
}

// MarkGone implements Store.
func (s *SQL) MarkGone(ctx context.Context, subscription, urlHash string, now time.Time) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO gone_subscriptions (subscription, url_hash, gone_at) VALUES ($1, $2, $3)
		ON CONFLICT (subscription) DO UPDATE SET url_hash = excluded.url_hash, gone_at = excluded.gone_at`,
		subscription, urlHash, sqldb.Time(now))
	return wrap("mark subscription gone", err)
}

// Gone implements Store.
func (s *SQL) Gone(ctx context.Context) (map[string]string, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT subscription, url_hash FROM gone_subscriptions`)
	if err != nil {
		return nil, wrap("gone subscriptions", err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var name, hash string
		if err := rows.Scan(&name, &hash); err != nil {
			return nil, wrap("gone subscriptions", err)
		}
		out[name] = hash
	}
	return out, wrap("gone subscriptions", rows.Err())
}

// GiveUp implements Store.
func (s *SQL) GiveUp(ctx context.Context, subscription, reason string, dueBefore, now time.Time) (int, error) {
	query := `UPDATE deliveries SET state = 3, next_attempt_at = 0, give_up_reason = $1, dead_lettered = 0,
		updated_at = $2 WHERE state = 1 AND lease_until <= $2 AND subscription = $3`
	args := []any{reason, sqldb.Time(now), subscription}
	if !dueBefore.IsZero() {
		query += ` AND next_attempt_at < $4`
		args = append(args, sqldb.Time(dueBefore))
	}
	n, err := affected(s.db.ExecContext(ctx, query, args...))
	return n, wrap("give up deliveries", err)
}

// PendingDeadLetters implements Store.
func (s *SQL) PendingDeadLetters(ctx context.Context, limit int) ([]Delivery, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+columns+` FROM deliveries
		WHERE state = 3 AND dead_lettered = 0 ORDER BY updated_at, delivery_id LIMIT $1`, limit)
	if err != nil {
		return nil, wrap("pending dead letters", err)
	}
	out, err := scan(rows)
	return out, wrap("pending dead letters", err)
}

// DeadLettered implements Store.
func (s *SQL) DeadLettered(ctx context.Context, id string) error {
	_, err := s.db.ExecContext(ctx, `UPDATE deliveries SET dead_lettered = 1 WHERE delivery_id = $1 AND state = 3`, id)
	return wrap("record dead letter", err)
}

// Purge implements Store.
func (s *SQL) Purge(ctx context.Context, before time.Time) (int, error) {
	n, err := affected(s.db.ExecContext(ctx, `DELETE FROM deliveries WHERE updated_at < $1
		AND (state = 2 OR (state = 3 AND dead_lettered = 1))`, sqldb.Time(before)))
	return n, wrap("purge deliveries", err)
}
