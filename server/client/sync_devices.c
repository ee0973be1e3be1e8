/* server/client/sync_devices.c: what a sync says about devices: the inbox, whose devices changed,
 * how many keys wait to be claimed. */
#include <string.h>

#include "identity/seeded_hash.h"
#include "server/client/key_answers.h"
#include "server/client/sync_hub.h"
#include "server/client/sync_private.h"
#include "storage/log.h"
#include "storage/membership_store.h"
#include "storage/to_device_store.h"

#define ASKED_ONE_BY_ONE_MAX 20u /* users; more are compared with all whom the user meets */

/* ---- the inbox ---- */

gboolean
sync_append_to_device(const SyncLook *look, SyncToken *next, GString *out, GError **error)
{
    const SyncCall *call = look->call;
    g_autoptr(StoreRows) rows =
        to_device_store_read(look->connection, call->user_id, call->device_id,
                             call->since.to_device, look->until, SYNC_TO_DEVICE_MAX, error);
    if (rows == NULL)
        return FALSE;
    guint count = store_rows_count(rows);
    next->unacknowledged = count > 0;
    next->to_device =
        count == SYNC_TO_DEVICE_MAX ? store_rows_integer(rows, count - 1, 0) : look->until;
    for (guint row = 0; row < count; row++) {
        gsize length = 0;
        const char *event = store_rows_data(rows, row, 1, &length);
        if (row > 0)
            g_string_append_c(out, ',');
        g_string_append_len(out, event, (gssize)length);
    }
    return TRUE;
}

gboolean
sync_acknowledge_to_device(const SyncCall *call, StoreConnection *connection, GError **error)
{
    return !call->since.unacknowledged ||
           to_device_store_acknowledge(connection, call->user_id, call->device_id,
                                       call->since.to_device, error);
}

/* ---- device lists ---- */

static void
note(SyncLook *look, const char *user_id)
{
    g_hash_table_add(look->changed_users, g_strdup(user_id));
}

static gboolean
note_all_members(SyncLook *look, const char *room_id, GError **error)
{
    g_autoptr(GPtrArray) members =
        membership_store_members(look->connection, room_id, "join", NULL, SYNC_USERS_MAX, error);
    if (members == NULL)
        return FALSE;
    for (guint i = 0; i < members->len; i++)
        note(look, ((StoredMembership *)g_ptr_array_index(members, i))->user_id);
    return TRUE;
}

/* Another member of a room that the user is in: did they come or go?  An invite is neither, nor a
 * change of name. */
static gboolean
note_member(SyncLook *look, const char *room_id, GBytes *root_then, const char *user_id,
            guint changes, GError **error)
{
    g_autofree char *then = NULL;
    g_autoptr(StoredMembership) now = NULL;

    if ((root_then != NULL && !rooms_membership_at(look->call->server->rooms, room_id, root_then,
                                                   user_id, &then, error)) ||
        !membership_store_find(look->connection, room_id, user_id, &now, error))
        return FALSE;
    gboolean was_in = g_strcmp0(then, "join") == 0;
    gboolean is_in = now != NULL && strcmp(now->membership, "join") == 0;
    if (was_in != is_in || (is_in && changes > 1))
        note(look, user_id);
    return TRUE;
}

static gboolean
note_joined_room(SyncLook *look, const char *room_id, GError **error)
{
    g_autoptr(GHashTable) changes = g_hash_table_new(seeded_str_hash, g_str_equal);
    GPtrArray *entries = sync_look_room_entries(look, room_id);
    g_autoptr(GBytes) root_then = NULL;
    g_autofree char *then = NULL;
    GHashTableIter iterator;
    gpointer user_id = NULL;
    gpointer count = NULL;

    for (guint i = 0; entries != NULL && i < entries->len; i++) {
        const LogEntry *entry = g_ptr_array_index(entries, i);
        if (entry->user_id != NULL && entry->kind == LOG_DEVICE_LIST)
            note(look, entry->user_id);
        if (entry->user_id == NULL || entry->kind != LOG_EVENT)
            continue;
        count = g_hash_table_lookup(changes, entry->user_id);
        g_hash_table_insert(changes, entry->user_id, GUINT_TO_POINTER(GPOINTER_TO_UINT(count) + 1));
    }
    if (g_hash_table_size(changes) == 0)
        return TRUE;
    if (!sync_look_membership_then(look, room_id, look->call->user_id, &root_then, &then, error))
        return FALSE;
    if (g_strcmp0(then, "join") != 0)
        return note_all_members(look, room_id, error);
    g_hash_table_iter_init(&iterator, changes);
    while (g_hash_table_iter_next(&iterator, &user_id, &count))
        if (!note_member(look, room_id, root_then, user_id, GPOINTER_TO_UINT(count), error))
            return FALSE;
    return TRUE;
}

/* Of a room left: users who may not be met elsewhere any more. */
static gboolean
note_left_room(SyncLook *look, const char *room_id, GError **error)
{
    g_autofree char *then = NULL;

    if (!sync_look_has_entry(look, room_id, LOG_EVENT, look->call->user_id))
        return TRUE;
    if (!sync_look_membership_then(look, room_id, look->call->user_id, NULL, &then, error))
        return FALSE;
    return g_strcmp0(then, "join") != 0 || note_all_members(look, room_id, error);
}

/* After a long absence: everybody whom the user meets may have changed devices. */
static gboolean
note_everybody(SyncLook *look, GError **error)
{
    g_autoptr(GPtrArray) users = membership_store_users_sharing(
        look->connection, look->call->user_id, FALSE, SYNC_USERS_MAX, error);
    if (users == NULL)
        return FALSE;
    for (guint i = 0; i < users->len; i++)
        note(look, g_ptr_array_index(users, i));
    note(look, look->call->user_id);
    return TRUE;
}

static gboolean
note_rooms(SyncLook *look, GError **error)
{
    for (guint i = 0; i < look->memberships->len; i++) {
        const StoredMembership *membership = g_ptr_array_index(look->memberships, i);
        gboolean joined = strcmp(membership->membership, "join") == 0;
        if (!(joined ? note_joined_room(look, membership->room_id, error)
                     : note_left_room(look, membership->room_id, error)))
            return FALSE;
    }
    return TRUE;
}

/* Everybody whom the user meets; *ret_met NULL when they are too many: then each is asked for. */
static gboolean
read_met(const SyncLook *look, GHashTable **ret_met, GError **error)
{
    g_autoptr(GPtrArray) users = membership_store_users_sharing(
        look->connection, look->call->user_id, FALSE, SYNC_USERS_MAX, error);
    *ret_met = NULL;
    if (users == NULL)
        return FALSE;
    if (users->len == SYNC_USERS_MAX)
        return TRUE;
    *ret_met = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < users->len; i++)
        g_hash_table_add(*ret_met, g_strdup(g_ptr_array_index(users, i)));
    return TRUE;
}

/* Of those noted, who is met no more; the user's own devices always count. */
static gboolean
part_left(SyncLook *look, GError **error)
{
    const char *own = look->call->user_id;
    g_autoptr(GHashTable) met = NULL;
    GHashTableIter iterator;
    gpointer user_id = NULL;

    if (g_hash_table_size(look->changed_users) > ASKED_ONE_BY_ONE_MAX &&
        !read_met(look, &met, error))
        return FALSE;
    g_hash_table_iter_init(&iterator, look->changed_users);
    while (g_hash_table_iter_next(&iterator, &user_id, NULL)) {
        gboolean share =
            strcmp(user_id, own) == 0 || (met != NULL && g_hash_table_contains(met, user_id));
        if (!share && met == NULL &&
            !membership_store_share_room(look->connection, own, user_id, &share, error))
            return FALSE;
        if (share)
            continue;
        g_hash_table_add(look->left_users, g_strdup(user_id));
        g_hash_table_iter_remove(&iterator);
    }
    return TRUE;
}

gboolean
sync_note_device_lists(SyncLook *look, GError **error)
{
    const char *own = look->call->user_id;

    if (look->call->initial) /* the client looks everybody up by itself */
        return TRUE;
    if (look->whole && !note_everybody(look, error))
        return FALSE;
    for (guint i = 0; i < look->entries->len; i++) {
        const LogEntry *entry = g_ptr_array_index(look->entries, i);
        if (entry->kind == LOG_DEVICE_LIST && g_strcmp0(entry->user_id, own) == 0)
            note(look, own);
    }
    return note_rooms(look, error) && part_left(look, error);
}

static void
append_users(GHashTable *users, GString *out)
{
    GHashTableIter iterator;
    gpointer user_id = NULL;
    gboolean first = TRUE;
    g_hash_table_iter_init(&iterator, users);
    while (g_hash_table_iter_next(&iterator, &user_id, NULL)) {
        if (!first)
            g_string_append_c(out, ',');
        first = FALSE;
        json_append_string(out, user_id);
    }
}

void
sync_append_device_lists(const SyncLook *look, GString *out)
{
    g_string_append(out, "\"changed\":[");
    append_users(look->changed_users, out);
    g_string_append(out, "],\"left\":[");
    append_users(look->left_users, out);
    g_string_append_c(out, ']');
}

/* ---- counts of keys ---- */

char *
sync_key_counts(const SyncCall *call, StoreConnection *connection, GError **error)
{
    g_autoptr(StoreConnection) borrowed = NULL;
    guint changes = 0;
    char *kept = sync_hub_key_counts(call->server->sync, call->user_id, call->device_id, &changes);
    if (kept != NULL)
        return kept;
    if (connection == NULL)
        connection = borrowed = store_borrow(call->server->pool, error);
    if (connection == NULL)
        return NULL;
    g_autoptr(cJSON) counts =
        key_answers_one_time_counts(connection, call->user_id, call->device_id, error);
    g_autoptr(cJSON) unused =
        counts != NULL
            ? key_answers_unused_fallback(connection, call->user_id, call->device_id, error)
            : NULL;
    GString *out = g_string_new("\"device_one_time_keys_count\":");
    gboolean made = unused != NULL && json_canonical_append(out, counts, error);
    if (made) {
        g_string_append(out, ",\"device_unused_fallback_key_types\":");
        made = json_canonical_append(out, unused, error);
    }
    if (made)
        sync_hub_keep_key_counts(call->server->sync, call->user_id, call->device_id, changes,
                                 out->str);
    return g_string_free(out, !made);
}
