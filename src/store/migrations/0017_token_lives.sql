-- How long access tokens have lived, and when settings ended that: a withdrawal and a retired key matter until the last
-- token of any of these lives has expired. Nothing tells what settings were before: the longest that they allow.
CREATE TABLE access_token_lives (
    ttl_s {int} PRIMARY KEY,
    ended_at {time}
) {strict};
INSERT INTO access_token_lives (ttl_s) SELECT DISTINCT 86400 FROM signing_keys;
