-- What clients keep with us: account data, filters; and read receipts.  Each row carries the position
-- of its last change in the log, so that a sync can ask what is newer than its token.

CREATE TABLE account_data (
    user_id text COLLATE "C" NOT NULL,
    room_id text COLLATE "C" NOT NULL, -- '' for global
    type text COLLATE "C" NOT NULL,
    json bytea NOT NULL,               -- the content
    position bigint NOT NULL,
    PRIMARY KEY (user_id, room_id, type)
);
CREATE INDEX account_data_by_position ON account_data (user_id, position);

-- Named by content: an id never means anything else.
CREATE TABLE filter (
    user_id text COLLATE "C" NOT NULL,
    filter_id text COLLATE "C" NOT NULL,
    json bytea NOT NULL,
    PRIMARY KEY (user_id, filter_id)
);

CREATE TABLE receipt (
    room_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,      -- m.read, m.read.private
    thread_id text COLLATE "C" NOT NULL, -- '' without
    event_id text COLLATE "C" NOT NULL,
    ts bigint NOT NULL,
    event_position bigint NOT NULL,      -- of the event that was read; 0 when it is not in the log
    position bigint NOT NULL,
    PRIMARY KEY (room_id, user_id, type, thread_id)
) WITH (fillfactor = 70);
CREATE INDEX receipt_by_position ON receipt (room_id, position);
