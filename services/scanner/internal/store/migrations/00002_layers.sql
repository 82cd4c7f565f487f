-- +goose Up
-- What was found in a layer, shared by every image that has it.
CREATE TABLE layers (
    digest      TEXT   NOT NULL,
    extractors  TEXT   NOT NULL,
    content     BYTEA  NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (digest, extractors)
);

-- +goose Down
DROP TABLE layers;
