/* server/client/sync_memory.c: a sync whose news are plain messages, answered from what the hub and
 * the rooms' caches hold. */
#include "identity/seeded_hash.h"
#include "server/client/sync_hub.h"
#include "server/client/sync_private.h"
#include "server/client/typing.h"
#include "server/client/unread.h"
#include "storage/log.h"

/* room id -> GPtrArray of LogEntry, oldest first; borrowed. */
static GHashTable *
by_room(GPtrArray *entries)
{
    GHashTable *rooms = g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL,
                                              (GDestroyNotify)g_ptr_array_unref);
    for (guint i = 0; i < entries->len; i++) {
        LogEntry *entry = g_ptr_array_index(entries, i);
        GPtrArray *of_room = g_hash_table_lookup(rooms, entry->room_id);
        if (of_room == NULL) {
            of_room = g_ptr_array_new();
            g_hash_table_insert(rooms, entry->room_id, of_room);
        }
        g_ptr_array_add(of_room, entry);
    }
    return rooms;
}

static gboolean
count_unread(const SyncCall *call, SyncRoom *room, GPtrArray *entries, gint64 until, GError **error)
{
    g_autoptr(StoreConnection) connection = NULL;
    if (unread_advance(call->server->unread, room->room_id, call->user_id, call->since.position,
                       entries, room->timeline, &room->notifications, &room->highlights))
        return TRUE;
    connection = store_borrow(call->server->pool, error);
    return connection != NULL &&
           unread_count(call->server, connection, room->room_id, call->user_id, until,
                        &room->notifications, &room->highlights, error);
}

static SyncRoom *
room_of_entries(const SyncCall *call, const char *room_id, GPtrArray *entries, GError **error)
{
    g_autoptr(SyncRoom) room = sync_room_new(room_id);
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    const LogEntry *first = g_ptr_array_index(entries, 0);
    const LogEntry *last = g_ptr_array_index(entries, entries->len - 1);
    guint limit = sync_timeline_limit(call);
    guint skip = entries->len > limit ? entries->len - limit : 0;

    room->limited = skip > 0;
    if (skip > 0 && skip < entries->len)
        first = g_ptr_array_index(entries, skip);
    room->before_position = first->position - 1;
    for (guint i = skip; i < entries->len; i++)
        g_ptr_array_add(ids, ((LogEntry *)g_ptr_array_index(entries, i))->ref);
    g_clear_pointer(&room->timeline, g_ptr_array_unref);
    room->timeline = rooms_events(call->server->rooms, room_id, ids, error);
    if (room->timeline == NULL)
        return NULL;
    if (!count_unread(call, room, entries, last->position, error))
        return NULL;
    sync_room_limit_timeline(call, room);
    if (!sync_room_add_senders(call, room, last->state_root, error))
        return NULL;
    return g_steal_pointer(&room);
}

static gboolean
append_rooms(const SyncCall *call, GPtrArray *entries, gboolean *ret_any, GString *out,
             GError **error)
{
    g_autoptr(GHashTable) rooms = by_room(entries);
    GHashTableIter iterator;
    gpointer room_id = NULL;
    gpointer of_room = NULL;

    *ret_any = FALSE;
    g_hash_table_iter_init(&iterator, rooms);
    while (g_hash_table_iter_next(&iterator, &room_id, &of_room)) {
        if (!filter_wants_room(call->filter, room_id))
            continue;
        g_autoptr(SyncRoom) room = room_of_entries(call, room_id, of_room, error);
        if (room == NULL)
            return FALSE;
        if (sync_room_is_empty(room))
            continue;
        if (*ret_any)
            g_string_append_c(out, ',');
        *ret_any = TRUE;
        if (!sync_room_append(call, room, TRUE, out, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
sync_from_memory(const SyncCall *call, GString **ret_answer, SyncToken *ret_next, GError **error)
{
    SyncHub *hub = call->server->sync;
    g_autoptr(GPtrArray) entries = NULL;
    gint64 until = 0;

    if (call->since.to_device < call->since.position || call->since.unacknowledged ||
        call->since.typing != typing_version(call->server->typing) ||
        !sync_hub_collect(hub, call->user_id, call->since.position, &entries, &until))
        return FALSE;
    *ret_next = (SyncToken){call->since.epoch, until, call->since.typing, until, FALSE};
    *ret_answer = NULL;
    if (entries->len == 0)
        return TRUE;

    g_autoptr(GString) rooms = g_string_new(NULL);
    gboolean any = FALSE;
    if (!append_rooms(call, entries, &any, rooms, error))
        return FALSE;
    if (!any)
        return TRUE;
    g_autofree char *counts = sync_key_counts(call, NULL, error);
    if (counts == NULL)
        return FALSE;
    GString *answer = g_string_sized_new(rooms->len + 512);
    g_string_append_c(answer, '{');
    sync_append_next_batch(ret_next, answer);
    g_string_append_printf(answer, ",%s,\"rooms\":{\"join\":{", counts);
    g_string_append_len(answer, rooms->str, (gssize)rooms->len);
    g_string_append(answer, "}}}");
    *ret_answer = answer;
    return TRUE;
}
