/* storage/room_store.h: which rooms there are.  For federation/ and server/. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

typedef struct {
    char *room_id;
    char *version;
    GBytes *seed; /* of the hash of this room's state trie */
    gint64 created_ms;
    gint64 fence;
} StoredRoom;

void stored_room_free(StoredRoom *room);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoredRoom, stored_room_free)

/* A room that is known already makes the operation fail with STORE_ERROR_CONFLICT. */
void room_store_insert(LaneBatch *batch, const char *room_id, const char *version, GBytes *seed,
                       gint64 created_ms);
gboolean room_store_find(StoreConnection *connection, const char *room_id, StoredRoom **ret_room,
                         GError **error);
