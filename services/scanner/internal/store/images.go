package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Base implements Store.
func (s *SQL) Base(ctx context.Context, imageDigest string, layers []string, claim core.BaseImage, now time.Time) (core.BaseImage, error) {
	var out core.BaseImage
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		var err error
		out, err = knownBase(ctx, tx, imageDigest)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		chains := chainDigests(layers)
		base, err := findBase(ctx, tx, chains, claim)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO images (image_digest, chain, layer_count, base_name, base_digest, base_layers, create_time)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
			imageDigest, chains[len(layers)], int64(len(layers)), base.Name, base.Digest, int64(base.LayerCount), sqldb.Time(now))
		if err != nil {
			return err
		}
		for _, l := range slices.Compact(slices.Sorted(slices.Values(layers))) {
			_, err := tx.ExecContext(ctx, `INSERT INTO image_layers (layer_digest, image_digest) VALUES ($1, $2) ON CONFLICT DO NOTHING`, l, imageDigest)
			if err != nil {
				return err
			}
		}
		// Another replica may have decided meanwhile.
		out, err = knownBase(ctx, tx, imageDigest)
		return err
	})
	if err != nil {
		return core.BaseImage{}, fmt.Errorf("find base image: %w", err)
	}
	return out, nil
}

func knownBase(ctx context.Context, tx *sql.Tx, imageDigest string) (core.BaseImage, error) {
	var b core.BaseImage
	var layers int64
	err := tx.QueryRowContext(ctx, `SELECT base_name, base_digest, base_layers FROM images WHERE image_digest = $1`, imageDigest).Scan(&b.Name, &b.Digest, &layers)
	b.LayerCount = int(layers)
	return b, err
}

// chainDigests names every prefix of the layers, the empty one first.
func chainDigests(layers []string) []string {
	h := sha256.New()
	out := []string{hex.EncodeToString(h.Sum(nil))}
	for _, l := range layers {
		fmt.Fprintln(h, l)
		out = append(out, hex.EncodeToString(h.Sum(nil)))
	}
	return out
}

// findBase looks for the image whose layers are a proper prefix. With a claim only
// the image that is claimed counts.
func findBase(ctx context.Context, tx *sql.Tx, chains []string, claim core.BaseImage) (core.BaseImage, error) {
	claim.LayerCount = 0
	if len(chains) < 3 {
		return claim, nil
	}
	args := []any{int64(Succeeded)}
	var places []string
	for _, c := range chains[1 : len(chains)-1] {
		args = append(args, c)
		places = append(places, "$"+strconv.Itoa(len(args)))
	}
	// The first scan of the image that succeeded says what it is called.
	query := `SELECT i.image_digest, i.layer_count, s.registry, s.repository, s.tag
		FROM images i JOIN scan_reports r ON r.image_digest = i.image_digest JOIN scans s ON s.id = r.scan_id
		WHERE s.state = $1 AND i.chain IN (` + strings.Join(places, ", ") + `)`
	if claim != (core.BaseImage{}) {
		// Claims mostly name an index.
		args = append(args, claim.Digest)
		n := "$" + strconv.Itoa(len(args))
		query += ` AND (i.image_digest = ` + n + ` OR s.digest = ` + n + `)`
	}
	query += ` ORDER BY i.layer_count DESC, i.create_time, i.image_digest, s.create_time, s.id LIMIT 1`
	var layers int64
	var digest string
	var ref imageref.Ref
	err := tx.QueryRowContext(ctx, query, args...).Scan(&digest, &layers, &ref.Registry, &ref.Repository, &ref.Tag)
	if errors.Is(err, sql.ErrNoRows) {
		return claim, nil
	}
	if err != nil {
		return core.BaseImage{}, err
	}
	if claim != (core.BaseImage{}) {
		claim.LayerCount = int(layers)
		if claim.Name == "" {
			claim.Name = ref.String()
		}
		return claim, nil
	}
	return core.BaseImage{Name: ref.String(), Digest: digest, LayerCount: int(layers)}, nil
}

// PruneLayers implements Store.
func (s *SQL) PruneLayers(ctx context.Context, extractors string, before time.Time) (int64, error) {
	var n int64
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM layers WHERE create_time < $1 AND (extractors <> $2
			OR NOT EXISTS (SELECT 1 FROM image_layers l WHERE l.layer_digest = layers.digest))`, sqldb.Time(before), extractors)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("prune layers: %w", err)
	}
	return n, nil
}
