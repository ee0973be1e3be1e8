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
    const LogEntry *last = g_ptr_array_index(entries, entries->len - 1);
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
    if (room->timeline == NULL || !all_visible(call, room->timeline, &visible, error) || !visible ||
        !count_unread(call, room, entries, last->position, error))
        return FALSE;
    room->has_counts = TRUE;
    sync_room_limit_timeline(call, room);
    return sync_room_add_senders(call, room, last->state_root, error);
}

typedef struct {
    GHashTable *entries; /* room id -> GPtrArray of LogEntry */
    GHashTable *typing;  /* room ids */
} Changed;

static void
changed_clear(Changed *changed)
{
    g_clear_pointer(&changed->entries, g_hash_table_unref);
    g_clear_pointer(&changed->typing, g_hash_table_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Changed, changed_clear)

static gboolean
append_room(const SyncCall *call, const Changed *changed, const char *room_id, GString *out,
            GError **error)
{
    g_autoptr(SyncRoom) room = sync_room_new(room_id);
    GPtrArray *entries = g_hash_table_lookup(changed->entries, room_id);

    if (!filter_wants_room(call->filter, room_id))
        return TRUE;
    if (entries != NULL && !read_timeline(call, room, entries, error))
        return FALSE;
    if (g_hash_table_contains(changed->typing, room_id))
        sync_room_add_typing(call, room);
    if (sync_room_is_empty(room))
        return TRUE;
    if (out->len > 0)
        g_string_append_c(out, ',');
    return sync_room_append(call, room, TRUE, out, error);
}

static gboolean
append_rooms(const SyncCall *call, const SyncHubNews *news, GString *out, GError **error)
{
    g_auto(Changed)
        changed = {by_room(news->entries), g_hash_table_new(seeded_str_hash, g_str_equal)};
    GHashTableIter iterator;
    gpointer room_id = NULL;

    for (guint i = 0; i < news->typing->len; i++)
        g_hash_table_add(changed.typing, g_ptr_array_index(news->typing, i));
    g_hash_table_iter_init(&iterator, changed.entries);
    while (g_hash_table_iter_next(&iterator, &room_id, NULL))
        if (!append_room(call, &changed, room_id, out, error))
            return FALSE;
    g_hash_table_iter_init(&iterator, changed.typing);
    while (g_hash_table_iter_next(&iterator, &room_id, NULL))
        if (!g_hash_table_contains(changed.entries, room_id) &&
            !append_room(call, &changed, room_id, out, error))
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
