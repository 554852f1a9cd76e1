-- Places for tenants: noted before they are made, forgotten after they are taken down, so that whatever may be there is known.
CREATE TABLE infrastructure_places (
    tenant_id {uuid} NOT NULL,
    isolation TEXT NOT NULL,
    driver TEXT NOT NULL,
    -- Which of the driver's pools it has a place in; empty for a place of its own.
    pool TEXT NOT NULL,
    location TEXT NOT NULL,
    -- Where the tenant's requests go, if not where the pool's go.
    upstream TEXT,
    -- Whether all of it was made. It may be there, or a part of it, when this is false.
    made {bool} NOT NULL,
    -- Credentials that nobody has read yet.
    sealed {bytes},
    read_at {time},
    PRIMARY KEY (tenant_id, isolation, driver)
) {strict};

-- How many places each pool has given away: the number of rows above that name it.
CREATE TABLE infrastructure_pools (
    driver TEXT NOT NULL,
    pool TEXT NOT NULL,
    taken {int} NOT NULL,
    PRIMARY KEY (driver, pool)
) {strict};

INSERT INTO infrastructure_places (tenant_id, isolation, driver, pool, location, made)
SELECT tenant_id, isolation, driver, CASE WHEN isolation = 'pool' THEN 'default' ELSE '' END, location, TRUE
FROM infrastructure;

INSERT INTO infrastructure_pools (driver, pool, taken)
SELECT driver, pool, COUNT(*) FROM infrastructure_places WHERE isolation = 'pool' GROUP BY driver, pool;
