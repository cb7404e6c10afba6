-- Registry, schema version 2: how long frames are kept, by group. Never edit this script: append another.
CREATE TABLE retention (
    name TEXT NOT NULL PRIMARY KEY,
    days INTEGER,
    bytes INTEGER,
    set_at INTEGER NOT NULL,
    enforced INTEGER NOT NULL DEFAULT 0,
    -- What the last look found; all are missing before the first.
    counted_at INTEGER,
    counted_devices INTEGER,
    counted_frames INTEGER,
    counted_bytes INTEGER,
    removed_frames INTEGER NOT NULL DEFAULT 0,
    removed_bytes INTEGER NOT NULL DEFAULT 0,
    CHECK (days IS NOT NULL OR bytes IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- Which channels carry positions: JSON pointers (RFC 6901) into their payloads.
CREATE TABLE position_schemas (
    channel TEXT NOT NULL PRIMARY KEY,
    lat TEXT NOT NULL,
    lon TEXT NOT NULL
) STRICT, WITHOUT ROWID;
