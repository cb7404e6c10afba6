-- Catalog of segments, schema version 2. Never edit this script: append another.
-- The last manifest with which frames were removed for good.
ALTER TABLE claim ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;

-- The format level of the storage. One row.
CREATE TABLE format (
    only_one INTEGER NOT NULL PRIMARY KEY CHECK (only_one = 1),
    level INTEGER NOT NULL,
    -- The release with which it came to be.
    release TEXT NOT NULL
) STRICT;

INSERT INTO format (only_one, level, release) VALUES (1, 1, '0.1.0');
