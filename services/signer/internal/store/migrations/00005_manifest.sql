-- +goose Up
-- manifest is the manifest of the referrer, which names the signed bundle by its
-- digest. The bundle is in the repository before its row is here, and bundle is empty;
-- rows of older releases have it the other way round.
ALTER TABLE signing_log ADD COLUMN manifest BYTEA NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE signing_log DROP COLUMN manifest;
