-- Schema version 2: rows whose frames are in segments are removed. Never edit this script: append another.
-- A stub: the last row of an incarnation, whose spans were removed and whose number stays taken.
ALTER TABLE objects ADD COLUMN removed INTEGER NOT NULL DEFAULT 0 CHECK (removed IN (0, 1));
