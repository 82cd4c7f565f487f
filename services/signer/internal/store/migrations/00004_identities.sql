-- +goose Up

-- identity is the name of what signed in the configuration; empty for the keys of
-- the key store.
ALTER TABLE signing_log ADD COLUMN identity TEXT NOT NULL DEFAULT '';
-- log_index is the place in a transparency log; -1: it is in none.
ALTER TABLE signing_log ADD COLUMN log_index BIGINT NOT NULL DEFAULT -1;
-- proven_time is when it was signed, as a timestamp authority or a log says; 0: nobody does.
ALTER TABLE signing_log ADD COLUMN proven_time BIGINT NOT NULL DEFAULT 0;

ALTER TABLE signing_keys ADD COLUMN identity TEXT NOT NULL DEFAULT ''; -- as in signing_log

-- +goose Down
ALTER TABLE signing_keys DROP COLUMN identity;
ALTER TABLE signing_log DROP COLUMN proven_time;
ALTER TABLE signing_log DROP COLUMN log_index;
ALTER TABLE signing_log DROP COLUMN identity;
