#include "federation/rooms.h"

#include "federation/rooms_private.h"
#include "identity/refusal.h"
#include "identity/server_key.h"

/* Bounds of what is kept of rooms in memory. */
#define EVENT_CACHE_BYTES_MAX (64 * 1024 * 1024)
#define NODE_CACHE_BYTES_MAX (32 * 1024 * 1024)
#define ROOMS_IN_MEMORY_MAX 4096

static char *
sign(gpointer data, const void *message, gsize length)
{
    return server_key_sign(data, message, length);
}

Rooms *
rooms_new(StorePool *pool, Lane *lane, const char *server_name, const ServerKey *key)
{
    Rooms *rooms = g_new0(Rooms, 1);

    rooms->pool = pool;
    rooms->lane = lane;
    rooms->server_name = g_strdup(server_name);
    rooms->key = key;
    rooms->signer = (PduSigner){
        .server_name = rooms->server_name,
        .key_id = server_key_id(key),
        .sign = sign,
        .data = (gpointer)key,
    };
    rooms->reader = room_reader_new(pool, EVENT_CACHE_BYTES_MAX, NODE_CACHE_BYTES_MAX);
    rooms->memories = room_memories_new(ROOMS_IN_MEMORY_MAX);
    return rooms;
}

void
rooms_set_key_finder(Rooms *rooms, RoomsFindKey find_key, gpointer data)
{
    rooms->find_key = find_key;
    rooms->find_key_data = data;
}

void
rooms_set_delivery(Rooms *rooms, RoomsDeliver deliver, gpointer data)
{
    rooms->deliver = deliver;
    rooms->deliver_data = data;
}

void
rooms_free(Rooms *rooms)
{
    if (rooms == NULL)
        return;
    room_memories_free(rooms->memories);
    room_reader_free(rooms->reader);
    g_free(rooms->server_name);
    g_free(rooms);
}

/* ---- memory, on the lane thread ---- */

gboolean
rooms_memory(Rooms *rooms, LaneBatch *batch, const char *room_id, RoomMemory **ret_memory,
             GError **error)
{
    StoreConnection *connection = lane_batch_connection(batch, error);
    g_autoptr(RoomInfo) info = NULL;
    RoomMemory *memory;

    *ret_memory = NULL;
    if (connection == NULL)
        return FALSE;
    memory = room_memories_find(rooms->memories, room_id);
    if (memory != NULL && memory->damaged) {
        if (!room_memory_is_settled(memory)) {
            g_set_error(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE,
                        "the room is being loaded again; try again");
            return FALSE;
        }
        room_memories_drop(rooms->memories, room_id);
        memory = NULL;
    }
    if (memory == NULL) {
        if (!room_reader_info(rooms->reader, connection, room_id, &info, error))
            return FALSE;
        if (info == NULL)
            return TRUE;
        memory = room_memory_load(rooms->reader, connection, info, error);
        if (memory == NULL)
            return FALSE;
        room_memories_add(rooms->memories, memory);
    }
    room_memory_begin(memory, connection);
    *ret_memory = memory;
    return TRUE;
}

static void
rollback(gpointer data)
{
    RoomMemory *memory = data;

    room_memory_taken_back(memory);
    if (room_memory_is_settled(memory))
        room_memories_drop(memory->home, memory->info->room_id);
}

static void
committed(gpointer data)
{
    room_memory_committed(data);
}

/* However many events the batch brings, the ends of the graph are written once. */
static void
write_ends(LaneBatch *batch, gpointer data)
{
    const RoomMemory *memory = data;

    event_store_set_extremities(batch, memory->info->room_id, (const char *const *)memory->ends);
}

void
rooms_memory_changed(Rooms *rooms, LaneBatch *batch, RoomMemory *memory)
{
    if (!room_memory_changed(memory, batch))
        return;
    lane_batch_on_rollback(batch, rollback, memory);
    lane_batch_at_end(batch, write_ends, memory);
    lane_batch_on_commit(batch, committed, memory);
}

void
rooms_memory_add(Rooms *rooms, LaneBatch *batch, RoomMemory *memory)
{
    room_memories_add(rooms->memories, memory);
    rooms_memory_changed(rooms, batch, memory);
}
