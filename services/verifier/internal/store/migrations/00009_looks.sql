-- +goose Up
-- Manifests whose registry is to be read again. There is one row for each, so that
-- many hints about an image are one look.
CREATE TABLE looks (
    registry     TEXT   NOT NULL,
    repository   TEXT   NOT NULL,
    digest       TEXT   NOT NULL,
    -- When to look; 0 if nothing is planned.
    due_time     BIGINT NOT NULL,
    -- When the registry was last read because of this row; 0 for never.
    look_time    BIGINT NOT NULL,
    -- Newest hint that no verdict has taken into account; 0 for none.
    hint_time    BIGINT NOT NULL,
    -- Since when required evidence is missing; 0 if none is.
    missing_time BIGINT NOT NULL,
    -- When the registry first said that the manifest does not exist; 0 if it has not.
    gone_time    BIGINT NOT NULL,
    -- Looks since then, or since the last that did what it was to do.
    attempt      BIGINT NOT NULL,
    PRIMARY KEY (registry, repository, digest)
);
CREATE INDEX looks_by_due ON looks (due_time);

-- The platform manifests of the indexes that were judged.
CREATE TABLE image_platforms (
    registry   TEXT NOT NULL,
    repository TEXT NOT NULL,
    platform   TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (registry, repository, platform, digest)
);

-- +goose Down
DROP TABLE image_platforms;
DROP TABLE looks;
