-- Names of rooms: aliases of this server, and the rooms that its directory shows.
CREATE TABLE room_alias (
    alias text COLLATE "C" PRIMARY KEY,
    room_id text COLLATE "C" NOT NULL,
    creator text COLLATE "C" NOT NULL,
    created_ms bigint NOT NULL
);
CREATE INDEX room_alias_by_room ON room_alias (room_id, alias);

CREATE TABLE room_published (
    room_id text COLLATE "C" PRIMARY KEY,
    published_ms bigint NOT NULL
);
