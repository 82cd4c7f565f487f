-- +goose Up
-- Attestations are attached in a repository: an image that was copied to another
-- one has reports of its own there, with times of their own. The rows so far do
-- not tell the repository; the next verdicts write them anew.
DROP TABLE report_times;
CREATE TABLE report_times (
    registry   TEXT   NOT NULL,
    repository TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    sign_time  BIGINT NOT NULL,
    PRIMARY KEY (registry, repository, digest)
);

-- +goose Down
DROP TABLE report_times;
CREATE TABLE report_times (
    digest    TEXT   PRIMARY KEY,
    sign_time BIGINT NOT NULL
);
