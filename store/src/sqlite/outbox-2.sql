-- Outbox, schema version 2. Never edit this script: append another.
-- How many wait for a phone.
CREATE INDEX deliveries_of_phone ON deliveries (subscription, phone) WHERE state = 0 AND phone IS NOT NULL;
