package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// Image is what is known of an image in one repository.
type Image struct {
	Registry, Repository, Digest string
	// Pending is the time of a push that waits for a verdict; zero if none does.
	Pending time.Time
	// ExpireTime is the end of the newest verdict; zero if it has none.
	ExpireTime time.Time
	// OverdueTime is when the evidence becomes overdue; zero while no report waits.
	OverdueTime time.Time
	// Until is when this answer may be another one although nothing was stored: the
	// next end of a verdict that it was chosen from; zero if there is none.
	Until time.Time
	// Latest is nil if there is no verdict.
	Latest *Record
}

// Lookup implements Store. There is one query for the images whose repository is
// named, and one for those by digest alone.
func (s *SQL) Lookup(ctx context.Context, images []imageref.Ref, now time.Time) ([]*Image, error) {
	exact, anywhere := &lookupArgs{}, &lookupArgs{args: []any{sqldb.Time(now)}}
	for _, i := range images {
		if i.Registry == "" && i.Repository == "" {
			anywhere.add(i.Digest)
		} else {
			exact.add(i.Registry, i.Repository, i.Digest)
		}
	}
	found := map[imageref.Ref]*Image{}
	if exact.rows.Len() > 0 {
		err := s.lookup(ctx, `
			SELECT `+imageColumns+`, `+endOf+` FROM images i LEFT JOIN verdicts v ON v.sequence = i.sequence
			WHERE (i.registry, i.repository, i.digest) IN (VALUES `+exact.rows.String()+`)`, exact.args, found, false)
		if err != nil {
			return nil, err
		}
	}
	if anywhere.rows.Len() > 0 {
		// The worst of each digest, as core.Worse orders states; one that has ended
		// counts as UNKNOWN.
		err := s.lookup(ctx, `
			SELECT `+imageColumns+`, i.ends FROM (
				SELECT i.registry, i.repository, i.digest, i.sequence, i.pending_time, i.expire_time, i.overdue_time,
					ROW_NUMBER() OVER (PARTITION BY i.digest ORDER BY
						CASE WHEN `+endOf+` > 0 AND `+endOf+` <= $1 THEN 1 WHEN i.state = 2 THEN 0 WHEN i.state = 1 THEN 2 ELSE 1 END,
						i.registry, i.repository) AS place,
					COALESCE(MIN(CASE WHEN `+endOf+` > $1 THEN `+endOf+` END) OVER (PARTITION BY i.digest), 0) AS ends
				FROM images i WHERE i.digest IN (`+strings.NewReplacer("(", "", ")", "").Replace(anywhere.rows.String())+`)
			) i LEFT JOIN verdicts v ON v.sequence = i.sequence WHERE i.place = 1`, anywhere.args, found, true)
		if err != nil {
			return nil, err
		}
	}
	out := make([]*Image, len(images))
	for n, i := range images {
		out[n] = found[imageref.Ref{Registry: i.Registry, Repository: i.Repository, Digest: i.Digest}]
	}
	return out, nil
}

// lookupArgs collects rows of placeholders.
type lookupArgs struct {
	rows strings.Builder
	args []any
}

func (l *lookupArgs) add(row ...any) {
	if l.rows.Len() > 0 {
		l.rows.WriteString(", ")
	}
	for n, v := range row {
		l.args = append(l.args, v)
		fmt.Fprintf(&l.rows, "%s$%d", map[bool]string{true: "(", false: ", "}[n == 0], len(l.args))
	}
	l.rows.WriteByte(')')
}

// endOf is the end of an answer about images as i: that of the verdict, or when the
// evidence becomes overdue; 0 if there is none.
const endOf = `(CASE WHEN i.overdue_time > 0 AND (i.expire_time = 0 OR i.overdue_time < i.expire_time)
	THEN i.overdue_time ELSE i.expire_time END)`

// imageColumns are what lookup reads, of images as i and verdicts as v; the end of
// the answer comes after them.
const imageColumns = `i.registry, i.repository, i.digest, i.sequence, i.pending_time, i.expire_time, i.overdue_time,
	COALESCE(v.state, 0), COALESCE(v.previous_state, 0), COALESCE(v.verdict_digest, ''), COALESCE(v.trace_id, ''),
	COALESCE(v.create_time, 0), v.body, COALESCE(v.cause, 0), COALESCE(v.cause_detail, '')`

// lookup adds what a query finds by the name it was asked for.
func (s *SQL) lookup(ctx context.Context, query string, args []any, found map[imageref.Ref]*Image, anywhere bool) error {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("read images: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		i, err := scanImage(rows)
		if err != nil {
			return fmt.Errorf("read images: %w", err)
		}
		key := imageref.Ref{Registry: i.Registry, Repository: i.Repository, Digest: i.Digest}
		if anywhere {
			key.Registry, key.Repository = "", ""
		}
		found[key] = i
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read images: %w", err)
	}
	return nil
}

func scanImage(rows *sql.Rows) (*Image, error) {
	var (
		i                                           Image
		r                                           Record
		pending, ends, until, state, previous, made int64
		cause, overdue                              int64
	)
	err := rows.Scan(&i.Registry, &i.Repository, &i.Digest, &r.Sequence, &pending, &ends, &overdue,
		&state, &previous, &r.Digest, &r.TraceID, &made, &r.Body, &cause, &r.Cause.Detail, &until)
	if err != nil {
		return nil, err
	}
	i.OverdueTime = sqldb.FromTime(overdue)
	i.Pending, i.ExpireTime, i.Until = sqldb.FromTime(pending), sqldb.FromTime(ends), sqldb.FromTime(until)
	if r.Sequence > 0 {
		r.Image = imageref.Ref{Registry: i.Registry, Repository: i.Repository, Digest: i.Digest}
		r.State, r.PreviousState = core.State(state), core.State(previous)
		r.CreateTime, r.Cause.Kind, r.OverdueTime = sqldb.FromTime(made), core.Cause(cause), i.OverdueTime
		i.Latest = &r
	}
	return &i, nil
}

// ResolveTags implements Store.
func (s *SQL) ResolveTags(ctx context.Context, images []imageref.Ref) ([]*Tag, error) {
	wanted := &lookupArgs{}
	for _, i := range images {
		wanted.add(i.Registry, i.Repository, i.Tag)
	}
	out := make([]*Tag, len(images))
	if len(images) == 0 {
		return out, nil
	}
	rows, err := s.db.QueryContext(ctx, `
		SELECT registry, repository, tag, digest, problem FROM tags
		WHERE (registry, repository, tag) IN (VALUES `+wanted.rows.String()+`)`, wanted.args...)
	if err != nil {
		return nil, fmt.Errorf("resolve tags: %w", err)
	}
	defer rows.Close()
	found := map[imageref.Ref]*Tag{}
	for rows.Next() {
		var (
			key imageref.Ref
			tag Tag
		)
		if err := rows.Scan(&key.Registry, &key.Repository, &key.Tag, &tag.Digest, &tag.Problem); err != nil {
			return nil, fmt.Errorf("resolve tags: %w", err)
		}
		found[key] = &tag
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("resolve tags: %w", err)
	}
	for n, i := range images {
		out[n] = found[imageref.Ref{Registry: i.Registry, Repository: i.Repository, Tag: i.Tag}]
	}
	return out, nil
}

// ChangedDigests implements Store.
func (s *SQL) ChangedDigests(ctx context.Context, after int64, limit int) (digests []string, last int64, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT sequence, digest FROM verdicts WHERE sequence > $1 ORDER BY sequence LIMIT $2`, after, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("read changes: %w", err)
	}
	defer rows.Close()
	last = after
	for rows.Next() {
		var d string
		if err := rows.Scan(&last, &d); err != nil {
			return nil, 0, fmt.Errorf("read changes: %w", err)
		}
		digests = append(digests, d)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, fmt.Errorf("read changes: %w", err)
	}
	return digests, last, nil
}
