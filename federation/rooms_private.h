/* federation/rooms_private.h: what the files of the rooms engine share.  For federation/rooms.c,
 * rooms_read.c, rooms_visibility.c, rooms_template.c, proposal.c, acceptance.c, submission.c and
 * the files that receive by submissions (submission.h) alone. */
#pragma once

#include "federation/room/pdu_sign.h"
#include "federation/room_memory.h"
#include "federation/rooms.h"

struct Rooms {
    StorePool *pool;
    Lane *lane;
    char *server_name;
    const ServerKey *key;
    PduSigner signer;
    RoomReader *reader;
    RoomMemories *memories; /* lane thread only */
    RoomsFindKey find_key;
    gpointer find_key_data;
    RoomsDeliver deliver;
    gpointer deliver_data;
    gint64 last_create_ms; /* lane thread: of the newest create event, no other has it */
    gint64 next_trim_ms;   /* lane thread: when old transaction ids go next */
};

/* ---- the room's memory: lane thread (rooms.c) ---- */

/* The room's memory for one operation, loaded where needed; *ret_memory NULL: we never were in that
 * room. */
gboolean rooms_memory(Rooms *rooms, LaneBatch *batch, const char *room_id, RoomMemory **ret_memory,
                      GError **error);
/* Call last in an operation that succeeds and changed the room: should the batch be taken back, so
 * is the memory. */
void rooms_memory_changed(Rooms *rooms, LaneBatch *batch, RoomMemory *memory);
/* The same for a room that begins with this operation; takes @memory. */
void rooms_memory_add(Rooms *rooms, LaneBatch *batch, RoomMemory *memory);

/* ---- looking into rooms: any thread (rooms_read.c) ---- */

/* *ret_view NULL: this server never was in that room. */
gboolean rooms_view(Rooms *rooms, const char *room_id, RoomView **ret_view, GError **error);
/* The same, which is 404 M_NOT_FOUND then. */
RoomView *rooms_require_view(Rooms *rooms, const char *room_id, GError **error);
gboolean
rooms_require_root(Rooms *rooms, const char *room_id, StateNodeId *ret_root, GError **error);
/* Those of @event_ids (char *) that are here: RoomEvents, Pdus. */
GPtrArray *rooms_view_load_events(RoomView *view, GPtrArray *event_ids, GError **error);
GPtrArray *rooms_view_load_pdus(RoomView *view, GPtrArray *event_ids, GError **error);
