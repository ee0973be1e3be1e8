/* federation/rooms_private.h: what the files of the rooms engine share.  For federation/room*.c, acceptance.c,
 * proposal.c and receive.c alone. */
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
};

/* The room's memory, loaded where needed; lane thread.  *ret_memory NULL: never were in that room.  Registers the
 * rollback of this operation: call once an operation. */
gboolean rooms_memory(Rooms *rooms, LaneBatch *batch, const char *room_id, RoomMemory **ret_memory,
                      GError **error);
/* After a commit that touched @room_id. */
void rooms_memory_committed(Rooms *rooms, const char *room_id);
