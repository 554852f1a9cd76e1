-- What each process's journal has put into the totals of a meter, all in all: kept beside its cursor, so that totals which
-- were changed alike in every unit do not agree with it.
CREATE TABLE journal_counted (
    boot {uuid} NOT NULL,
    meter TEXT NOT NULL,
    n {int} NOT NULL,
    total {decimal} NOT NULL,
    PRIMARY KEY (boot, meter)
) {strict};
