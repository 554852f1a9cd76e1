-- Stamps of pushed requests for which a code was given, as hashes, for as long as they would hold: one request, one code.
CREATE TABLE spent_stamps (
    stamp_hash {bytes} PRIMARY KEY,
    expires_at {time} NOT NULL
) {strict};
CREATE INDEX spent_stamps_expires ON spent_stamps (expires_at);
