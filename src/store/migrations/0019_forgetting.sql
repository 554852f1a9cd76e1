-- What is over is found by when, to be forgotten.
CREATE INDEX refresh_tokens_expires ON refresh_tokens (expires_at);
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX sessions_used ON sessions ((COALESCE(renewed_at, created_at))) WHERE ended_at IS NULL;
