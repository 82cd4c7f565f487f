-- +goose Up
-- Distinct package versions, as far as findings and searches depend on them. Ids are
-- dense, so that a set of them is short; INTEGER is the row's own number in SQLite.
CREATE TABLE packages (
    id        INTEGER NOT NULL PRIMARY KEY,
    -- hash over the rest
    digest    BYTEA   NOT NULL UNIQUE,
    -- ecosystem without its release
    base      TEXT    NOT NULL,
    -- the name that advisories use, and the package's own
    name      TEXT    NOT NULL,
    own_name  TEXT    NOT NULL,
    ecosystem TEXT    NOT NULL,
    version   TEXT    NOT NULL,
    -- module and stream of an rpm package
    stream    TEXT    NOT NULL
);
CREATE INDEX packages_by_name ON packages (base, name);
CREATE INDEX packages_by_own_name ON packages (base, own_name);

-- What one layer brought that is in an image in the end. Images with the same layers
-- share their sets.
CREATE TABLE package_sets (
    id       INTEGER NOT NULL PRIMARY KEY,
    -- hash over the packages
    digest   BYTEA   NOT NULL UNIQUE,
    -- ids of the packages in order, each as a varint of its distance from the one before
    packages BYTEA   NOT NULL
);

-- In which blocks of 64 sets, by their ids, a package is.
CREATE TABLE package_blocks (
    package_id INTEGER NOT NULL,
    block      INTEGER NOT NULL,
    PRIMARY KEY (package_id, block)
);

-- The sets of an image. No foreign key to package_sets: a set that nobody has is removed
-- while others may come to have it, and a conflict must be one that is tried again.
CREATE TABLE inventory_sets (
    set_id       INTEGER NOT NULL,
    image_digest TEXT    NOT NULL REFERENCES inventories (image_digest) ON DELETE CASCADE,
    PRIMARY KEY (set_id, image_digest)
);
CREATE INDEX inventory_sets_by_image ON inventory_sets (image_digest, set_id);

-- The last ids that were given out.
CREATE TABLE index_ids (
    name TEXT    NOT NULL PRIMARY KEY,
    last BIGINT  NOT NULL
);
INSERT INTO index_ids (name, last) VALUES ('packages', 0), ('package_sets', 0);

-- inventory_packages stays: images that the release before indexed are found by it until
-- they are in the sets.

-- +goose Down
DROP TABLE index_ids;
DROP TABLE inventory_sets;
DROP TABLE package_blocks;
DROP TABLE package_sets;
DROP TABLE packages;
