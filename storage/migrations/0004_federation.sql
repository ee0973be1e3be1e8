-- Partners: the signed lists, what is still to be told, and what they have told us.

-- Every allow-list that was ever in force; the highest serial is. Kept, because old events of servers that
-- have left the list are checked against the keys of their time.  Rows prove themselves: the signature is checked
-- at each reading.
CREATE TABLE partner_list (
    serial bigint PRIMARY KEY,
    list_id text COLLATE "C" NOT NULL,
    content bytea NOT NULL,   -- canonical JSON
    signature bytea NOT NULL, -- CMS
    imported_ms bigint NOT NULL
);

-- One row a partner and thing to tell: an event (room and event id; its bytes are in table event) or an
-- EDU (its bytes here).  Numbers rise in the order in which the lane committed them.
CREATE TABLE delivery_queue (
    partner text COLLATE "C" NOT NULL,
    queue_no bigint NOT NULL,
    room_id text COLLATE "C",
    event_id text COLLATE "C",
    edu bytea,
    PRIMARY KEY (partner, queue_no)
);

-- The one transaction on its way to a partner: written before it is sent, so that a retry is the same bytes.
-- Its last_no is the newest row of the queue that it carries.
CREATE TABLE delivery_transaction (
    partner text COLLATE "C" PRIMARY KEY,
    txn_id text COLLATE "C" NOT NULL,
    last_no bigint NOT NULL,
    body bytea NOT NULL
) WITH (fillfactor = 50);

-- Our answer to a partner's transaction, for when it asks again.
CREATE TABLE inbound_transaction (
    partner text COLLATE "C" NOT NULL,
    txn_id text COLLATE "C" NOT NULL,
    answer bytea NOT NULL,
    received_ms bigint NOT NULL,
    PRIMARY KEY (partner, txn_id)
);
CREATE INDEX inbound_transaction_by_age ON inbound_transaction (received_ms);
