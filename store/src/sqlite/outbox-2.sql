-- Outbox, schema version 2. Never edit this script: append another.
-- How many wait for a phone.
CREATE INDEX deliveries_of_phone ON deliveries (subscription, phone) WHERE state = 0 AND phone IS NOT NULL;
-- A delivery that is replayed has all its tries again.
ALTER TABLE deliveries ADD COLUMN attempts_before_replay INTEGER NOT NULL DEFAULT 0;
