-- Where in browsers public clients live: the origins of their redirect URIs, a loopback one without its port.
CREATE TABLE client_origins (
    origin TEXT NOT NULL,
    client_id {uuid} NOT NULL,
    PRIMARY KEY (origin, client_id)
) {strict};
