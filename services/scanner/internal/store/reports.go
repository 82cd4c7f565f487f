package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// FindReport implements Store.
func (s *SQL) FindReport(ctx context.Context, imageDigest, snapshotDigest, scannerVersion string) (core.ReportRef, bool, error) {
	r, err := findReport(ctx, s.db, imageDigest, snapshotDigest, scannerVersion)
	if errors.Is(err, sql.ErrNoRows) {
		return core.ReportRef{}, false, nil
	}
	if err != nil {
		return core.ReportRef{}, false, fmt.Errorf("find report: %w", err)
	}
	return r, true, nil
}

func findReport(ctx context.Context, q querier, imageDigest, snapshotDigest, scannerVersion string) (core.ReportRef, error) {
	r := core.ReportRef{ImageDigest: imageDigest}
	err := q.QueryRowContext(ctx, `SELECT digest, os, architecture, variant, content_digest FROM reports
		WHERE image_digest = $1 AND snapshot_digest = $2 AND scanner_version = $3`, imageDigest, snapshotDigest, scannerVersion).
		Scan(&r.ReportDigest, &r.Platform.OS, &r.Platform.Architecture, &r.Platform.Variant, &r.ContentDigest)
	return r, err
}

// FirstReportTime implements Store.
func (s *SQL) FirstReportTime(ctx context.Context, imageDigest, scannerVersion string) (time.Time, error) {
	var at sql.NullInt64
	err := s.db.QueryRowContext(ctx, `SELECT MIN(create_time) FROM reports WHERE image_digest = $1 AND scanner_version = $2`,
		imageDigest, scannerVersion).Scan(&at)
	if err == nil && !at.Valid {
		err = ErrNotFound
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("time of the first report: %w", err)
	}
	return sqldb.FromTime(at.Int64), nil
}

// PutReport implements Store.
func (s *SQL) PutReport(ctx context.Context, r StoredReport) (core.ReportRef, error) {
	content := s.enc.EncodeAll(r.Content, nil)
	var out core.ReportRef
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		if err := s.db.LockShared(ctx, tx, lockIndex); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO reports (digest, image_digest, snapshot_digest, scanner_version,
				os, architecture, variant, content, create_time, content_digest)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
			r.Ref.ReportDigest, r.Ref.ImageDigest, r.SnapshotDigest, r.ScannerVersion,
			r.Ref.Platform.OS, r.Ref.Platform.Architecture, r.Ref.Platform.Variant, content, sqldb.Time(r.Time), r.Ref.ContentDigest)
		if err != nil {
			return err
		}
		out, err = findReport(ctx, tx, r.Ref.ImageDigest, r.SnapshotDigest, r.ScannerVersion)
		if err != nil {
			return err
		}
		return s.putInventory(ctx, tx, r.Ref.ImageDigest, out.ReportDigest, &r)
	})
	if err != nil {
		return core.ReportRef{}, fmt.Errorf("put report: %w", err)
	}
	return out, nil
}

// Report implements Store.
func (s *SQL) Report(ctx context.Context, digest string) ([]byte, error) {
	var content []byte
	err := s.db.QueryRowContext(ctx, `SELECT content FROM reports WHERE digest = $1`, digest).Scan(&content)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	plain, err := s.dec.DecodeAll(content, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress report %s: %w", digest, err)
	}
	return plain, nil
}
