-- +goose Up
-- Every version of every policy. Never updated.
CREATE TABLE policy_versions (
    name         TEXT   NOT NULL,
    version      BIGINT NOT NULL,
    -- 1 if it comes from a file.
    from_file   BIGINT NOT NULL,
    -- 1 for the version that took the policy out of force.
    deleted     BIGINT NOT NULL,
    request_id  TEXT   NOT NULL,
    actor       TEXT   NOT NULL,
    create_time BIGINT NOT NULL,
    digest      TEXT   NOT NULL,
    document    TEXT   NOT NULL,
    -- The globs of the document, as a JSON list.
    repositories TEXT  NOT NULL,
    PRIMARY KEY (name, version)
);

-- The versions in force.
CREATE TABLE policies (
    name    TEXT   PRIMARY KEY,
    version BIGINT NOT NULL
);

-- Unpublished audit records.
CREATE TABLE audit_outbox (
    id          TEXT   PRIMARY KEY,
    create_time BIGINT NOT NULL,
    actor       TEXT   NOT NULL,
    action      TEXT   NOT NULL,
    resource    TEXT   NOT NULL,
    -- The trace context of the call.
    headers     TEXT   NOT NULL
);

-- Which images to judge again, as a JSON list of globs over registry/repository;
-- empty is all.
ALTER TABLE reevaluations ADD COLUMN repositories TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE reevaluations DROP COLUMN repositories;
DROP TABLE audit_outbox;
DROP TABLE policies;
DROP TABLE policy_versions;
