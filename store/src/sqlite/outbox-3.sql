-- Outbox, schema version 3. Never edit this script: append another.
-- When what waits was last made due because the subscription was enabled; 0: never.
ALTER TABLE queues ADD COLUMN resumed_at INTEGER NOT NULL DEFAULT 0;
