-- Outbox, schema version 1. Times are µs since 1970. Never edit this script: append another.
-- The parts of each duty: who has claimed it, and how far watching has come.
CREATE TABLE shards (
    duty TEXT NOT NULL,
    shard INTEGER NOT NULL,
    -- That of the last claim; 0 before the first.
    token INTEGER NOT NULL DEFAULT 0,
    -- Missing if it was given back.
    owner BLOB,
    until INTEGER NOT NULL DEFAULT 0,
    place BLOB,
    PRIMARY KEY (duty, shard)
) STRICT, WITHOUT ROWID;

-- What rules know of devices.
CREATE TABLE states (
    duty TEXT NOT NULL,
    shard INTEGER NOT NULL,
    device TEXT NOT NULL,
    rule TEXT NOT NULL,
    version INTEGER NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (duty, shard, device, rule)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    -- The order in which they were entered.
    n INTEGER NOT NULL PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    -- Of the duty of routing.
    shard INTEGER NOT NULL,
    routed INTEGER NOT NULL DEFAULT 0,
    entered_at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    device TEXT,
    -- All of it, as JSON.
    event TEXT NOT NULL
) STRICT;
CREATE INDEX events_unrouted ON events (shard, n) WHERE NOT routed;
CREATE INDEX events_by_time ON events (entered_at, id);
CREATE INDEX events_by_device ON events (device, entered_at, id) WHERE device IS NOT NULL;
CREATE INDEX events_by_kind ON events (kind, entered_at, id);

-- Subscriptions that ever had a delivery.
CREATE TABLE queues (
    subscription BLOB NOT NULL PRIMARY KEY CHECK (length(subscription) = 16),
    -- Of the duty of delivering.
    shard INTEGER NOT NULL,
    -- The last position that was given.
    position INTEGER NOT NULL,
    -- How many deliveries wait.
    pending INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX queues_waiting ON queues (shard, subscription) WHERE pending > 0;

CREATE TABLE deliveries (
    n INTEGER NOT NULL PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    subscription BLOB NOT NULL CHECK (length(subscription) = 16),
    phone BLOB,
    position INTEGER NOT NULL,
    -- 0 pending, 1 delivered, 2 dead, 3 dropped.
    state INTEGER NOT NULL,
    -- How many events are told of together.
    events INTEGER NOT NULL DEFAULT 1,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    last TEXT,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    -- All of it, as JSON.
    event TEXT NOT NULL
) STRICT;
CREATE INDEX deliveries_pending ON deliveries (subscription, position, attempts, next_at) WHERE state = 0;
CREATE INDEX deliveries_by_state ON deliveries (state, created_at, id);
CREATE INDEX deliveries_by_subscription ON deliveries (subscription, state, created_at, id);
CREATE INDEX deliveries_finished ON deliveries (finished_at) WHERE finished_at IS NOT NULL;

-- Deliveries that were made and taken up by one that waited.
CREATE TABLE merged (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    delivery BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX merged_by_delivery ON merged (delivery);

-- What is told of together: when the next delivery may go, and the last one that was made.
CREATE TABLE keys (
    subscription BLOB NOT NULL,
    -- Empty if there is none.
    phone BLOB NOT NULL,
    name TEXT NOT NULL,
    free_at INTEGER NOT NULL,
    delivery BLOB NOT NULL,
    PRIMARY KEY (subscription, phone, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_free ON keys (free_at);
