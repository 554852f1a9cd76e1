-- Grows whenever a meter comes, goes or is renamed, in the same transaction: whoever counts by meters checks it.
CREATE TABLE meters_version (
    id {int} NOT NULL PRIMARY KEY,
    version {int} NOT NULL
) {strict};
INSERT INTO meters_version (id, version) VALUES (1, 0);
