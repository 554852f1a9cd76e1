-- Answers are sealed from here on, because some have secrets in them, and are forgotten after a day.
DELETE FROM idempotency_keys WHERE answer IS NOT NULL;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (claimed_at);
