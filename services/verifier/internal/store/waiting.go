package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// UnknownContent is the content of a report of which only the time is known: no report
// that was judged equals it.
const UnknownContent = "unknown"

// EveryPlatform stands for all platform manifests of an image where they are not known.
const EveryPlatform = "*"

// Scan is a scan that ended with a report for each platform manifest.
type Scan struct {
	// Image by digest, in its repository.
	Image imageref.Ref
	// Time is when the scan ended.
	Time time.Time
	// Contents are the digests of what rules can read of the reports, by the digest of
	// the platform manifest.
	Contents map[string]string
}

// Judged is what the report of one platform manifest said that a verdict was made from.
type Judged struct {
	// ScanTime is when its scan ended.
	ScanTime time.Time
	// Content is the digest of what rules can read of it.
	Content string
}

// Waiting is a scan report that differs from what was judged.
type Waiting struct {
	Image imageref.Ref
	// FirstScan is when the scan of the first such report ended; Since is when the
	// verifier learned of it.
	FirstScan, Since time.Time
	// OverdueTime is when it should have been judged.
	OverdueTime time.Time
	// Problem is why a step gave up on it; empty if none did.
	Problem string
}

// OverdueError says that a verdict must not be stored: a newer report says something
// else and should have been judged by now.
type OverdueError struct{ Waiting }

// Error implements error.
func (e *OverdueError) Error() string {
	return fmt.Sprintf("a newer scan report of %s is overdue since %s", e.Image.Digest, e.OverdueTime.UTC().Format(time.RFC3339))
}

// Backlog counts reports that wait.
type Backlog struct {
	// Late wait for longer than they should, Oldest is since when the first does.
	Late   int64
	Oldest time.Time
	// Overdue images have a verdict that is UNKNOWN because of it.
	Overdue int64
	// Recent are those of them that became so within the last hour.
	Recent int64
	// Unreadable images could not be judged by the rules in force and are tried again.
	Unreadable int64
}

// judgedReport is the stored form of Judged.
type judgedReport struct {
	Time    int64  `json:"t"`
	Content string `json:"c"`
}

// waitingRow is a row of waiting_reports.
type waitingRow struct {
	firstScan, since, newestScan, newestSince, overdue int64
	contents                                           map[string]string
	problem                                            string
	recorded                                           bool
}

func (w *waitingRow) waiting(image imageref.Ref) Waiting {
	return Waiting{
		Image: image, FirstScan: sqldb.FromTime(w.firstScan), Since: sqldb.FromTime(w.since),
		OverdueTime: sqldb.FromTime(w.overdue), Problem: w.problem,
	}
}

// judgedSince tells whether the evidence is of scans no older than a time.
func judgedSince(evidence map[string]judgedReport, contents map[string]string, scan int64) bool {
	if _, ok := contents[EveryPlatform]; ok {
		contents = everyPlatform(evidence)
	}
	for platform := range contents {
		if j, ok := evidence[platform]; !ok || j.Time < scan {
			return false
		}
	}
	return true
}

// covers tells whether the evidence says what the scan says, or is newer. What is equal
// is from then on as good as of that scan.
func covers(evidence map[string]judgedReport, contents map[string]string, scan int64) bool {
	if _, ok := contents[EveryPlatform]; ok {
		contents = everyPlatform(evidence)
	}
	for platform, content := range contents {
		j, ok := evidence[platform]
		if !ok || j.Time < scan && (j.Content == "" || j.Content != content) {
			return false
		}
	}
	for platform := range contents {
		if j := evidence[platform]; j.Time < scan {
			j.Time = scan
			evidence[platform] = j
		}
	}
	return true
}

// everyPlatform says of each platform that is judged that its content is not known, and
// of none that something is missing.
func everyPlatform(evidence map[string]judgedReport) map[string]string {
	out := make(map[string]string, max(1, len(evidence)))
	for platform := range evidence {
		out[platform] = UnknownContent
	}
	if len(out) == 0 {
		out["none"] = UnknownContent
	}
	return out
}

func lockVerdicts(ctx context.Context, tx *sql.Tx) error {
	var last int64
	if err := tx.QueryRowContext(ctx, `UPDATE counters SET value = value WHERE name = 'verdict' RETURNING value`).Scan(&last); err != nil {
		return fmt.Errorf("lock verdicts: %w", err)
	}
	return nil
}

// RecordScan implements Store.
func (s *SQL) RecordScan(ctx context.Context, scan Scan, learned time.Time, patience time.Duration) error {
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		if err := lockVerdicts(ctx, tx); err != nil {
			return err
		}
		return recordScan(ctx, tx, scan, learned, patience)
	})
	if err != nil {
		return fmt.Errorf("record scan: %w", err)
	}
	return nil
}

func recordScan(ctx context.Context, tx *sql.Tx, scan Scan, learned time.Time, patience time.Duration) error {
	image, at := scan.Image, sqldb.Time(scan.Time)
	w, err := readWaiting(ctx, tx, image)
	if err != nil {
		return err
	}
	if w != nil && at <= w.newestScan {
		return nil
	}
	evidence, err := readEvidence(ctx, tx, image)
	if err != nil {
		return err
	}
	if covers(evidence, scan.Contents, at) {
		if err := writeEvidence(ctx, tx, image, evidence); err != nil {
			return err
		}
		if w == nil {
			return nil
		}
		if w.recorded {
			// The verdict is UNKNOWN, and nothing else would make it again.
			err := scheduleRetry(ctx, tx, Retry{Image: image, Cause: Cause{Kind: core.CauseEvidence, Detail: "the newest scan report says what was judged"}, NextTime: learned})
			if err != nil {
				return err
			}
		}
		return endWaiting(ctx, tx, image)
	}
	if w == nil {
		w = &waitingRow{firstScan: at, since: sqldb.Time(learned), overdue: sqldb.Time(learned.Add(patience))}
	}
	w.newestScan, w.newestSince, w.contents = at, sqldb.Time(learned), scan.Contents
	return writeWaiting(ctx, tx, image, w)
}

// GiveUp implements Store.
func (s *SQL) GiveUp(ctx context.Context, image imageref.Ref, scan time.Time, problem string, now time.Time) (waits bool, err error) {
	err = s.db.InTx(ctx, func(tx *sql.Tx) error {
		waits = false
		if err := lockVerdicts(ctx, tx); err != nil {
			return err
		}
		w, err := readWaiting(ctx, tx, image)
		if err != nil || w == nil || sqldb.Time(scan) < w.firstScan {
			return err
		}
		waits = true
		if w.problem != "" && w.overdue <= sqldb.Time(now) {
			return nil
		}
		w.overdue, w.problem = min(w.overdue, sqldb.Time(now)), problem
		return writeWaiting(ctx, tx, image, w)
	})
	if err != nil {
		return false, fmt.Errorf("give a report up: %w", err)
	}
	return waits, nil
}

// Overtake implements Store.
func (s *SQL) Overtake(ctx context.Context, after time.Duration) ([]imageref.Ref, error) {
	// A look without a lock: there is nothing to do nearly always.
	overtaken, err := s.refs(ctx, `
		SELECT registry, repository, digest FROM waiting_reports
		WHERE overdue_time > since + $1 AND first_scan < (SELECT COALESCE(MAX(scan_time), 0) FROM images)
		ORDER BY first_scan LIMIT 1000`, int64(after))
	if err != nil || len(overtaken) == 0 {
		return nil, err
	}
	var out []imageref.Ref
	err = s.db.InTx(ctx, func(tx *sql.Tx) error {
		out = nil
		if err := lockVerdicts(ctx, tx); err != nil {
			return err
		}
		for _, image := range overtaken {
			w, err := readWaiting(ctx, tx, image)
			if err != nil {
				return err
			}
			if w == nil || w.overdue <= w.since+int64(after) {
				continue
			}
			w.overdue = w.since + int64(after)
			if err := writeWaiting(ctx, tx, image, w); err != nil {
				return err
			}
			out = append(out, image)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("overtake reports: %w", err)
	}
	return out, nil
}

// Overdue implements Store.
func (s *SQL) Overdue(ctx context.Context, now time.Time, limit int) ([]Waiting, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT w.registry, w.repository, w.digest, w.first_scan, w.since, w.overdue_time, w.problem FROM waiting_reports w
		JOIN images i ON i.registry = w.registry AND i.repository = w.repository AND i.digest = w.digest
		WHERE w.overdue_time <= $1 AND w.recorded = 0 AND i.sequence > 0 ORDER BY w.overdue_time LIMIT $2`, sqldb.Time(now), limit)
	if err != nil {
		return nil, fmt.Errorf("list overdue images: %w", err)
	}
	defer rows.Close()
	var out []Waiting
	for rows.Next() {
		var (
			image imageref.Ref
			w     waitingRow
		)
		if err := rows.Scan(&image.Registry, &image.Repository, &image.Digest, &w.firstScan, &w.since, &w.overdue, &w.problem); err != nil {
			return nil, fmt.Errorf("list overdue images: %w", err)
		}
		out = append(out, w.waiting(image))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list overdue images: %w", err)
	}
	return out, nil
}

// Backlog implements Store.
func (s *SQL) Backlog(ctx context.Context, now time.Time, late time.Duration) (Backlog, error) {
	var (
		b      Backlog
		oldest int64
	)
	err := s.db.QueryRowContext(ctx, `
		SELECT COALESCE(SUM(CASE WHEN w.since <= $1 THEN 1 ELSE 0 END), 0),
			COALESCE(MIN(CASE WHEN w.since <= $1 THEN w.since END), 0),
			COALESCE(SUM(CASE WHEN w.overdue_time <= $2 AND i.sequence > 0 THEN 1 ELSE 0 END), 0),
			COALESCE(SUM(CASE WHEN w.overdue_time <= $2 AND w.overdue_time > $3 AND i.sequence > 0 THEN 1 ELSE 0 END), 0),
			(SELECT COUNT(*) FROM retries WHERE attempts > 0)
		FROM waiting_reports w
		LEFT JOIN images i ON i.registry = w.registry AND i.repository = w.repository AND i.digest = w.digest`,
		sqldb.Time(now.Add(-late)), sqldb.Time(now), sqldb.Time(now.Add(-time.Hour))).Scan(&b.Late, &oldest, &b.Overdue, &b.Recent, &b.Unreadable)
	if err != nil {
		return Backlog{}, fmt.Errorf("count waiting reports: %w", err)
	}
	b.Oldest = sqldb.FromTime(oldest)
	return b, nil
}

// checkWaiting decides, before a verdict is stored, whether a report that waits allows
// it. It returns when the evidence becomes overdue, 0 for never, and what the image's
// evidence is now.
func checkWaiting(ctx context.Context, tx *sql.Tx, v NewVerdict) (overdue int64, evidence map[string]judgedReport, err error) {
	if evidence, err = readEvidence(ctx, tx, v.Image); err != nil {
		return 0, nil, err
	}
	if v.Evidence != nil {
		before := evidence
		evidence = make(map[string]judgedReport, len(v.Evidence))
		for platform, j := range v.Evidence {
			e := judgedReport{Time: sqldb.Time(j.ScanTime), Content: j.Content}
			if b := before[platform]; b.Content != "" && b.Content == e.Content {
				e.Time = max(e.Time, b.Time)
			}
			evidence[platform] = e
		}
	}
	w, err := readWaiting(ctx, tx, v.Image)
	if err != nil {
		return 0, nil, err
	}
	if v.Overdue && (w == nil || w.overdue > sqldb.Time(v.CreateTime)) {
		return 0, nil, fmt.Errorf("%w: the evidence is no longer overdue", ErrConflict)
	}
	if w == nil {
		return 0, evidence, nil
	}
	if v.Evidence != nil {
		if covers(evidence, w.contents, w.newestScan) {
			return 0, evidence, endWaiting(ctx, tx, v.Image)
		}
		if judgedSince(evidence, w.contents, w.firstScan) && w.firstScan < w.newestScan {
			// The first one was judged; now it is a later one that waits.
			w.firstScan, w.since = w.newestScan, w.newestSince
			if w.problem == "" {
				w.overdue, w.recorded = w.since+int64(v.Patience), false
			}
			if err := writeWaiting(ctx, tx, v.Image, w); err != nil {
				return 0, nil, err
			}
		}
	}
	if v.Overdue {
		w.recorded = true
		return w.overdue, evidence, writeWaiting(ctx, tx, v.Image, w)
	}
	if w.overdue <= sqldb.Time(v.CreateTime) {
		return 0, nil, &OverdueError{w.waiting(v.Image)}
	}
	return w.overdue, evidence, nil
}

func readWaiting(ctx context.Context, tx *sql.Tx, image imageref.Ref) (*waitingRow, error) {
	var (
		w        waitingRow
		contents string
		recorded int64
	)
	err := tx.QueryRowContext(ctx, `
		SELECT first_scan, since, newest_scan, newest_since, contents, overdue_time, problem, recorded FROM waiting_reports
		WHERE registry = $1 AND repository = $2 AND digest = $3`, image.Registry, image.Repository, image.Digest).
		Scan(&w.firstScan, &w.since, &w.newestScan, &w.newestSince, &contents, &w.overdue, &w.problem, &recorded)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // no report waits
	}
	if err != nil {
		return nil, fmt.Errorf("read waiting report: %w", err)
	}
	if err := json.Unmarshal([]byte(contents), &w.contents); err != nil {
		return nil, fmt.Errorf("contents of waiting report: %w", err)
	}
	w.recorded = recorded != 0
	return &w, nil
}

// writeWaiting stores a row, and with the image when its evidence becomes overdue.
func writeWaiting(ctx context.Context, tx *sql.Tx, image imageref.Ref, w *waitingRow) error {
	contents, err := json.Marshal(w.contents)
	if err != nil {
		return err
	}
	recorded := int64(0)
	if w.recorded {
		recorded = 1
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO waiting_reports (registry, repository, digest, first_scan, since, newest_scan, newest_since, contents, overdue_time, problem, recorded)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (registry, repository, digest) DO UPDATE SET first_scan = excluded.first_scan, since = excluded.since,
			newest_scan = excluded.newest_scan, newest_since = excluded.newest_since, contents = excluded.contents,
			overdue_time = excluded.overdue_time, problem = excluded.problem, recorded = excluded.recorded`,
		image.Registry, image.Repository, image.Digest, w.firstScan, w.since, w.newestScan, w.newestSince, string(contents), w.overdue, w.problem, recorded)
	if err != nil {
		return fmt.Errorf("write waiting report: %w", err)
	}
	return setOverdue(ctx, tx, image, w.overdue)
}

func endWaiting(ctx context.Context, tx *sql.Tx, image imageref.Ref) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM waiting_reports WHERE registry = $1 AND repository = $2 AND digest = $3`,
		image.Registry, image.Repository, image.Digest)
	if err != nil {
		return fmt.Errorf("end waiting: %w", err)
	}
	return setOverdue(ctx, tx, image, 0)
}

func setOverdue(ctx context.Context, tx *sql.Tx, image imageref.Ref, at int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE images SET overdue_time = $1 WHERE registry = $2 AND repository = $3 AND digest = $4`,
		at, image.Registry, image.Repository, image.Digest)
	if err != nil {
		return fmt.Errorf("set when evidence is overdue: %w", err)
	}
	return nil
}

func readEvidence(ctx context.Context, tx *sql.Tx, image imageref.Ref) (map[string]judgedReport, error) {
	var text string
	err := tx.QueryRowContext(ctx, `SELECT evidence FROM images WHERE registry = $1 AND repository = $2 AND digest = $3`,
		image.Registry, image.Repository, image.Digest).Scan(&text)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read evidence of image: %w", err)
	}
	out := map[string]judgedReport{}
	if text == "" {
		return out, nil
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		// What cannot be read covers no report. The next verdict writes it anew.
		return map[string]judgedReport{}, nil //nolint:nilerr // as said
	}
	return out, nil
}

func writeEvidence(ctx context.Context, tx *sql.Tx, image imageref.Ref, evidence map[string]judgedReport) error {
	text, err := json.Marshal(evidence)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE images SET evidence = $1 WHERE registry = $2 AND repository = $3 AND digest = $4`,
		string(text), image.Registry, image.Repository, image.Digest)
	if err != nil {
		return fmt.Errorf("write evidence of image: %w", err)
	}
	return nil
}

// firstScan is the first time that evidence was scanned at; 0 if there is none.
func firstScan(evidence map[string]Judged) int64 {
	first := int64(0)
	for _, j := range evidence {
		if at := sqldb.Time(j.ScanTime); first == 0 || at < first {
			first = at
		}
	}
	return first
}
