-- Registry, schema version 4: rules, subscriptions and push tokens. Times are µs since 1970. Never edit this script: append
-- another.
-- The last version that any rule was given: none is given twice, also to a rule that was removed.
ALTER TABLE meta ADD COLUMN rule_version INTEGER NOT NULL DEFAULT 0;

CREATE TABLE rules (
    name TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    set_at INTEGER NOT NULL,
    -- What was set, as JSON.
    rule TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE subscriptions (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    owner TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- Both are missing while events are sent.
    disabled_at INTEGER,
    disabled_reason TEXT,
    -- What is wanted, as JSON.
    wanted TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX subscriptions_by_owner ON subscriptions (owner, id);

CREATE TABLE push_tokens (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    owner TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    -- All of it, as JSON.
    token TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX push_tokens_by_owner ON push_tokens (owner, registered_at, id);
