-- The log, the lane's batches, and the rooms.  Text is COLLATE "C" everywhere: a new C library
-- must not change the order of an index.  Keys lead with the room or the user.

-- One row.  Every batch of every process updates it last, so its lock is the order of the log.
-- Mostly empty pages keep those updates heap-only.
CREATE TABLE log_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL, -- of the newest entry
    history bigint NOT NULL,  -- of the oldest fetched entry; falls from 0
    epoch bigint NOT NULL,    -- raised when a standby is promoted
    fence bigint NOT NULL,    -- raised by each lane that takes the log over, or finds it again
    holder text COLLATE "C" NOT NULL -- random name of that lane
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
INSERT INTO log_head (position, history, epoch, fence, holder) VALUES (0, 0, 1, 0, '');

CREATE TABLE log (
    position bigint PRIMARY KEY,
    kind bigint NOT NULL, -- LogKind of storage/log.h
    room_id text COLLATE "C",
    user_id text COLLATE "C",
    ref text COLLATE "C",
    state_root bytea,
    committed_ms bigint NOT NULL
);
CREATE INDEX log_by_room ON log (room_id, position) WHERE kind = 1;
CREATE INDEX log_by_event ON log (ref) WHERE kind = 1;
CREATE INDEX log_by_user ON log (user_id, position) WHERE user_id IS NOT NULL;
CREATE INDEX log_by_kind ON log (kind, position) WHERE kind <> 1;

-- The batch's own id: after a connection lost during COMMIT it says whether it happened.  The position
-- is NOT NULL on purpose: a batch whose fence no longer holds finds no head, and fails here.
CREATE TABLE lane_batch (
    fence bigint NOT NULL,
    number bigint NOT NULL,
    position bigint NOT NULL,
    history bigint NOT NULL,
    PRIMARY KEY (fence, number)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE room (
    room_id text COLLATE "C" PRIMARY KEY,
    version text COLLATE "C" NOT NULL,
    seed bytea NOT NULL, -- of the hash of this room's state trie
    created_ms bigint NOT NULL,
    holder text COLLATE "C", -- address of the process that writes this room
    fence bigint NOT NULL DEFAULT 0
);

CREATE TABLE event (
    room_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    state_key text COLLATE "C",
    sender text COLLATE "C" NOT NULL,
    depth bigint NOT NULL,
    origin_server_ts bigint NOT NULL,
    status bigint NOT NULL, -- EventStatus of storage/event_store.h
    local boolean NOT NULL, -- made by this server
    state_before bytea,     -- roots of state tries
    state_after bytea,
    auth_event_ids text[] COLLATE "C" NOT NULL,
    prev_event_ids text[] COLLATE "C" NOT NULL,
    reason text COLLATE "C", -- why it was rejected or soft-failed
    json bytea NOT NULL,
    device_id text COLLATE "C", -- of the local client that sent it with a transaction id
    txn_id text COLLATE "C",
    PRIMARY KEY (room_id, event_id)
);

CREATE INDEX event_by_time ON event (room_id, origin_server_ts) WHERE status = 1;

-- Events that others name as prev_events and that we do not have.
CREATE TABLE event_missing (
    room_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    child_event_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (room_id, event_id, child_event_id)
);

CREATE TABLE redaction (
    room_id text COLLATE "C" NOT NULL,
    redacts text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (room_id, redacts, event_id)
);

-- Where the graph of a room ends.  Written anew by each batch of the room: one row, whose old
-- versions make place again in the same page.
CREATE TABLE room_extremity (
    room_id text COLLATE "C" PRIMARY KEY,
    event_ids text[] COLLATE "C" NOT NULL
) WITH (fillfactor = 30);

-- Nodes of the state tries, named by their content: never changed, shared by a room's snapshots.
CREATE TABLE state_node (
    room_id text COLLATE "C" NOT NULL,
    node_id bytea NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (room_id, node_id)
);

-- The current state and its memberships, flat.
CREATE TABLE room_state (
    room_id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    state_key text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (room_id, type, state_key)
);

CREATE TABLE membership (
    room_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    membership text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    sender text COLLATE "C" NOT NULL,
    local boolean NOT NULL,
    forgotten boolean NOT NULL DEFAULT false,
    PRIMARY KEY (room_id, user_id)
);
CREATE INDEX membership_by_user ON membership (user_id, room_id);

CREATE TABLE room_server (
    room_id text COLLATE "C" NOT NULL,
    server text COLLATE "C" NOT NULL,
    joined bigint NOT NULL,
    PRIMARY KEY (room_id, server)
);
CREATE INDEX room_server_by_server ON room_server (server, room_id);

-- Invites into rooms that this server is not in: no event of the room can be checked yet.
CREATE TABLE invite (
    user_id text COLLATE "C" NOT NULL,
    room_id text COLLATE "C" NOT NULL,
    room_version text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    sender text COLLATE "C" NOT NULL,
    json bytea NOT NULL,        -- the invite event
    room_state bytea NOT NULL,  -- JSON array, as it came with the invite
    PRIMARY KEY (user_id, room_id)
);

-- What a client's transaction id has already done.
CREATE TABLE client_transaction (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL, -- the endpoint, room and type that it was used with
    txn_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    created_ms bigint NOT NULL,
    PRIMARY KEY (user_id, device_id, scope, txn_id)
);
-- Rows come in the order of their age: a summary of page ranges finds the old ones.
CREATE INDEX client_transaction_by_age ON client_transaction USING brin (created_ms);
