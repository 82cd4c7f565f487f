package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// LookInterval is the least time between two looks at one manifest, however many
// hints there are.
const LookInterval = 30 * time.Second

// FirstLook is when missing evidence is looked for the first time.
const FirstLook = 15 * time.Second

// MaxLooks is how many looks of one repository may be planned at manifests that are no
// known images. Beyond it there is one look at the repository instead.
const MaxLooks = 1000

// Look is a manifest whose registry is to be read again.
type Look struct {
	// Image without a digest is a look at all judged images of the repository.
	Image imageref.Ref
	// HintTime is the newest hint that no verdict has taken into account; zero if
	// there is none.
	HintTime time.Time
	// MissingTime is since when required evidence is missing; zero if none is.
	MissingTime time.Time
	// GoneTime is when the registry first said that the manifest does not exist.
	GoneTime time.Time
	// Attempt counts the looks that did not find what they were for.
	Attempt int
}

// RequestLook implements Store.
func (s *SQL) RequestLook(ctx context.Context, image imageref.Ref, hinted, due time.Time) error {
	return s.RequestLooks(ctx, []imageref.Ref{image}, hinted, due)
}

// RequestLooks is RequestLook for several images.
func (s *SQL) RequestLooks(ctx context.Context, images []imageref.Ref, hinted, due time.Time) error {
	for _, i := range images {
		full, err := s.looksFull(ctx, i)
		if err != nil {
			return err
		}
		if full {
			i.Digest = ""
		}
		_, err = s.db.ExecContext(ctx, `
			INSERT INTO looks (registry, repository, digest, due_time, look_time, hint_time, missing_time, gone_time, attempt)
			VALUES ($1, $2, $3, $4, 0, $5, 0, 0, 0)
			ON CONFLICT (registry, repository, digest) DO UPDATE SET
				hint_time = CASE WHEN looks.hint_time < excluded.hint_time THEN excluded.hint_time ELSE looks.hint_time END,
				due_time = CASE
					WHEN looks.due_time > 0 AND looks.due_time <= excluded.due_time THEN looks.due_time
					WHEN looks.look_time + $6 <= excluded.due_time THEN excluded.due_time
					WHEN looks.due_time > 0 AND looks.due_time <= looks.look_time + $6 THEN looks.due_time
					ELSE looks.look_time + $6 END`,
			i.Registry, i.Repository, i.Digest, sqldb.Time(due), sqldb.Time(hinted), int64(LookInterval))
		if err != nil {
			return fmt.Errorf("request a look: %w", err)
		}
	}
	return nil
}

// looksFull tells whether a look at a manifest would be one more than MaxLooks. Known
// images are always looked at: of them there are no more than were pushed.
func (s *SQL) looksFull(ctx context.Context, i imageref.Ref) (bool, error) {
	var full int64
	err := s.db.QueryRowContext(ctx, `
		SELECT CASE WHEN (SELECT COUNT(*) FROM (SELECT 1 FROM looks WHERE registry = $1 AND repository = $2 LIMIT $4) l) >= $4
			AND NOT EXISTS (SELECT 1 FROM looks WHERE registry = $1 AND repository = $2 AND digest = $3)
			AND NOT EXISTS (SELECT 1 FROM images WHERE registry = $1 AND repository = $2 AND digest = $3)
		THEN 1 ELSE 0 END`, i.Registry, i.Repository, i.Digest, int64(MaxLooks)).Scan(&full)
	if err != nil {
		return false, fmt.Errorf("count looks: %w", err)
	}
	return full == 1, nil
}

// NextLooks implements Store. The first of each repository come first, so that one
// repository cannot hold up the others.
func (s *SQL) NextLooks(ctx context.Context, now time.Time, limit int) ([]Look, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT registry, repository, digest, hint_time, missing_time, gone_time, attempt FROM (
			SELECT looks.*, ROW_NUMBER() OVER (PARTITION BY registry, repository ORDER BY due_time, digest) AS place
			FROM looks WHERE due_time > 0 AND due_time <= $1
		) due ORDER BY place, due_time, digest LIMIT $2`, sqldb.Time(now), limit)
	if err != nil {
		return nil, fmt.Errorf("list looks: %w", err)
	}
	defer rows.Close()
	var out []Look
	for rows.Next() {
		var (
			l                     Look
			hinted, missing, gone int64
		)
		if err := rows.Scan(&l.Image.Registry, &l.Image.Repository, &l.Image.Digest, &hinted, &missing, &gone, &l.Attempt); err != nil {
			return nil, fmt.Errorf("list looks: %w", err)
		}
		l.HintTime, l.MissingTime, l.GoneTime = sqldb.FromTime(hinted), sqldb.FromTime(missing), sqldb.FromTime(gone)
		out = append(out, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list looks: %w", err)
	}
	return out, nil
}

// FinishLook implements Store.
func (s *SQL) FinishLook(ctx context.Context, l Look, at, next time.Time) error {
	// A hint from after the look began is not settled by it.
	again := at.Add(LookInterval)
	if !next.IsZero() && next.Before(again) {
		again = next
	}
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			UPDATE looks SET look_time = $4, gone_time = $5, missing_time = $6, attempt = $7,
				due_time = CASE WHEN hint_time > $8 THEN CAST($10 AS BIGINT) ELSE CAST($9 AS BIGINT) END,
				hint_time = CASE WHEN hint_time > $8 OR $11 = 1 THEN hint_time ELSE 0 END
			WHERE registry = $1 AND repository = $2 AND digest = $3`,
			l.Image.Registry, l.Image.Repository, l.Image.Digest, sqldb.Time(at), sqldb.Time(l.GoneTime), sqldb.Time(l.MissingTime),
			l.Attempt, sqldb.Time(l.HintTime), sqldb.Time(next), sqldb.Time(again), flag(!next.IsZero() && !l.HintTime.IsZero()))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM looks WHERE due_time = 0 AND look_time < $1`, sqldb.Time(at.Add(-LookInterval)))
		return err
	})
	if err != nil {
		return fmt.Errorf("finish a look: %w", err)
	}
	return nil
}

// IndexesWith implements Store.
func (s *SQL) IndexesWith(ctx context.Context, platform imageref.Ref) ([]imageref.Ref, error) {
	return s.refs(ctx, `
		SELECT registry, repository, digest FROM image_platforms WHERE registry = $1 AND repository = $2 AND platform = $3`,
		platform.Registry, platform.Repository, platform.Digest)
}

// planLook notes, with a verdict, whether evidence is to be looked for. A verdict that
// was made from what the registry has answers the hints from before it was read.
func planLook(ctx context.Context, tx *sql.Tx, v NewVerdict) error {
	if v.LacksEvidence {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO looks (registry, repository, digest, due_time, look_time, hint_time, missing_time, gone_time, attempt)
			VALUES ($1, $2, $3, $4, 0, 0, $5, 0, 0)
			ON CONFLICT (registry, repository, digest) DO UPDATE SET missing_time = excluded.missing_time, attempt = 0,
				due_time = CASE WHEN looks.due_time > 0 AND looks.due_time < excluded.due_time THEN looks.due_time ELSE excluded.due_time END
			WHERE looks.missing_time = 0`,
			v.Image.Registry, v.Image.Repository, v.Image.Digest, sqldb.Time(v.CreateTime.Add(FirstLook)), sqldb.Time(v.CreateTime))
		if err != nil {
			return fmt.Errorf("plan a look: %w", err)
		}
	}
	if v.ReadTime.IsZero() && v.LacksEvidence {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE looks SET missing_time = missing_time * $4,
			hint_time = CASE WHEN hint_time < $5 THEN 0 ELSE hint_time END,
			due_time = CASE WHEN $4 = 1 OR hint_time >= $5 AND hint_time > 0 THEN due_time ELSE 0 END
		WHERE registry = $1 AND repository = $2 AND digest = $3`,
		v.Image.Registry, v.Image.Repository, v.Image.Digest, flag(v.LacksEvidence), sqldb.Time(v.ReadTime))
	if err != nil {
		return fmt.Errorf("settle looks: %w", err)
	}
	return nil
}

// savePlatforms notes which index a platform manifest is judged in.
func savePlatforms(ctx context.Context, tx *sql.Tx, v NewVerdict) error {
	for _, p := range v.Platforms {
		if p == v.Image.Digest {
			continue
		}
		_, err := tx.ExecContext(ctx, `
			INSERT INTO image_platforms (registry, repository, platform, digest) VALUES ($1, $2, $3, $4)
			ON CONFLICT (registry, repository, platform, digest) DO NOTHING`,
			v.Image.Registry, v.Image.Repository, p, v.Image.Digest)
		if err != nil {
			return fmt.Errorf("save platforms: %w", err)
		}
	}
	return nil
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
