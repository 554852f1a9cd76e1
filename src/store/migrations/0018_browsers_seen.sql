-- Where a browser signed in from, and when it was last seen, for its owner to recognize it.
ALTER TABLE browsers ADD COLUMN address TEXT;
ALTER TABLE browsers ADD COLUMN seen_at {time};
