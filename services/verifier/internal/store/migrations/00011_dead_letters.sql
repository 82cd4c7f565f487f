-- +goose Up
-- Messages that a service gave up on. The stream drops a letter when it is here.
CREATE TABLE dead_letters (
    sequence    BIGINT PRIMARY KEY,
    -- Who wrote it, by the subject that only that service may publish.
    service     TEXT   NOT NULL,
    -- Digest of the event id.
    event_id    TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    store_time  BIGINT NOT NULL,
    -- Length of the body in bytes.
    size        BIGINT NOT NULL,
    traceparent TEXT   NOT NULL,
    -- seaworthy.event.v1.DeadLetterEvent
    body        BYTEA  NOT NULL,
    UNIQUE (service, event_id)
);
-- The last sequence, and the bytes of all bodies.
INSERT INTO counters (name, value) VALUES ('dead-letter', 0), ('dead-letter-bytes', 0);

-- +goose Down
DELETE FROM counters WHERE name IN ('dead-letter', 'dead-letter-bytes');
DROP TABLE dead_letters;
