-- What an issued invoice was worked out from, as canonical JSON; a table of its own, so that lists of invoices do not read it.
CREATE TABLE invoice_evidence (
    invoice_id {uuid} PRIMARY KEY,
    evidence TEXT NOT NULL
) {clustered};
-- The hash of document, evidence and the seal before it in its series; null for what was issued before there were seals.
ALTER TABLE invoices ADD COLUMN seal {bytes};

-- Where journals stood, from time to time: each mark has the hash of the one before it.
CREATE TABLE journal_marks (
    serial {int} PRIMARY KEY,
    marked_at {time} NOT NULL,
    journals TEXT NOT NULL,
    hash {bytes} NOT NULL
) {strict};
-- The hash that a journal had in the last mark that it was in.
ALTER TABLE journal_cursors ADD COLUMN marked {bytes};
