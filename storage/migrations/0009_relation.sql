-- Which accepted event relates to which (content.m.relates_to): threads, edits, references, reactions.
CREATE TABLE event_relation (
    room_id text COLLATE "C" NOT NULL,
    parent_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    rel_type text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    sender text COLLATE "C" NOT NULL,
    PRIMARY KEY (room_id, parent_id, event_id)
);
CREATE INDEX event_relation_threads ON event_relation (room_id, parent_id)
    WHERE rel_type = 'm.thread';
