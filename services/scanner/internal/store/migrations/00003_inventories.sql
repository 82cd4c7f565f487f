-- +goose Up
-- The newest report of an image: its packages are matched again when advisories
-- change.
CREATE TABLE inventories (
    image_digest  TEXT NOT NULL PRIMARY KEY,
    report_digest TEXT NOT NULL REFERENCES reports (digest),
    -- problems of the inventory alone, one a line
    problems      TEXT NOT NULL
);

-- From package to image.
CREATE TABLE inventory_packages (
    ecosystem    TEXT NOT NULL,
    name         TEXT NOT NULL,
    image_digest TEXT NOT NULL REFERENCES inventories (image_digest) ON DELETE CASCADE,
    PRIMARY KEY (ecosystem, name, image_digest)
);
CREATE INDEX inventory_packages_by_image ON inventory_packages (image_digest);

-- Images to match again. A round that ended removes the row only if nothing asked
-- for another meanwhile.
CREATE TABLE rematches (
    image_digest TEXT   NOT NULL PRIMARY KEY,
    round        BIGINT NOT NULL,
    lease_time   BIGINT NOT NULL
);

-- +goose Down
DROP TABLE rematches;
DROP TABLE inventory_packages;
DROP TABLE inventories;
