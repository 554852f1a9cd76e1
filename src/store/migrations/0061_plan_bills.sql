-- From when the version is on bills: at that time, or from the first period of each account that begins then or later; null for those
-- from before this was kept, where it is effective_from.
ALTER TABLE plans ADD COLUMN billed_from {time};
