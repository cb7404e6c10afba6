-- Catalog of journal objects, schema version 1. Times are µs since 1970. Never edit this script: append another.
CREATE TABLE incarnations (
    incarnation BLOB NOT NULL PRIMARY KEY CHECK (length(incarnation) = 16),
    heartbeat_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE objects (
    object INTEGER PRIMARY KEY,
    incarnation BLOB NOT NULL REFERENCES incarnations (incarnation),
    n INTEGER NOT NULL,
    -- The row behind the last one of an incarnation that has ended: it stands for no object.
    closing INTEGER NOT NULL CHECK (closing IN (0, 1)),
    bytes INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    wide INTEGER NOT NULL CHECK (wide IN (0, 1)),
    -- Whoever comes second, an eater or the one that declares it dead, finds the number taken.
    UNIQUE (incarnation, n)
) STRICT;

CREATE INDEX wide_objects ON objects (received_at, incarnation, n) WHERE wide = 1;

CREATE TABLE spans (
    device TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    last INTEGER NOT NULL,
    object INTEGER NOT NULL REFERENCES objects (object),
    first INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    min_ts INTEGER NOT NULL,
    max_ts INTEGER NOT NULL,
    PRIMARY KEY (device, epoch, last, object)
) STRICT, WITHOUT ROWID;

CREATE INDEX spans_of_object ON spans (object);

CREATE TABLE heads (
    device TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    head INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (device, epoch)
) STRICT, WITHOUT ROWID;
