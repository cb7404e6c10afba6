-- Registry, schema version 1. Times are µs since 1970. Never edit this script: append another.
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    -- Rises with every change of who may do what; epoch grants leave it.
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO meta VALUES (1, 0);

-- Rows stay for ever: ids are never reused.
CREATE TABLE devices (
    id TEXT NOT NULL PRIMARY KEY,
    query_token INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    epoch INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE device_groups (
    device TEXT NOT NULL REFERENCES devices (id),
    name TEXT NOT NULL,
    PRIMARY KEY (device, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_groups_by_name ON device_groups (name, device);

CREATE TABLE readers (
    name TEXT NOT NULL PRIMARY KEY,
    -- Separated by spaces.
    scopes TEXT NOT NULL,
    all_groups INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE reader_groups (
    reader TEXT NOT NULL REFERENCES readers (name),
    name TEXT NOT NULL,
    PRIMARY KEY (reader, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    -- SHA-256 of the secret.
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    device TEXT REFERENCES devices (id),
    reader TEXT REFERENCES readers (name),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    CHECK ((device IS NULL) <> (reader IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_device ON tokens (device) WHERE device IS NOT NULL;
CREATE INDEX tokens_by_reader ON tokens (reader) WHERE reader IS NOT NULL;
CREATE INDEX tokens_by_expiry ON tokens (expires_at) WHERE revoked_at IS NULL;
