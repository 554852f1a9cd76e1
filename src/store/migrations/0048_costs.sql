-- What usage and tenants cost us: versions, each in force from its time on until a later version says otherwise.
CREATE TABLE cost_rates (
    version {int} PRIMARY KEY,
    effective_from {time} NOT NULL,
    body TEXT NOT NULL,
    created_at {time} NOT NULL
) {strict};
