-- What a local user shows to others, and what clients' transaction ids already became.

CREATE TABLE profile (
    user_id text COLLATE "C" NOT NULL PRIMARY KEY,
    displayname text COLLATE "C",
    avatar_url text COLLATE "C"
);

-- One row a sent event: a client's repetition of a request gets the first one's answer.
-- scope: the path without the transaction id, so that the same id on another path is another request.
CREATE TABLE client_transaction (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    txn_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    made_ms bigint NOT NULL,
    PRIMARY KEY (user_id, device_id, scope, txn_id)
);
CREATE INDEX client_transaction_event ON client_transaction (event_id);
CREATE INDEX client_transaction_made ON client_transaction USING brin (made_ms);
