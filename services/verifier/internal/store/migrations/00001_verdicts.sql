-- +goose Up
-- Every change of a verdict, in commit order. Never updated.
CREATE TABLE verdicts (
    sequence       BIGINT PRIMARY KEY,
    registry       TEXT   NOT NULL,
    repository     TEXT   NOT NULL,
    digest         TEXT   NOT NULL,
    state          BIGINT NOT NULL,
    previous_state BIGINT NOT NULL,
    verdict_digest TEXT   NOT NULL,
    change_key     TEXT   NOT NULL,
    trace_id       TEXT   NOT NULL,
    create_time    BIGINT NOT NULL,
    body           BYTEA  NOT NULL
);
CREATE INDEX verdicts_by_digest ON verdicts (verdict_digest);

-- What is known of an image now.
CREATE TABLE images (
    registry      TEXT   NOT NULL,
    repository    TEXT   NOT NULL,
    digest        TEXT   NOT NULL,
    -- Sequence and state of the newest verdict; 0 if there is none.
    sequence      BIGINT NOT NULL,
    state         BIGINT NOT NULL,
    verdict_time  BIGINT NOT NULL,
    -- End of the newest verdict; 0 if it has none.
    expire_time   BIGINT NOT NULL,
    -- Time of the push that waits for a verdict; 0 if none does.
    pending_time  BIGINT NOT NULL,
    PRIMARY KEY (registry, repository, digest)
);
CREATE INDEX images_by_digest ON images (digest);
CREATE INDEX images_by_sequence ON images (sequence);

-- What a tag meant at the last push that was reported.
CREATE TABLE tags (
    registry   TEXT   NOT NULL,
    repository TEXT   NOT NULL,
    tag        TEXT   NOT NULL,
    -- Empty while only the push of the tag is known, not yet its digest.
    digest     TEXT   NOT NULL,
    push_time  BIGINT NOT NULL,
    -- Why the digest never became known; empty otherwise.
    problem    TEXT   NOT NULL,
    PRIMARY KEY (registry, repository, tag)
);

-- Signing time of the newest report judged for a platform manifest.
CREATE TABLE report_times (
    digest    TEXT   PRIMARY KEY,
    sign_time BIGINT NOT NULL
);

-- Changes that were not published yet.
CREATE TABLE outbox (
    sequence BIGINT PRIMARY KEY,
    headers  TEXT   NOT NULL
);

-- The last good trust bundle of the signer.
CREATE TABLE trust_bundles (
    source     TEXT   PRIMARY KEY,
    body       BYTEA  NOT NULL,
    fetch_time BIGINT NOT NULL
);

-- The sequence is a row and no database sequence: it is taken under this row's
-- lock, so numbers become visible in their order and without gaps.
CREATE TABLE counters (
    name  TEXT   PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('verdict', 0);

-- +goose Down
DROP TABLE counters;
DROP TABLE trust_bundles;
DROP TABLE outbox;
DROP TABLE report_times;
DROP TABLE tags;
DROP TABLE images;
DROP TABLE verdicts;
