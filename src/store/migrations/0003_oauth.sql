-- A key is published before it signs.
ALTER TABLE signing_keys ADD COLUMN signs_from {time};
