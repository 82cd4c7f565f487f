package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// Feed is what is known of a feed of advisories.
type Feed struct {
	Name string
	// Digest is of the content that was last built into a snapshot, in hex.
	Digest string
	// CheckTime is when it was last asked with success, ChangeTime when it last
	// changed, TryTime when it was last asked at all.
	CheckTime, ChangeTime, TryTime time.Time
	// Error is what went wrong the last time; empty if nothing did.
	Error string
}

// Feeds implements Store.
func (s *SQL) Feeds(ctx context.Context) ([]Feed, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT name, digest, check_time, change_time, try_time, error FROM feeds ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("read feeds: %w", err)
	}
	defer rows.Close()
	var out []Feed
	for rows.Next() {
		var f Feed
		var checked, changed, tried int64
		if err := rows.Scan(&f.Name, &f.Digest, &checked, &changed, &tried, &f.Error); err != nil {
			return nil, fmt.Errorf("read feeds: %w", err)
		}
		f.CheckTime, f.ChangeTime, f.TryTime = sqldb.FromTime(checked), sqldb.FromTime(changed), sqldb.FromTime(tried)
		out = append(out, f)
	}
	return out, rows.Err()
}

// SetFeeds implements Store.
func (s *SQL) SetFeeds(ctx context.Context, feeds []Feed) error {
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		if err := s.db.Lock(ctx, tx, lockFeeds); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM feeds`); err != nil {
			return err
		}
		for _, f := range feeds {
			_, err := tx.ExecContext(ctx, `INSERT INTO feeds (name, digest, check_time, change_time, try_time, error) VALUES ($1, $2, $3, $4, $5, $6)`,
				f.Name, f.Digest, sqldb.Time(f.CheckTime), sqldb.Time(f.ChangeTime), sqldb.Time(f.TryTime), f.Error)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set feeds: %w", err)
	}
	return nil
}
