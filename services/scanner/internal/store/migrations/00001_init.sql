-- +goose Up
CREATE TABLE scans (
    id            TEXT   NOT NULL PRIMARY KEY,
    registry      TEXT   NOT NULL,
    repository    TEXT   NOT NULL,
    tag           TEXT   NOT NULL,
    digest        TEXT   NOT NULL,
    state         BIGINT NOT NULL,
    error_reason  TEXT   NOT NULL,
    error_message TEXT   NOT NULL,
    trace_id      TEXT   NOT NULL,
    create_time   BIGINT NOT NULL,
    end_time      BIGINT NOT NULL
);
CREATE INDEX scans_by_image ON scans (registry, repository, digest, create_time);

CREATE TABLE reports (
    digest          TEXT   NOT NULL PRIMARY KEY,
    image_digest    TEXT   NOT NULL,
    snapshot_digest TEXT   NOT NULL,
    scanner_version TEXT   NOT NULL,
    os              TEXT   NOT NULL,
    architecture    TEXT   NOT NULL,
    variant         TEXT   NOT NULL,
    -- zstd of the canonical JSON
    content         BYTEA  NOT NULL,
    create_time     BIGINT NOT NULL,
    UNIQUE (image_digest, snapshot_digest, scanner_version)
);

CREATE TABLE scan_reports (
    scan_id       TEXT   NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    position      BIGINT NOT NULL,
    image_digest  TEXT   NOT NULL,
    report_digest TEXT   NOT NULL REFERENCES reports (digest),
    PRIMARY KEY (scan_id, position)
);
CREATE INDEX scan_reports_by_image ON scan_reports (image_digest);

CREATE TABLE tags (
    registry   TEXT   NOT NULL,
    repository TEXT   NOT NULL,
    tag        TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    scan_time  BIGINT NOT NULL,
    PRIMARY KEY (registry, repository, tag)
);

CREATE TABLE snapshots (
    digest         TEXT   NOT NULL PRIMARY KEY,
    advisory_count BIGINT NOT NULL,
    create_time    BIGINT NOT NULL
);

-- A snapshot's bytes, in pieces that every engine takes easily.
CREATE TABLE snapshot_chunks (
    digest   TEXT   NOT NULL REFERENCES snapshots (digest) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    content  BYTEA  NOT NULL,
    PRIMARY KEY (digest, position)
);

-- One row: the snapshot in use.
CREATE TABLE current_snapshot (
    id     BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    digest TEXT   NOT NULL REFERENCES snapshots (digest)
);

-- +goose Down
DROP TABLE current_snapshot;
DROP TABLE snapshot_chunks;
DROP TABLE snapshots;
DROP TABLE tags;
DROP TABLE scan_reports;
DROP TABLE reports;
DROP TABLE scans;
