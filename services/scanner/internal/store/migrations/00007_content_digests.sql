-- +goose Up
-- Digest of what rules can read of the report; empty for reports that were stored before.
ALTER TABLE reports ADD COLUMN content_digest TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE reports DROP COLUMN content_digest;
