-- +goose Up
-- Why a verdict changed, in the numbers of VerdictChange.Cause; 0 was not recorded.
ALTER TABLE verdicts ADD COLUMN cause BIGINT NOT NULL DEFAULT 0;
ALTER TABLE verdicts ADD COLUMN cause_detail TEXT NOT NULL DEFAULT '';
CREATE INDEX verdicts_by_image ON verdicts (digest, sequence);

-- What verdicts were made from, by the digest of the content. Never updated.
CREATE TABLE documents (
    digest      TEXT   PRIMARY KEY,
    -- gzip of the content.
    body        BYTEA  NOT NULL,
    create_time BIGINT NOT NULL
);

-- +goose Down
DROP TABLE documents;
DROP INDEX verdicts_by_image;
ALTER TABLE verdicts DROP COLUMN cause_detail;
ALTER TABLE verdicts DROP COLUMN cause;
