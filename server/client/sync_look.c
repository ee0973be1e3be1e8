/* server/client/sync_look.c: one snapshot of the database: what happened since a token, and where
 * the user stands. */
#include <string.h>

#include "identity/seeded_hash.h"
#include "server/client/account_data.h"
#include "server/client/sync_private.h"
#include "storage/log.h"
#include "storage/membership_store.h"

void
sync_look_clear(SyncLook *look)
{
    g_clear_pointer(&look->entries, g_ptr_array_unref);
    g_clear_pointer(&look->by_room, g_hash_table_unref);
    g_clear_pointer(&look->memberships, g_ptr_array_unref);
    g_clear_pointer(&look->joined, g_hash_table_unref);
    g_clear_pointer(&look->told, g_hash_table_unref);
    g_clear_pointer(&look->account_rooms, g_hash_table_unref);
    g_clear_pointer(&look->changed_users, g_hash_table_unref);
    g_clear_pointer(&look->left_users, g_hash_table_unref);
}

static GHashTable *
string_set(void)
{
    return g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
}

static gboolean
read_entries(SyncLook *look, GError **error)
{
    look->by_room = g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL,
                                          (GDestroyNotify)g_ptr_array_unref);
    if (!look->whole) {
        look->entries =
            log_read(look->connection, look->since, look->until, SYNC_ENTRIES_MAX + 1, error);
        if (look->entries == NULL)
            return FALSE;
        look->whole = look->entries->len > SYNC_ENTRIES_MAX;
    }
    if (look->whole) {
        g_clear_pointer(&look->entries, g_ptr_array_unref);
        look->entries = g_ptr_array_new();
    }
    for (guint i = 0; i < look->entries->len; i++) {
        LogEntry *entry = g_ptr_array_index(look->entries, i);
        if (entry->room_id == NULL)
            continue;
        GPtrArray *of_room = g_hash_table_lookup(look->by_room, entry->room_id);
        if (of_room == NULL) {
            of_room = g_ptr_array_new();
            g_hash_table_insert(look->by_room, entry->room_id, of_room);
        }
        g_ptr_array_add(of_room, entry);
    }
    return TRUE;
}

static gboolean
read_memberships(SyncLook *look, GError **error)
{
    const SyncCall *call = look->call;
    look->memberships = membership_store_rooms(look->connection, call->user_id, NULL, error);
    if (look->memberships == NULL)
        return FALSE;
    look->joined = g_hash_table_new(seeded_str_hash, g_str_equal);
    for (guint i = 0; i < look->memberships->len; i++) {
        StoredMembership *membership = g_ptr_array_index(look->memberships, i);
        if (strcmp(membership->membership, "join") != 0)
            continue;
        g_hash_table_insert(look->joined, membership->room_id, membership);
    }
    return TRUE;
}

gboolean
sync_look_begin(SyncLook *look, GError **error)
{
    LogHead head;
    if (!store_begin_snapshot(look->connection, error) ||
        !log_head_read(look->connection, &head, error))
        return FALSE;
    look->until = look->until == 0 ? head.position : MIN(look->until, head.position);
    look->since = look->call->since.position;
    look->whole = look->call->initial;
    look->changed_users = string_set();
    look->left_users = string_set();
    look->told = string_set();
    if (!read_entries(look, error) || !read_memberships(look, error))
        return FALSE;
    g_autoptr(GPtrArray) rooms = account_data_changed_rooms(look->connection, look->call->user_id,
                                                            look->since, look->until, error);
    if (rooms == NULL)
        return FALSE;
    look->account_rooms = string_set();
    for (guint i = 0; i < rooms->len; i++)
        g_hash_table_add(look->account_rooms, g_strdup(g_ptr_array_index(rooms, i)));
    return TRUE;
}

GPtrArray *
sync_look_room_entries(const SyncLook *look, const char *room_id)
{
    return g_hash_table_lookup(look->by_room, room_id);
}

gboolean
sync_look_has_entry(const SyncLook *look, const char *room_id, LogKind kind, const char *user_id)
{
    GPtrArray *entries = sync_look_room_entries(look, room_id);
    for (guint i = 0; entries != NULL && i < entries->len; i++) {
        const LogEntry *entry = g_ptr_array_index(entries, i);
        if (entry->kind == kind && g_strcmp0(entry->user_id, user_id) == 0)
            return TRUE;
    }
    return FALSE;
}

gboolean
sync_look_membership_then(const SyncLook *look, const char *room_id, const char *user_id,
                          GBytes **ret_root, char **ret_membership, GError **error)
{
    g_autoptr(GBytes) root = NULL;

    *ret_membership = NULL;
    if (!log_state_root_at(look->connection, room_id, look->since, &root, error) ||
        (root != NULL && !rooms_membership_at(look->call->server->rooms, room_id, root, user_id,
                                              ret_membership, error)))
        return FALSE;
    if (ret_root != NULL)
        *ret_root = g_steal_pointer(&root);
    return TRUE;
}
