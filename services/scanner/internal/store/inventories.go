package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// keyBatch is how many keys one statement carries.
const keyBatch = 200

// ask puts images in the queue; the rest of the statement says which.
const ask = `INSERT INTO rematches (image_digest, round, lease_time) `

const askAgain = ` ON CONFLICT (image_digest) DO UPDATE SET round = rematches.round + 1, lease_time = 0`

// putInventory points to a report as the newest of its image. Without packages
// they are those that are stored.
func (s *SQL) putInventory(ctx context.Context, tx *sql.Tx, image, report string, r *StoredReport) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO inventories (image_digest, report_digest, problems) VALUES ($1, $2, $3)
		ON CONFLICT (image_digest) DO UPDATE SET report_digest = excluded.report_digest, problems = excluded.problems`,
		image, report, strings.Join(r.Problems, "\n"))
	if err != nil || r.Packages == nil {
		return err
	}
	return s.putPackages(ctx, tx, image, r.Packages)
}

// anyKey is a condition that holds for packages with one of the keys, which the columns
// hold.
func anyKey(ecosystem, name string, keys []core.PackageKey, args []any) (string, []any) {
	var terms []string
	for _, k := range keys {
		args = append(args, k.Ecosystem, k.Name)
		terms = append(terms, "("+ecosystem+" = "+place(len(args)-1)+" AND "+name+" = "+place(len(args))+")")
	}
	return "(" + strings.Join(terms, " OR ") + ")", args
}

// askStale asks to match an image again whose report was made with a snapshot that
// is in use no more.
func askStale(ctx context.Context, tx *sql.Tx, reportDigest string) error {
	_, err := tx.ExecContext(ctx, ask+`SELECT r.image_digest, 0, 0 FROM reports r JOIN current_snapshot c ON c.digest <> r.snapshot_digest
		WHERE r.digest = $1`+askAgain, reportDigest)
	return err
}

// LeaseRematches implements Store.
func (s *SQL) LeaseRematches(ctx context.Context, now, until time.Time, n int) ([]Rematch, error) {
	var out []Rematch
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		out = nil
		// Leases are given one after the other, so that each replica finds the images
		// that the others left.
		if err := s.db.Lock(ctx, tx, lockRematches); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `UPDATE rematches SET lease_time = $1 WHERE image_digest IN (
			SELECT image_digest FROM rematches WHERE lease_time <= $2 ORDER BY image_digest LIMIT $3)
			RETURNING image_digest, round`, sqldb.Time(until), sqldb.Time(now), int64(n))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r Rematch
			if err := rows.Scan(&r.ImageDigest, &r.round); err != nil {
				return err
			}
			out = append(out, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("lease rematches: %w", err)
	}
	return out, nil
}

// EndRematch implements Store.
func (s *SQL) EndRematch(ctx context.Context, r Rematch) error {
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM rematches WHERE image_digest = $1 AND round = $2`, r.ImageDigest, r.round)
		return err
	})
	if err != nil {
		return fmt.Errorf("end rematch: %w", err)
	}
	return nil
}

// Inventory implements Store.
func (s *SQL) Inventory(ctx context.Context, imageDigest string) (Inventory, error) {
	var i Inventory
	var problems string
	err := s.db.QueryRowContext(ctx, `SELECT report_digest, problems FROM inventories WHERE image_digest = $1`, imageDigest).
		Scan(&i.ReportDigest, &problems)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Inventory{}, fmt.Errorf("read inventory: %w", err)
	}
	if problems != "" {
		i.Problems = strings.Split(problems, "\n")
	}
	return i, nil
}

func (s *SQL) strings(ctx context.Context, out map[string]bool, query string, args ...any) error {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return err
		}
		out[v] = true
	}
	return rows.Err()
}

// Places implements Store.
func (s *SQL) Places(ctx context.Context, imageDigest string) ([]imageref.Ref, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT DISTINCT s.registry, s.repository, s.tag, s.digest
		FROM scan_reports r JOIN scans s ON s.id = r.scan_id WHERE r.image_digest = $1 AND s.state = $2
		ORDER BY s.registry, s.repository, s.tag, s.digest`, imageDigest, int64(Succeeded))
	if err != nil {
		return nil, fmt.Errorf("find scans: %w", err)
	}
	defer rows.Close()
	var out []imageref.Ref
	for rows.Next() {
		var r imageref.Ref
		if err := rows.Scan(&r.Registry, &r.Repository, &r.Tag, &r.Digest); err != nil {
			return nil, fmt.Errorf("find scans: %w", err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}
