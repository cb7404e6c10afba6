-- Catalog, schema version 1. Times are µs since 1970. Never edit this script: append another.
CREATE TABLE files (
    file_id INTEGER PRIMARY KEY,
    bytes INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    min_received INTEGER NOT NULL,
    max_received INTEGER NOT NULL,
    min_ts INTEGER NOT NULL,
    max_ts INTEGER NOT NULL
) STRICT;

CREATE TABLE devices (
    device TEXT NOT NULL PRIMARY KEY,
    frames INTEGER NOT NULL,
    last_received INTEGER NOT NULL,
    last_ts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE heads (
    device TEXT NOT NULL REFERENCES devices (device),
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (device, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE channels (
    device TEXT NOT NULL REFERENCES devices (device),
    channel TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    -- May name a file that was removed since.
    file_id INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    len INTEGER NOT NULL,
    PRIMARY KEY (device, channel)
) STRICT, WITHOUT ROWID;
