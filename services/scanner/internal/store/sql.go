package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations are the schema's.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the directory is embedded
	}
	return sub
}

// SQL is the store on a database.
type SQL struct {
	db  *sqldb.DB
	enc *zstd.Encoder
	dec *zstd.Decoder
}

var _ Store = (*SQL)(nil)

// maxReport is the size of the largest canonical report, in bytes.
const maxReport = 512 << 20

// New returns the store on a migrated database.
func New(db *sqldb.DB) (*SQL, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxReport))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &SQL{db: db, enc: enc, dec: dec}, nil
}

// Locks of transactions that read first and then write by what they read. Whoever takes
// several takes them in this order.
const (
	// lockFeeds is for the list of feeds as a whole.
	lockFeeds = "feeds"
	// lockIndex is for the snapshot in use and the index of packages. Scans share it:
	// they add to the index. Who changes the snapshot or tidies the index has it alone.
	lockIndex = "index"
	// lockSets is for giving ids to new packages and sets of them.
	lockSets = "sets"
	// lockRematches is for taking images from the queue.
	lockRematches = "rematches"
)

// querier is what *sql.DB and *sql.Tx have in common.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// CreateScan implements Store.
func (s *SQL) CreateScan(ctx context.Context, c Scan) (Scan, error) {
	var out Scan
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO scans (id, registry, repository, tag, digest, state,
				error_reason, error_message, trace_id, create_time, end_time)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING`,
			c.ID, c.Image.Registry, c.Image.Repository, c.Image.Tag, c.Image.Digest, int64(c.State),
			c.ErrorReason, c.ErrorMessage, c.TraceID, sqldb.Time(c.CreateTime), sqldb.Time(c.EndTime))
		if err != nil {
			return err
		}
		out, err = scanByID(ctx, tx, c.ID)
		return err
	})
	if err != nil {
		return Scan{}, fmt.Errorf("create scan: %w", err)
	}
	return out, nil
}

// StartScan implements Store.
func (s *SQL) StartScan(ctx context.Context, id, digest string) error {
	_, err := s.db.ExecContext(ctx, `UPDATE scans SET state = $1, digest = $2, error_reason = '', error_message = '', end_time = 0
		WHERE id = $3 AND state <> $4`, int64(Running), digest, id, int64(Succeeded))
	if err != nil {
		return fmt.Errorf("start scan: %w", err)
	}
	return nil
}

// FinishScan implements Store.
func (s *SQL) FinishScan(ctx context.Context, id string, reports []core.ReportRef, end time.Time) error {
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		if err := s.db.LockShared(ctx, tx, lockIndex); err != nil {
			return err
		}
		// The update takes the row's lock: of two that finish a scan, one does.
		done, err := tx.ExecContext(ctx, `UPDATE scans SET state = $1, error_reason = '', error_message = '', end_time = $2
			WHERE id = $3 AND state <> $1`, int64(Succeeded), sqldb.Time(end), id)
		if err != nil {
			return err
		}
		n, err := done.RowsAffected()
		if err != nil {
			return err
		}
		sc, err := scanByID(ctx, tx, id)
		if err != nil || n == 0 {
			return err
		}
		for i, r := range reports {
			_, err := tx.ExecContext(ctx, `INSERT INTO scan_reports (scan_id, position, image_digest, report_digest)
				VALUES ($1, $2, $3, $4) ON CONFLICT (scan_id, position) DO NOTHING`, id, int64(i), r.ImageDigest, r.ReportDigest)
			if err != nil {
				return err
			}
			if err := askStale(ctx, tx, r.ReportDigest); err != nil {
				return err
			}
		}
		if sc.Image.Tag == "" {
			return nil
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO tags (registry, repository, tag, digest, scan_time) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (registry, repository, tag) DO UPDATE SET digest = excluded.digest, scan_time = excluded.scan_time
			WHERE tags.scan_time <= excluded.scan_time`,
			sc.Image.Registry, sc.Image.Repository, sc.Image.Tag, sc.Image.Digest, sqldb.Time(sc.CreateTime))
		return err
	})
	if err != nil {
		return fmt.Errorf("finish scan: %w", err)
	}
	return nil
}

// FailScan implements Store.
func (s *SQL) FailScan(ctx context.Context, id, reason, message string, end time.Time) error {
	_, err := s.db.ExecContext(ctx, `UPDATE scans SET state = $1, error_reason = $2, error_message = $3, end_time = $4
		WHERE id = $5 AND state <> $6`, int64(Failed), reason, message, sqldb.Time(end), id, int64(Succeeded))
	if err != nil {
		return fmt.Errorf("fail scan: %w", err)
	}
	return nil
}

// Scan implements Store.
func (s *SQL) Scan(ctx context.Context, id string) (Scan, error) {
	sc, err := scanByID(ctx, s.db, id)
	if err != nil {
		return Scan{}, fmt.Errorf("read scan: %w", err)
	}
	return sc, nil
}

func scanByID(ctx context.Context, q querier, id string) (Scan, error) {
	sc := Scan{ID: id}
	var state, created, ended int64
	err := q.QueryRowContext(ctx, `SELECT registry, repository, tag, digest, state, error_reason, error_message, trace_id,
			create_time, end_time FROM scans WHERE id = $1`, id).
		Scan(&sc.Image.Registry, &sc.Image.Repository, &sc.Image.Tag, &sc.Image.Digest, &state,
			&sc.ErrorReason, &sc.ErrorMessage, &sc.TraceID, &created, &ended)
	if errors.Is(err, sql.ErrNoRows) {
		return Scan{}, ErrNotFound
	}
	if err != nil {
		return Scan{}, err
	}
	sc.State, sc.CreateTime, sc.EndTime = State(state), sqldb.FromTime(created), sqldb.FromTime(ended)
	if sc.State == Succeeded {
		sc.Reports, err = reportsOf(ctx, q, id)
	}
	return sc, err
}

func reportsOf(ctx context.Context, q querier, scanID string) ([]core.ReportRef, error) {
	rows, err := q.QueryContext(ctx, `SELECT r.image_digest, r.digest, r.os, r.architecture, r.variant, r.content_digest
		FROM scan_reports s JOIN reports r ON r.digest = s.report_digest WHERE s.scan_id = $1 ORDER BY s.position`, scanID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []core.ReportRef
	for rows.Next() {
		var r core.ReportRef
		if err := rows.Scan(&r.ImageDigest, &r.ReportDigest, &r.Platform.OS, &r.Platform.Architecture, &r.Platform.Variant, &r.ContentDigest); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// NewestScan implements Store.
func (s *SQL) NewestScan(ctx context.Context, image imageref.Ref, finished bool) (Scan, error) {
	lowest := Queued
	if finished {
		lowest = Succeeded
	}
	for _, query := range []string{
		`SELECT id FROM scans WHERE registry = $1 AND repository = $2 AND digest = $3 AND state >= $4 AND state <= $5
			ORDER BY create_time DESC, id DESC LIMIT 1`,
		`SELECT s.id FROM scan_reports r JOIN scans s ON s.id = r.scan_id
			WHERE s.registry = $1 AND s.repository = $2 AND r.image_digest = $3 AND s.state >= $4 AND s.state <= $5
			ORDER BY s.create_time DESC, s.id DESC LIMIT 1`,
	} {
		highest := Failed
		if finished {
			highest = Succeeded
		}
		var id string
		err := s.db.QueryRowContext(ctx, query, image.Registry, image.Repository, image.Digest, int64(lowest), int64(highest)).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return Scan{}, fmt.Errorf("find scan: %w", err)
		}
		return s.Scan(ctx, id)
	}
	return Scan{}, fmt.Errorf("find scan: %w", ErrNotFound)
}

// TagDigest implements Store.
func (s *SQL) TagDigest(ctx context.Context, image imageref.Ref) (string, error) {
	var digest string
	err := s.db.QueryRowContext(ctx, `SELECT digest FROM tags WHERE registry = $1 AND repository = $2 AND tag = $3`,
		image.Registry, image.Repository, image.Tag).Scan(&digest)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("read tag: %w", err)
	}
	return digest, nil
}
