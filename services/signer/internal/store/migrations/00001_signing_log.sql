-- +goose Up

-- One row for each attestation. A row without done_time is an intent: its bundle
-- is signed and kept here before anything is written to a registry, so that every
-- later attempt writes the same bytes.
CREATE TABLE signing_log (
    entry_id        TEXT   NOT NULL PRIMARY KEY, -- derived from the next five columns
    registry        TEXT   NOT NULL,
    repository      TEXT   NOT NULL,
    subject_digest  TEXT   NOT NULL,
    predicate_type  TEXT   NOT NULL,
    content_key     TEXT   NOT NULL, -- digest of the report, document or verdict behind it
    content_digest  TEXT   NOT NULL, -- digest of the signed statement
    key_id          TEXT   NOT NULL,
    bundle          BYTEA  NOT NULL,
    sign_time       BIGINT NOT NULL, -- Unix nanoseconds, as all times here
    trace_id        TEXT   NOT NULL,
    manifest_digest TEXT   NOT NULL DEFAULT '',
    done_time       BIGINT NOT NULL DEFAULT 0 -- when it was read back from the registry
);

CREATE INDEX signing_log_subject ON signing_log (subject_digest, sign_time, entry_id);

CREATE TABLE signing_keys (
    key_id         TEXT   NOT NULL PRIMARY KEY,
    public_key_pem TEXT   NOT NULL,
    start_time     BIGINT NOT NULL, -- 0: not known
    end_time       BIGINT NOT NULL, -- 0: none
    seen_time      BIGINT NOT NULL  -- when the signer first started with it
);

-- +goose Down
DROP TABLE signing_keys;
DROP TABLE signing_log;
