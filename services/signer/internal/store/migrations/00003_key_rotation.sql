-- +goose Up

ALTER TABLE signing_keys ADD COLUMN revoke_time BIGINT NOT NULL DEFAULT 0; -- 0: not revoked

-- One row for each request to rotate that was carried out.
CREATE TABLE key_rotations (
    request_id  TEXT   NOT NULL PRIMARY KEY,
    key_id      TEXT   NOT NULL, -- the key that was made for it
    rotate_time BIGINT NOT NULL
);

-- +goose Down
DROP TABLE key_rotations;
ALTER TABLE signing_keys DROP COLUMN revoke_time;
