/* server/client/sync_memory.c: a sync whose news are plain messages, answered from what the hub and
 * the rooms' caches hold. */
#include "identity/seeded_hash.h"
#include "server/client/sync_hub.h"
#include "server/client/sync_private.h"
#include "server/client/typing.h"
#include "server/client/unread.h"
#include "storage/log.h"

/* Before the filter takes anything away. */
static gboolean
count_unread(const SyncCall *call, SyncRoom *room, const SyncHubRoom *news, gint64 until,
             GError **error)
{
    g_autoptr(StoreConnection) connection = NULL;
    if (unread_advance(call->server->unread, room->room_id, call->user_id, news->quiet_since,
                       news->events, room->timeline, &room->notifications, &room->highlights))
        return TRUE;
    connection = store_borrow(call->server->pool, error);
    return connection != NULL &&
           unread_count(call->server, connection, room->room_id, call->user_id, until,
                        &room->notifications, &room->highlights, error);
}

/* Events of this server stand on the room's current state, in which the user is joined; those of
 * partners may stand on another. */
static gboolean
all_visible(const SyncCall *call, GPtrArray *events, gboolean *ret_visible, GError **error)
{
    *ret_visible = TRUE;
    for (guint i = 0; i < events->len && *ret_visible; i++) {
        const RoomEvent *event = g_ptr_array_index(events, i);
        if (!event->local && !rooms_visible_to_user(call->server->rooms, event, call->user_id,
                                                    "join", ret_visible, error))
            return FALSE;
    }
    return TRUE;
}

/* The timeline of @room; FALSE with @error unset: that takes the database. */
static gboolean
read_timeline(const SyncCall *call, SyncRoom *room, GPtrArray *entries, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    guint limit = sync_timeline_limit(call);
    guint skip = entries->len > limit ? entries->len - limit : 0;
    const LogEntry *first = g_ptr_array_index(entries, skip);
    gboolean visible = FALSE;

    room->limited = skip > 0;
    room->before_position = first->position - 1;
    for (guint i = skip; i < entries->len; i++)
        g_ptr_array_add(ids, ((LogEntry *)g_ptr_array_index(entries, i))->ref);
    g_clear_pointer(&room->timeline, g_ptr_array_unref);
    room->timeline = rooms_events(call->server->rooms, room->room_id, ids, error);
    return room->timeline != NULL && all_visible(call, room->timeline, &visible, error) && visible;
}

static void
append_receipts(const SyncCall *call, SyncRoom *room, GPtrArray *receipts)
{
    if (!filter_events_want(call->filter->ephemeral, room->room_id, "m.receipt", NULL, NULL))
        return;
    for (guint i = 0; i < receipts->len; i++) {
        const LogEntry *entry = g_ptr_array_index(receipts, i);
        gsize length = 0;
        const char *text = g_bytes_get_data(entry->payload, &length);
        if (room->ephemeral->len > 0)
            g_string_append_c(room->ephemeral, ',');
        g_string_append_len(room->ephemeral, text, (gssize)length);
    }
}

static gboolean
append_room(const SyncCall *call, const SyncHubRoom *news, gint64 until, GString *out,
            GError **error)
{
    g_autoptr(SyncRoom) room = sync_room_new(news->room_id);
    GBytes *root = NULL;

    room->before_position = until;
    if (news->typing)
        sync_room_add_typing(call, room);
    append_receipts(call, room, news->receipts);
    if (news->events->len > 0) {
        root = ((LogEntry *)g_ptr_array_index(news->events, news->events->len - 1))->state_root;
        if (!read_timeline(call, room, news->events, error))
            return FALSE;
    }
    if (!count_unread(call, room, news, until, error))
        return FALSE;
    sync_room_limit_timeline(call, room);
    if (sync_room_is_empty(room))
        return TRUE;
    if (!sync_room_add_senders(call, room, root, error))
        return FALSE;
    if (out->len > 0)
        g_string_append_c(out, ',');
    return sync_room_append(call, room, TRUE, out, error);
}

static gboolean
append_rooms(const SyncCall *call, const SyncHubNews *news, GString *out, GError **error)
{
    GHashTableIter iterator;
    gpointer room_id = NULL;
    gpointer room = NULL;

    g_hash_table_iter_init(&iterator, news->rooms);
    while (g_hash_table_iter_next(&iterator, &room_id, &room))
        if (filter_wants_room(call->filter, room_id) &&
            !append_room(call, room, news->until, out, error))
            return FALSE;
    return TRUE;
}

gboolean
sync_from_memory(const SyncCall *call, GString **ret_answer, SyncToken *ret_next, GError **error)
{
    g_auto(SyncHubNews) news = {0};
    /* Read before looking: what changes in between is told again, never missed. */
    gint64 typing = typing_version(call->server->typing);

    if (call->since.to_device < call->since.position || call->since.unacknowledged ||
        !sync_hub_collect(call->server->sync, call->user_id, &call->since, &news))
        return FALSE;
    g_autoptr(GString) rooms = g_string_new(NULL);
    if (!append_rooms(call, &news, rooms, error))
        return FALSE;
    *ret_next = (SyncToken){call->since.epoch, news.until, typing, news.until, FALSE};
    *ret_answer = NULL;
    if (rooms->len == 0)
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
