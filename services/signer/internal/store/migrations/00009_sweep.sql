-- +goose Up
-- What the sweep looks for; the log itself only grows.
CREATE INDEX signing_log_sweep ON signing_log (entry_id) WHERE superseded_time > 0 AND removal = '';
DROP INDEX signing_log_superseded;

-- +goose Down
CREATE INDEX signing_log_superseded ON signing_log (superseded_time, entry_id);
DROP INDEX signing_log_sweep;
