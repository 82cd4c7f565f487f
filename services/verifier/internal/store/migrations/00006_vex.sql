-- +goose Up
-- Imported VEX documents with what proves who signed them. They are verified anew
-- whenever they are read.
CREATE TABLE vex_documents (
    -- SHA-256 of the document.
    digest      TEXT   PRIMARY KEY,
    -- 1 if it comes from a file.
    from_file   BIGINT NOT NULL,
    -- The document; empty if it is the predicate of the bundle's statement.
    document    BYTEA  NOT NULL,
    bundle      BYTEA  NOT NULL,
    import_time BIGINT NOT NULL
);

-- +goose Down
DROP TABLE vex_documents;
