-- +goose Up

-- One row per notification to one subscriber. Times are Unix nanoseconds, 0 is none.
CREATE TABLE deliveries (
    delivery_id     TEXT   NOT NULL PRIMARY KEY,
    event_id        TEXT   NOT NULL,
    subscription    TEXT   NOT NULL,
    image_digest    TEXT   NOT NULL,
    trace_id        TEXT   NOT NULL,
    -- Trace context of the consumer: an attempt after a restart is still in the trace.
    traceparent     TEXT   NOT NULL,
    -- What is sent; the same bytes at every attempt.
    body            BYTEA  NOT NULL,
    -- The event it was made from and where it came from, for the dead letter.
    event           BYTEA  NOT NULL,
    event_stream    TEXT   NOT NULL,
    event_sequence  BIGINT NOT NULL,
    -- 1 pending, 2 delivered, 3 failed.
    state           BIGINT NOT NULL,
    attempts        BIGINT NOT NULL DEFAULT 0,
    -- Position in the schedule; back to 0 when a delivery is made due again by hand.
    step            BIGINT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT NOT NULL,
    -- While the lease runs, the delivery belongs to the worker that knows the token.
    lease_until     BIGINT NOT NULL DEFAULT 0,
    lease_token     TEXT   NOT NULL DEFAULT '',
    last_error      TEXT   NOT NULL DEFAULT '',
    last_status     BIGINT NOT NULL DEFAULT 0,
    -- Why it was given up; the dead letter is owed until dead_lettered is 1.
    give_up_reason  TEXT   NOT NULL DEFAULT '',
    dead_lettered   BIGINT NOT NULL DEFAULT 0,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    UNIQUE (event_id, subscription)
);

CREATE INDEX deliveries_due ON deliveries (subscription, state, next_attempt_at);
CREATE INDEX deliveries_newest ON deliveries (created_at, delivery_id);
CREATE INDEX deliveries_ended ON deliveries (state, dead_lettered, updated_at);

-- Subscriptions that answered 410. A row counts only while the address is the same.
CREATE TABLE gone_subscriptions (
    subscription TEXT   NOT NULL PRIMARY KEY,
    url_hash     TEXT   NOT NULL,
    gone_at      BIGINT NOT NULL
);

-- +goose Down
DROP TABLE gone_subscriptions;
DROP TABLE deliveries;
