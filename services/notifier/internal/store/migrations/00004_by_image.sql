-- +goose Up
-- The deliveries about an image, newest first.
CREATE INDEX deliveries_by_image ON deliveries (image_digest, created_at, delivery_id);

-- +goose Down
DROP INDEX deliveries_by_image;
