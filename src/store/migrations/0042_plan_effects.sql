-- 1 when the version holds from its time on whatever period runs then, 0 when only from the next period of each account on; null
-- for those from before this was asked.
ALTER TABLE plans ADD COLUMN cuts {int};
