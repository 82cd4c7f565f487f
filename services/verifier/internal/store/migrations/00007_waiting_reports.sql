-- +goose Up
-- What the newest verdict from evidence rests on: for each platform manifest the time of
-- the scan and the digest of what rules can read of its report, as JSON.
ALTER TABLE images ADD COLUMN evidence TEXT NOT NULL DEFAULT '';
-- The first of those times; 0 if there is none.
ALTER TABLE images ADD COLUMN scan_time BIGINT NOT NULL DEFAULT 0;
-- When the evidence becomes overdue; 0 while no report waits.
ALTER TABLE images ADD COLUMN overdue_time BIGINT NOT NULL DEFAULT 0;
-- Sequence of the newest verdict that subscribers were told of; 0 if that is the newest.
ALTER TABLE images ADD COLUMN told_sequence BIGINT NOT NULL DEFAULT 0;
CREATE INDEX images_by_scan ON images (scan_time);

-- Scan reports that say something else than what was judged, one an image.
CREATE TABLE waiting_reports (
    registry     TEXT   NOT NULL,
    repository   TEXT   NOT NULL,
    digest       TEXT   NOT NULL,
    -- The first report that was not judged: when the scan ended, and when the verifier
    -- learned of it.
    first_scan   BIGINT NOT NULL,
    since        BIGINT NOT NULL,
    -- The newest one, and what it says: digests by platform manifest, as JSON.
    newest_scan  BIGINT NOT NULL,
    newest_since BIGINT NOT NULL,
    contents     TEXT   NOT NULL,
    overdue_time BIGINT NOT NULL,
    -- Why a step gave up on it; empty if none did.
    problem      TEXT   NOT NULL,
    -- 1 once a verdict says that the evidence is overdue.
    recorded     BIGINT NOT NULL,
    PRIMARY KEY (registry, repository, digest)
);
CREATE INDEX waiting_reports_by_time ON waiting_reports (overdue_time);

-- Images to judge again, by themselves, because it could not be done.
CREATE TABLE retries (
    registry   TEXT   NOT NULL,
    repository TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    cause      BIGINT NOT NULL,
    detail     TEXT   NOT NULL,
    problem    TEXT   NOT NULL,
    attempts   BIGINT NOT NULL,
    next_time  BIGINT NOT NULL,
    PRIMARY KEY (registry, repository, digest)
);
CREATE INDEX retries_by_time ON retries (next_time);

-- State that subscribers knew before; 0 if it is the one before the change.
ALTER TABLE outbox ADD COLUMN told_state BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE outbox DROP COLUMN told_state;
DROP TABLE retries;
DROP TABLE waiting_reports;
DROP INDEX images_by_scan;
ALTER TABLE images DROP COLUMN told_sequence;
ALTER TABLE images DROP COLUMN overdue_time;
ALTER TABLE images DROP COLUMN scan_time;
ALTER TABLE images DROP COLUMN evidence;
