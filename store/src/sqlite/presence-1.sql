-- Presence, schema version 1. Times are µs since 1970. Never edit this script: append another.
CREATE TABLE feeders (
    feeder BLOB NOT NULL PRIMARY KEY CHECK (length(feeder) = 16),
    reported_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row, from the first report on.
CREATE TABLE listening (
    only_one INTEGER NOT NULL PRIMARY KEY CHECK (only_one = 1),
    since INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT;

-- The newest session of each device.
CREATE TABLE sessions (
    device TEXT NOT NULL PRIMARY KEY,
    session BLOB NOT NULL CHECK (length(session) = 16),
    feeder BLOB NOT NULL CHECK (length(feeder) = 16),
    opened_at INTEGER NOT NULL,
    heard_at INTEGER NOT NULL,
    -- 0 open, 1 quiet, 2 closed.
    state INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX changed_sessions ON sessions (changed_at, device);
CREATE INDEX open_sessions ON sessions (feeder) WHERE state <> 2;
