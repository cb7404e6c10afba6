-- Catalog of segments, schema version 1. Times are µs since 1970. Never edit this script: append another.
-- The claim on compaction. One row.
CREATE TABLE claim (
    only_one INTEGER NOT NULL PRIMARY KEY CHECK (only_one = 1),
    -- That of the last claim; 0 before the first.
    token INTEGER NOT NULL,
    -- When it runs out; 0 if it was given back.
    until INTEGER NOT NULL
) STRICT;

INSERT INTO claim (only_one, token, until) VALUES (1, 0, 0);

-- The last manifests, and which change made each. The newest has the highest number; none is number 0.
CREATE TABLE manifests (
    number INTEGER NOT NULL PRIMARY KEY,
    change BLOB NOT NULL CHECK (length(change) = 16)
) STRICT;

CREATE TABLE journals (
    incarnation BLOB NOT NULL PRIMARY KEY CHECK (length(incarnation) = 16),
    n INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE segments (
    segment BLOB NOT NULL PRIMARY KEY CHECK (length(segment) = 16),
    date INTEGER NOT NULL,
    level INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    index_bytes INTEGER NOT NULL,
    index_crc INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    first_device TEXT NOT NULL,
    last_device TEXT NOT NULL,
    min_ts INTEGER NOT NULL,
    max_ts INTEGER NOT NULL,
    min_received INTEGER NOT NULL,
    max_received INTEGER NOT NULL,
    -- The manifest that has it no more, and when that was made; both are missing while it is live.
    removed_in INTEGER,
    removed_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX live_segments ON segments (date, level, segment) WHERE removed_in IS NULL;
CREATE INDEX removed_segments ON segments (removed_in, segment) WHERE removed_in IS NOT NULL;
