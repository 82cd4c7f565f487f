-- +goose Up
-- images_in_order begins with the digest too.
DROP INDEX images_by_digest;

-- +goose Down
CREATE INDEX images_by_digest ON images (digest);
