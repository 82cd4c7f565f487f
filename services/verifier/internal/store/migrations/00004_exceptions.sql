-- +goose Up
CREATE TABLE exceptions (
    name        TEXT   PRIMARY KEY,
    -- 1 if it comes from a file.
    from_file   BIGINT NOT NULL,
    request_id  TEXT   NOT NULL,
    create_time BIGINT NOT NULL,
    -- The exception as its owner encoded it.
    body        BYTEA  NOT NULL
);

-- Images to judge again, because what they are judged by has changed. Worked off in
-- the order of their numbers.
CREATE TABLE reevaluations (
    revision     BIGINT PRIMARY KEY,
    cause        BIGINT NOT NULL,
    detail       TEXT   NOT NULL,
    -- Where the work has come to, in the order of (digest, registry, repository).
    digest       TEXT   NOT NULL,
    registry     TEXT   NOT NULL,
    repository   TEXT   NOT NULL
);

-- Who does what only one replica may do, and until when.
CREATE TABLE leases (
    name        TEXT   PRIMARY KEY,
    holder      TEXT   NOT NULL,
    expire_time BIGINT NOT NULL
);

-- Changes with everything that images are judged by besides evidence.
INSERT INTO counters (name, value) VALUES ('rules', 0);

CREATE INDEX images_by_expiry ON images (expire_time);
CREATE INDEX images_in_order ON images (digest, registry, repository);

-- +goose Down
DROP INDEX images_in_order;
DROP INDEX images_by_expiry;
DELETE FROM counters WHERE name = 'rules';
DROP TABLE leases;
DROP TABLE reevaluations;
DROP TABLE exceptions;
