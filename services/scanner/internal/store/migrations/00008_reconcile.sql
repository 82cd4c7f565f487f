-- +goose Up
CREATE INDEX scans_by_tag ON scans (registry, repository, tag, create_time);

-- Images that were scanned and that their registry does not have any more.
CREATE TABLE absences (
    registry   TEXT   NOT NULL,
    repository TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    -- when the registry first said so, and when everybody was told
    first_time BIGINT NOT NULL,
    told_time  BIGINT NOT NULL,
    PRIMARY KEY (registry, repository, digest)
);

-- When a registry was last compared with the scans.
CREATE TABLE reconciliations (
    registry TEXT   NOT NULL PRIMARY KEY,
    end_time BIGINT NOT NULL
);

-- +goose Down
DROP TABLE reconciliations;
DROP TABLE absences;
DROP INDEX scans_by_tag;
