-- Catalog of segments, schema version 2. Never edit this script: append another.
-- The last manifest with which frames were removed for good.
ALTER TABLE claim ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
