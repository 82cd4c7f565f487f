-- +goose Up
-- What is in force of a line is looked up for every claim and every attestation that is
-- done. Without this index the database goes through all that is in force anywhere.
CREATE INDEX signing_log_line ON signing_log (subject_digest, repository, registry, predicate_type, identity);

-- +goose Down
DROP INDEX signing_log_line;
