-- +goose Up
-- Images by what their layers are, and what each was built on: decided when it was
-- first scanned, and never again.
CREATE TABLE images (
    image_digest TEXT   NOT NULL PRIMARY KEY,
    -- hash over the digests of all layers
    chain        TEXT   NOT NULL,
    layer_count  BIGINT NOT NULL,
    base_name    TEXT   NOT NULL,
    base_digest  TEXT   NOT NULL,
    base_layers  BIGINT NOT NULL,
    create_time  BIGINT NOT NULL
);
CREATE INDEX images_by_chain ON images (chain, create_time);

-- Which layers images have: what was found in others can be removed.
CREATE TABLE image_layers (
    layer_digest TEXT NOT NULL,
    image_digest TEXT NOT NULL REFERENCES images (image_digest) ON DELETE CASCADE,
    PRIMARY KEY (layer_digest, image_digest)
);
CREATE INDEX image_layers_by_image ON image_layers (image_digest);
CREATE INDEX layers_by_time ON layers (create_time);

-- +goose Down
DROP INDEX layers_by_time;
DROP TABLE image_layers;
DROP TABLE images;
