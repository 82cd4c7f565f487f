package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
)

// Vex is an imported VEX document with its signature.
type Vex struct {
	// Digest is the SHA-256 of the document.
	Digest   string
	FromFile bool
	// Document is empty if it is the predicate of the bundle's statement.
	Document, Bundle []byte
	ImportTime       time.Time
}

func (v Vex) resource() string { return "VEX document " + v.Digest }

// VexLimits bound what is kept.
type VexLimits struct {
	// Documents is their number, Bytes the size of all with their bundles.
	Documents, Bytes int64
}

// sourceVexAuthors names the row that remembers whose documents counted.
const sourceVexAuthors = "vex-authors"

// ImportVex implements Store.
func (s *SQL) ImportVex(ctx context.Context, v Vex, limits VexLimits, cause Cause, by Audit) (Vex, error) {
	out := v
	err := s.changeRules(ctx, cause, by, func(tx *sql.Tx) ([]string, error) {
		there, err := scanVex(tx.QueryRowContext(ctx, selectVex+` WHERE digest = $1`, v.Digest))
		switch {
		case err == nil:
			out = there
			return nil, nil
		case !errors.Is(err, sql.ErrNoRows):
			return nil, err
		}
		var count, size int64
		err = tx.QueryRowContext(ctx, `SELECT COUNT(*), CAST(COALESCE(SUM(LENGTH(document) + LENGTH(bundle)), 0) AS BIGINT) FROM vex_documents`).Scan(&count, &size)
		if err != nil {
			return nil, err
		}
		if count >= limits.Documents || size+int64(len(v.Document)+len(v.Bundle)) > limits.Bytes {
			return nil, ErrTooMany
		}
		out = v
		return []string{v.resource()}, insertVex(ctx, tx, v)
	})
	if err != nil {
		return Vex{}, fmt.Errorf("import VEX document: %w", err)
	}
	return out, nil
}

// DeleteVex implements Store.
func (s *SQL) DeleteVex(ctx context.Context, digest string, cause Cause, by Audit) error {
	err := s.changeRules(ctx, cause, by, func(tx *sql.Tx) ([]string, error) {
		v, err := scanVex(tx.QueryRowContext(ctx, selectVex+` WHERE digest = $1`, digest))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil, ErrNotFound
		case err != nil:
			return nil, err
		case v.FromFile:
			return nil, ErrFromFile
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM vex_documents WHERE digest = $1`, digest)
		return []string{v.resource() + deleted}, err
	})
	if err != nil {
		return fmt.Errorf("delete VEX document: %w", err)
	}
	return nil
}

// SyncVex implements Store.
func (s *SQL) SyncVex(ctx context.Context, fromFiles []Vex, authors []byte, cause Cause, by Audit) error {
	err := s.changeRules(ctx, cause, by, func(tx *sql.Tx) ([]string, error) {
		var changed []string
		others, err := syncVexAuthors(ctx, tx, authors)
		if err != nil {
			return nil, err
		}
		if others {
			changed = append(changed, "authors of VEX documents")
		}
		there, err := listVex(ctx, tx, selectVex+` WHERE from_file = 1 ORDER BY digest`)
		if err != nil {
			return nil, err
		}
		for _, old := range there {
			if slices.ContainsFunc(fromFiles, func(v Vex) bool { return v.Digest == old.Digest }) {
				continue
			}
			changed = append(changed, old.resource()+deleted)
			if _, err := tx.ExecContext(ctx, `DELETE FROM vex_documents WHERE digest = $1`, old.Digest); err != nil {
				return nil, err
			}
		}
		for _, v := range fromFiles {
			var kept int
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM vex_documents WHERE digest = $1`, v.Digest).Scan(&kept); err != nil {
				return nil, err
			}
			if kept > 0 { // from a file or imported: the content is the same
				continue
			}
			changed = append(changed, v.resource())
			if err := insertVex(ctx, tx, v); err != nil {
				return nil, err
			}
		}
		return changed, nil
	})
	if err != nil {
		return fmt.Errorf("take over VEX documents of files: %w", err)
	}
	return nil
}

// syncVexAuthors notes whose documents count; other authors are other rules.
func syncVexAuthors(ctx context.Context, tx *sql.Tx, authors []byte) (changed bool, err error) {
	var before []byte
	err = tx.QueryRowContext(ctx, `SELECT body FROM trust_bundles WHERE source = $1`, sourceVexAuthors).Scan(&before)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	if string(before) == string(authors) {
		return false, nil
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO trust_bundles (source, body, fetch_time) VALUES ($1, $2, 0)
		ON CONFLICT (source) DO UPDATE SET body = excluded.body`, sourceVexAuthors, append([]byte{}, authors...))
	return true, err
}

// VexDocuments implements Store.
func (s *SQL) VexDocuments(ctx context.Context, after string, limit int) ([]Vex, error) {
	out, err := listVex(ctx, s.db, selectVex+` WHERE digest > $1 ORDER BY digest LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list VEX documents: %w", err)
	}
	return out, nil
}

const selectVex = `SELECT digest, from_file, document, bundle, import_time FROM vex_documents`

func scanVex(r row) (Vex, error) {
	var (
		v            Vex
		fromFile, at int64
	)
	if err := r.Scan(&v.Digest, &fromFile, &v.Document, &v.Bundle, &at); err != nil {
		return Vex{}, err
	}
	v.FromFile, v.ImportTime = fromFile != 0, sqldb.FromTime(at)
	return v, nil
}

func listVex(ctx context.Context, q querier, query string, args ...any) ([]Vex, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Vex
	for rows.Next() {
		v, err := scanVex(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

func insertVex(ctx context.Context, tx *sql.Tx, v Vex) error {
	fromFile, document := 0, v.Document
	if v.FromFile {
		fromFile = 1
	}
	if document == nil {
		document = []byte{}
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO vex_documents (digest, from_file, document, bundle, import_time) VALUES ($1, $2, $3, $4, $5)`,
		v.Digest, fromFile, document, v.Bundle, sqldb.Time(v.ImportTime))
	return err
}
