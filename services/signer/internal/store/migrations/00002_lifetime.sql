-- +goose Up

-- claim_time is when what the attestation says was found to be true: the end of a
-- scan, the evaluation of a verdict. 0: written by a release that did not keep it.
ALTER TABLE signing_log ADD COLUMN claim_time BIGINT NOT NULL DEFAULT 0;
-- superseded_time is when a later one of the same subject and type was done.
ALTER TABLE signing_log ADD COLUMN superseded_time BIGINT NOT NULL DEFAULT 0;
-- removal is empty, 'deleted' (from the registry) or 'kept' (it forbids deletes).
ALTER TABLE signing_log ADD COLUMN removal TEXT NOT NULL DEFAULT '';

CREATE INDEX signing_log_superseded ON signing_log (superseded_time, entry_id);

-- +goose Down
DROP INDEX signing_log_superseded;
ALTER TABLE signing_log DROP COLUMN removal;
ALTER TABLE signing_log DROP COLUMN superseded_time;
ALTER TABLE signing_log DROP COLUMN claim_time;
