package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// DeadLetter is a message that a service gave up on.
type DeadLetter struct {
	Sequence int64
	Service  string
	// EventID is unique for each service.
	EventID     string
	Reason      string
	StoreTime   time.Time
	Traceparent string
	// Body is the encoded event.
	Body []byte
}

// DeadLetterLimits bound what is kept.
type DeadLetterLimits struct {
	// Age is how long a letter is kept.
	Age time.Duration
	// Bytes is the size of all above which the oldest go before they have that age.
	Bytes int64
	// LeastAge is how long each is kept in any case.
	LeastAge time.Duration
}

// purgeAtOnce bounds the letters that one new letter replaces.
const purgeAtOnce = 100

// KeepDeadLetter implements Store.
func (s *SQL) KeepDeadLetter(ctx context.Context, l DeadLetter, limits DeadLetterLimits) (early int, err error) {
	err = s.db.InTx(ctx, func(tx *sql.Tx) error {
		early = 0
		// The row's lock makes letters visible in the order of their sequences.
		var sequence int64
		err := tx.QueryRowContext(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'dead-letter' RETURNING value`).Scan(&sequence)
		if err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `
			INSERT INTO dead_letters (sequence, service, event_id, reason, store_time, size, traceparent, body)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (service, event_id) DO NOTHING`,
			sequence, l.Service, l.EventID, l.Reason, sqldb.Time(l.StoreTime), len(l.Body), l.Traceparent, l.Body)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return err
		}
		early, err = purgeDeadLetters(ctx, tx, l.StoreTime, int64(len(l.Body)), limits)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("keep dead letter: %w", err)
	}
	return early, nil
}

// purgeDeadLetters drops the oldest letters after one of a size was added. It returns
// how many of them went because of the size of all.
func purgeDeadLetters(ctx context.Context, tx *sql.Tx, now time.Time, added int64, limits DeadLetterLimits) (early int, err error) {
	var total int64
	err = tx.QueryRowContext(ctx, `UPDATE counters SET value = value + $1 WHERE name = 'dead-letter-bytes' RETURNING value`, added).Scan(&total)
	if err != nil {
		return 0, err
	}
	rows, err := tx.QueryContext(ctx, `SELECT sequence, store_time, size FROM dead_letters ORDER BY sequence LIMIT $1`, purgeAtOnce)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var last, freed int64
	for rows.Next() {
		var sequence, at, size int64
		if err := rows.Scan(&sequence, &at, &size); err != nil {
			return 0, err
		}
		age := now.Sub(sqldb.FromTime(at))
		if age <= limits.Age {
			if total-freed <= limits.Bytes || age <= limits.LeastAge {
				break
			}
			early++
		}
		last, freed = sequence, freed+size
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || last == 0 {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM dead_letters WHERE sequence <= $1`, last); err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE counters SET value = value - $1 WHERE name = 'dead-letter-bytes'`, freed)
	return early, err
}

// DeadLetterQuery chooses dead letters.
type DeadLetterQuery struct {
	// From is the lowest sequence.
	From int64
	// Service and Reason are empty for all.
	Service, Reason string
	Limit           int
	// Bytes is the size of the bodies with which a list ends.
	Bytes int64
}

// DeadLetters implements Store.
func (s *SQL) DeadLetters(ctx context.Context, q DeadLetterQuery) ([]DeadLetter, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT sequence, service, event_id, reason, store_time, traceparent, body FROM dead_letters
		WHERE sequence >= $1 AND ($2 = '' OR service = $2) AND ($3 = '' OR reason = $3)
		ORDER BY sequence LIMIT $4`, q.From, q.Service, q.Reason, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	defer rows.Close()
	var out []DeadLetter
	for size := int64(0); size < q.Bytes && rows.Next(); {
		var (
			l  DeadLetter
			at int64
		)
		if err := rows.Scan(&l.Sequence, &l.Service, &l.EventID, &l.Reason, &at, &l.Traceparent, &l.Body); err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		l.StoreTime = sqldb.FromTime(at)
		size += int64(len(l.Body))
		out = append(out, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return out, nil
}
