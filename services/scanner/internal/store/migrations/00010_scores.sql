-- +goose Up
-- When the lists of scores in the snapshot in use were made, by list: an older one is
-- refused.
CREATE TABLE score_lists (
    name      TEXT   NOT NULL PRIMARY KEY,
    data_time BIGINT NOT NULL
);

-- +goose Down
DROP TABLE score_lists;
