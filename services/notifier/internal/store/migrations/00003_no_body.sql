-- +goose Up

-- What is sent is rendered from the event at each attempt.
ALTER TABLE deliveries DROP COLUMN body;

-- +goose Down
ALTER TABLE deliveries ADD COLUMN body BYTEA NOT NULL DEFAULT '';
