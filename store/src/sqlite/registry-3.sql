-- Registry, schema version 3: commands to devices. Never edit this script: append another.
CREATE TABLE commands (
    -- A UUID of version 7: 16 bytes, in the order of their time.
    id BLOB NOT NULL PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices (id),
    content_type TEXT NOT NULL,
    payload BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- When there is something to do about it: to mark it as expired, and once it is finished to forget it.
    due_at INTEGER NOT NULL,
    key TEXT,
    made_by TEXT NOT NULL,
    -- 0 queued, 1 sent, 2 acknowledged, 3 rejected, 4 expired, 5 cancelled.
    state INTEGER NOT NULL DEFAULT 0,
    sends INTEGER NOT NULL DEFAULT 0,
    sent_at INTEGER,
    finished_at INTEGER,
    result_type TEXT,
    result BLOB
) STRICT;
CREATE INDEX commands_by_device ON commands (device, id);
CREATE INDEX commands_pending ON commands (device, id) WHERE state < 2;
CREATE INDEX commands_by_due ON commands (due_at);
CREATE UNIQUE INDEX commands_by_key ON commands (device, key) WHERE key IS NOT NULL;
