-- +goose Up
-- What is known of the feeds that advisories are fetched from.
CREATE TABLE feeds (
    name        TEXT   NOT NULL PRIMARY KEY,
    -- SHA-256 of the content that the snapshot in use was built from
    digest      TEXT   NOT NULL,
    -- when it was last asked with success, and when it last changed
    check_time  BIGINT NOT NULL,
    change_time BIGINT NOT NULL,
    -- when it was last tried, and what went wrong then
    try_time    BIGINT NOT NULL,
    error       TEXT   NOT NULL
);

-- +goose Down
DROP TABLE feeds;
