-- mail: the outbox. A row is written with what it is about, and sent after the commit.
CREATE TABLE mails (
    mail_id {uuid} PRIMARY KEY,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    created_at {time} NOT NULL,
    next_try_at {time} NOT NULL,
    attempts {int} NOT NULL,
    sent_at {time},
    given_up_at {time},
    error TEXT
) {strict};
CREATE INDEX mails_due ON mails (next_try_at) WHERE sent_at IS NULL AND given_up_at IS NULL;
CREATE INDEX mails_created ON mails (created_at);
