#include "storage/room_store.h"

enum {
    ROOM_INSERT,
    ROOM_FIND,
};

const StoreStatement room_statements[] = {
    [ROOM_INSERT] = {"room_insert", "INSERT INTO room (room_id, version, seed, created_ms)"
                                    " VALUES ($1, $2, $3, $4)"},
    [ROOM_FIND] = {"room_find",
                   "SELECT room_id, version, seed, created_ms, fence FROM room WHERE room_id = $1"},
};
const guint room_statement_count = G_N_ELEMENTS(room_statements);

void
stored_room_free(StoredRoom *room)
{
    if (room == NULL)
        return;
    g_free(room->room_id);
    g_free(room->version);
    g_clear_pointer(&room->seed, g_bytes_unref);
    g_free(room);
}

void
room_store_insert(LaneBatch *batch, const char *room_id, const char *version, GBytes *seed,
                  gint64 created_ms)
{
    lane_batch_add(batch, &room_statements[ROOM_INSERT],
                   store_arguments("ttyi", room_id, version, seed, created_ms));
}

gboolean
room_store_find(StoreConnection *connection, const char *room_id, StoredRoom **ret_room,
                GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &room_statements[ROOM_FIND], store_arguments("t", room_id), error);
    if (rows == NULL)
        return FALSE;
    *ret_room = NULL;
    if (store_rows_count(rows) > 0) {
        StoredRoom *room = *ret_room = g_new0(StoredRoom, 1);
        room->room_id = g_strdup(store_rows_text(rows, 0, 0));
        room->version = g_strdup(store_rows_text(rows, 0, 1));
        room->seed = store_rows_bytes(rows, 0, 2);
        room->created_ms = store_rows_integer(rows, 0, 3);
        room->fence = store_rows_integer(rows, 0, 4);
    }
    return TRUE;
}
