#include "server/client/sync_hub.h"

#include <string.h>

#include "identity/clock.h"
#include "identity/seeded_hash.h"
#include "identity/session.h"
#include "server/client/typing.h"
#include "server/server.h"
#include "storage/log_ring.h"
#include "storage/to_device_store.h"

#define RECENT_ENTRIES_MAX 8192u
#define RECENT_BYTES_MAX ((gsize)16 * 1024 * 1024) /* of events, which the ring may share */
#define FOLLOWED_USERS_MAX 20000u
#define ROOMS_SEEN_MAX 100000u

/* One log entry, as the bell saw it. */
typedef struct {
    LogEntry *entry;
    gboolean plain;  /* an event that left the room's state as it was, or a receipt that says all */
    gint64 previous; /* of an event: no other one of the room stands between that and this */
} Recent;

/* A room's newest event. */
typedef struct {
    GBytes *root; /* the state's root after it */
    gint64 position;
} RoomSeen;

/* A user whose rooms are followed. */
typedef struct {
    char *user_id;
    GHashTable *rooms;  /* char *: joined */
    GHashTable *parked; /* device id -> Request, a reference each */
    GHashTable
        *key_counts;    /* device id -> char *: members of the answer; absent: ask the database */
    guint key_changes;  /* so that counts read before a change are not kept after it */
    gint64 stale_since; /* the position of a change of the user's own memberships; 0: none */
    gint64 last_used_ms;
} Follower;

struct SyncHub {
    Server *server;
    GMutex lock;           /* all below */
    GHashTable *followers; /* user id -> Follower */
    GHashTable *rooms;     /* room id -> set of Follower */
    GHashTable *seen;      /* room id -> RoomSeen */
    gint64 seen_since;     /* `seen` has every room with events after this position */
    GQueue recent;         /* Recent, oldest first */
    gsize recent_bytes;
    gint64 recent_after; /* `recent` holds everything after this position */
    gint64 position;     /* up to where the bell has told */
    SyncHubCounts counts;
};

static void
recent_free(Recent *recent)
{
    log_entry_unref(recent->entry);
    g_free(recent);
}

static void
follower_free(gpointer data)
{
    Follower *follower = data;
    g_free(follower->user_id);
    g_hash_table_unref(follower->rooms);
    g_hash_table_unref(follower->parked);
    g_hash_table_unref(follower->key_counts);
    g_free(follower);
}

/* ---- rooms and their followers; under the lock ---- */

static void
room_add(SyncHub *hub, const char *room_id, Follower *follower)
{
    GHashTable *set = g_hash_table_lookup(hub->rooms, room_id);
    if (set == NULL) {
        set = g_hash_table_new(g_direct_hash, g_direct_equal);
        g_hash_table_insert(hub->rooms, g_strdup(room_id), set);
    }
    g_hash_table_add(set, follower);
}

static void
room_remove(SyncHub *hub, const char *room_id, Follower *follower)
{
    GHashTable *set = g_hash_table_lookup(hub->rooms, room_id);
    if (set == NULL)
        return;
    g_hash_table_remove(set, follower);
    if (g_hash_table_size(set) == 0)
        g_hash_table_remove(hub->rooms, room_id);
}

static void
follower_leave_rooms(SyncHub *hub, Follower *follower)
{
    GHashTableIter iterator;
    gpointer room_id = NULL;
    g_hash_table_iter_init(&iterator, follower->rooms);
    while (g_hash_table_iter_next(&iterator, &room_id, NULL))
        room_remove(hub, room_id, follower);
    g_hash_table_remove_all(follower->rooms);
}

static Follower *
follower_get(SyncHub *hub, const char *user_id)
{
    Follower *follower = g_hash_table_lookup(hub->followers, user_id);
    if (follower == NULL) {
        follower = g_new0(Follower, 1);
        follower->user_id = g_strdup(user_id);
        follower->rooms = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
        follower->parked = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free,
                                                 (GDestroyNotify)request_unref);
        follower->key_counts = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, g_free);
        follower->stale_since = G_MAXINT64; /* until its rooms are told */
        g_hash_table_insert(hub->followers, follower->user_id, follower);
    }
    follower->last_used_ms = clock_interval_ms();
    return follower;
}

/* Too many: those who do not wait leave, the longest unused half of them. */
static void
put_out_idle(SyncHub *hub)
{
    if (g_hash_table_size(hub->followers) <= FOLLOWED_USERS_MAX)
        return;
    GHashTableIter iterator;
    gpointer value = NULL;
    gint64 oldest_ms = G_MAXINT64;
    g_hash_table_iter_init(&iterator, hub->followers);
    while (g_hash_table_iter_next(&iterator, NULL, &value))
        oldest_ms = MIN(oldest_ms, ((Follower *)value)->last_used_ms);
    gint64 middle_ms = oldest_ms + (clock_interval_ms() - oldest_ms) / 2;
    g_hash_table_iter_init(&iterator, hub->followers);
    while (g_hash_table_iter_next(&iterator, NULL, &value)) {
        Follower *follower = value;
        if (g_hash_table_size(follower->parked) > 0 || follower->last_used_ms > middle_ms)
            continue;
        follower_leave_rooms(hub, follower);
        g_hash_table_iter_remove(&iterator);
    }
}

/* ---- the bell ---- */

static gint64
seen_position(const SyncHub *hub, const char *room_id)
{
    const RoomSeen *seen = g_hash_table_lookup(hub->seen, room_id);
    return seen != NULL ? seen->position : hub->seen_since;
}

/* TRUE when the room's state is as it was. */
static gboolean
see_event(SyncHub *hub, const LogEntry *entry)
{
    RoomSeen *seen = g_hash_table_lookup(hub->seen, entry->room_id);
    if (seen == NULL) {
        if (g_hash_table_size(hub->seen) >= ROOMS_SEEN_MAX) {
            g_hash_table_remove_all(hub->seen);
            hub->seen_since = entry->position - 1;
        }
        seen = g_new0(RoomSeen, 1);
        g_hash_table_insert(hub->seen, g_strdup(entry->room_id), seen);
    }
    seen->position = entry->position;
    if (entry->state_root == NULL)
        return FALSE;
    gboolean same = seen->root != NULL && g_bytes_equal(seen->root, entry->state_root);
    g_clear_pointer(&seen->root, g_bytes_unref);
    seen->root = g_bytes_ref(entry->state_root);
    return same;
}

static void
room_seen_free(gpointer data)
{
    RoomSeen *seen = data;
    g_clear_pointer(&seen->root, g_bytes_unref);
    g_free(seen);
}

static gboolean
is_private_receipt(const LogEntry *entry)
{
    return entry->kind == LOG_RECEIPT && g_strcmp0(entry->ref, "m.read.private") == 0;
}

static Recent *
recent_new(SyncHub *hub, LogEntry *entry)
{
    Recent *recent = g_new0(Recent, 1);
    recent->entry = log_entry_ref(entry);
    if (entry->kind == LOG_EVENT) {
        recent->previous = seen_position(hub, entry->room_id);
        recent->plain = see_event(hub, entry) && entry->user_id == NULL;
    } else if (entry->kind == LOG_RECEIPT) {
        recent->plain = entry->payload != NULL || is_private_receipt(entry);
    }
    return recent;
}

static void
forget_key_counts(Follower *follower)
{
    follower->key_changes++;
    g_hash_table_remove_all(follower->key_counts);
}

static void
wake_device(Follower *follower, const char *device_id)
{
    Request *request = g_hash_table_lookup(follower->parked, device_id);
    if (request != NULL)
        request_wake(request);
}

static void
wake_all(Follower *follower)
{
    GHashTableIter iterator;
    gpointer request = NULL;
    g_hash_table_iter_init(&iterator, follower->parked);
    while (g_hash_table_iter_next(&iterator, NULL, &request))
        request_wake(request);
}

static void
wake_room(SyncHub *hub, const char *room_id)
{
    GHashTable *set = g_hash_table_lookup(hub->rooms, room_id);
    GHashTableIter iterator;
    gpointer follower = NULL;
    if (set == NULL)
        return;
    g_hash_table_iter_init(&iterator, set);
    while (g_hash_table_iter_next(&iterator, &follower, NULL))
        wake_all(follower);
}

static void
tell(SyncHub *hub, const LogEntry *entry)
{
    Follower *follower =
        entry->user_id != NULL ? g_hash_table_lookup(hub->followers, entry->user_id) : NULL;

    if (entry->room_id != NULL && !is_private_receipt(entry))
        wake_room(hub, entry->room_id);
    if (follower == NULL)
        return;
    if (entry->kind == LOG_TO_DEVICE) {
        g_autofree char *device_id = to_device_ref_device_id(entry->ref);
        wake_device(follower, device_id);
        return;
    }
    if (entry->kind == LOG_SESSION_END) /* its keys went with the device */
        forget_key_counts(follower);
    /* The user's own memberships changed: the rooms are told anew by the next look into the
     * database. */
    if (entry->kind == LOG_EVENT || entry->kind == LOG_INVITE || entry->kind == LOG_ROOM_FORGOTTEN)
        if (follower->stale_since == 0)
            follower->stale_since = entry->position;
    wake_all(follower);
}

static gsize
payload_bytes(const LogEntry *entry)
{
    return entry->payload != NULL ? g_bytes_get_size(entry->payload) : 0;
}

static void
bell(GPtrArray *entries, gpointer data)
{
    SyncHub *hub = data;
    g_mutex_lock(&hub->lock);
    for (guint i = 0; i < entries->len; i++) {
        LogEntry *entry = g_ptr_array_index(entries, i);
        if (entry->position <= hub->position) /* history from before we joined, and the like */
            continue;
        g_queue_push_tail(&hub->recent, recent_new(hub, entry));
        hub->recent_bytes += payload_bytes(entry);
        hub->position = entry->position;
        tell(hub, entry);
    }
    while (hub->recent.length > RECENT_ENTRIES_MAX || hub->recent_bytes > RECENT_BYTES_MAX) {
        Recent *oldest = g_queue_pop_head(&hub->recent);
        hub->recent_after = oldest->entry->position;
        hub->recent_bytes -= payload_bytes(oldest->entry);
        recent_free(oldest);
    }
    g_mutex_unlock(&hub->lock);
}

/* Sessions ended: who waits with one of them must not wait on. */
static void
session_bell(gpointer data)
{
    SyncHub *hub = data;
    GHashTableIter iterator;
    gpointer follower = NULL;
    g_mutex_lock(&hub->lock);
    g_hash_table_iter_init(&iterator, hub->followers);
    while (g_hash_table_iter_next(&iterator, NULL, &follower)) {
        GHashTableIter waiting;
        gpointer request = NULL;
        g_hash_table_iter_init(&waiting, ((Follower *)follower)->parked);
        while (g_hash_table_iter_next(&waiting, NULL, &request))
            if (!session_is_live(request_session(request), NULL))
                request_wake(request);
    }
    g_mutex_unlock(&hub->lock);
}

SyncHub *
sync_hub_new(Server *server)
{
    SyncHub *hub = g_new0(SyncHub, 1);
    hub->server = server;
    g_mutex_init(&hub->lock);
    hub->followers = g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, follower_free);
    hub->rooms = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free,
                                       (GDestroyNotify)g_hash_table_unref);
    hub->seen = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, room_seen_free);
    g_queue_init(&hub->recent);
    hub->position = hub->recent_after = hub->seen_since = log_ring_head(server->ring).position;
    log_ring_add_bell(server->ring, bell, hub);
    sessions_add_bell(server->sessions, session_bell, hub);
    return hub;
}

void
sync_hub_free(SyncHub *hub)
{
    if (hub == NULL)
        return;
    g_queue_clear_full(&hub->recent, (GDestroyNotify)recent_free);
    g_hash_table_unref(hub->rooms);
    g_hash_table_unref(hub->seen);
    g_hash_table_unref(hub->followers);
    g_mutex_clear(&hub->lock);
    g_free(hub);
}

void
sync_hub_follow(SyncHub *hub, const char *user_id, GPtrArray *room_ids, gint64 position)
{
    g_mutex_lock(&hub->lock);
    Follower *follower = follower_get(hub, user_id);
    follower_leave_rooms(hub, follower);
    for (guint i = 0; i < room_ids->len; i++) {
        const char *room_id = g_ptr_array_index(room_ids, i);
        g_hash_table_add(follower->rooms, g_strdup(room_id));
        room_add(hub, room_id, follower);
    }
    follower->stale_since = position < hub->recent_after ? G_MAXINT64 : 0;
    /* What was committed since that look may have changed them again. */
    for (GList *item = hub->recent.tail; item != NULL && follower->stale_since == 0;
         item = item->prev) {
        const LogEntry *entry = ((Recent *)item->data)->entry;
        if (entry->position <= position)
            break;
        if (g_strcmp0(entry->user_id, user_id) == 0 &&
            (entry->kind == LOG_EVENT || entry->kind == LOG_INVITE ||
             entry->kind == LOG_ROOM_FORGOTTEN))
            follower->stale_since = entry->position;
    }
    put_out_idle(hub);
    g_mutex_unlock(&hub->lock);
}

static gboolean
concerns(const Follower *follower, const LogEntry *entry)
{
    return g_strcmp0(entry->user_id, follower->user_id) == 0 ||
           (entry->room_id != NULL && g_hash_table_contains(follower->rooms, entry->room_id));
}

static void
hub_room_free(gpointer data)
{
    SyncHubRoom *room = data;
    g_free(room->room_id);
    g_ptr_array_unref(room->events);
    g_ptr_array_unref(room->receipts);
    g_free(room);
}

void
sync_hub_news_clear(SyncHubNews *news)
{
    g_clear_pointer(&news->rooms, g_hash_table_unref);
}

static SyncHubRoom *
news_room(SyncHubNews *news, const char *room_id, gint64 quiet_since)
{
    SyncHubRoom *room = g_hash_table_lookup(news->rooms, room_id);
    if (room == NULL) {
        room = g_new0(SyncHubRoom, 1);
        room->room_id = g_strdup(room_id);
        room->events = g_ptr_array_new_with_free_func((GDestroyNotify)log_entry_unref);
        room->receipts = g_ptr_array_new_with_free_func((GDestroyNotify)log_entry_unref);
        room->quiet_since = quiet_since;
        g_hash_table_insert(news->rooms, room->room_id, room);
    }
    return room;
}

/* FALSE: that is not for the memory. */
static gboolean
take_recent(SyncHub *hub, const Follower *follower, const Recent *recent, SyncHubNews *news)
{
    LogEntry *entry = recent->entry;
    if (!concerns(follower, entry))
        return TRUE;
    /* The user's own receipt changes what is unread. */
    if (!recent->plain || g_strcmp0(entry->user_id, follower->user_id) == 0)
        return FALSE;
    if (entry->kind == LOG_EVENT) {
        SyncHubRoom *room = news_room(news, entry->room_id, recent->previous);
        if (room->events->len == 0)
            room->quiet_since = recent->previous;
        g_ptr_array_add(room->events, log_entry_ref(entry));
    } else if (entry->payload != NULL) {
        SyncHubRoom *room = news_room(news, entry->room_id, seen_position(hub, entry->room_id));
        g_ptr_array_add(room->receipts, log_entry_ref(entry));
    }
    return TRUE;
}

static gboolean
take_after(SyncHub *hub, const Follower *follower, const SyncToken *since, SyncHubNews *news)
{
    g_autoptr(GPtrArray) typing = NULL;
    GList *item = hub->recent.tail;

    while (item != NULL && ((Recent *)item->data)->entry->position > since->position)
        item = item->prev;
    item = item != NULL ? item->next : hub->recent.head;
    for (; item != NULL; item = item->next)
        if (!take_recent(hub, follower, item->data, news))
            return FALSE;
    typing = typing_changed_among(hub->server->typing, follower->rooms, since->typing);
    for (guint i = 0; i < typing->len; i++) {
        const char *room_id = g_ptr_array_index(typing, i);
        news_room(news, room_id, seen_position(hub, room_id))->typing = TRUE;
    }
    return TRUE;
}

gboolean
sync_hub_collect(SyncHub *hub, const char *user_id, const SyncToken *since, SyncHubNews *ret_news)
{
    g_auto(SyncHubNews)
        news = {.rooms = g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, hub_room_free)};
    gboolean taken = FALSE;

    g_mutex_lock(&hub->lock);
    Follower *follower = g_hash_table_lookup(hub->followers, user_id);
    if (follower != NULL && follower->stale_since == 0 && since->position >= hub->recent_after &&
        since->position <= hub->position) {
        taken = take_after(hub, follower, since, &news);
        follower->last_used_ms = clock_interval_ms();
        news.until = hub->position;
    }
    g_mutex_unlock(&hub->lock);
    if (!taken)
        return FALSE;
    *ret_news = news;
    news.rooms = NULL;
    return TRUE;
}

/* Is there anything for @follower after @seen? */
static gboolean
has_news(SyncHub *hub, const Follower *follower, const SyncToken *seen)
{
    g_autoptr(GPtrArray) typing = NULL;

    if (follower->stale_since != 0 || seen->position < hub->recent_after)
        return TRUE;
    for (GList *item = hub->recent.tail; item != NULL; item = item->prev) {
        const LogEntry *entry = ((Recent *)item->data)->entry;
        if (entry->position <= seen->position)
            break;
        if (concerns(follower, entry))
            return TRUE;
    }
    typing = typing_changed_among(hub->server->typing, follower->rooms, seen->typing);
    return typing->len > 0;
}

void
sync_hub_park(SyncHub *hub, Request *request, const SyncToken *seen)
{
    g_mutex_lock(&hub->lock);
    Follower *follower = follower_get(hub, request_user_id(request));
    Request *older = g_hash_table_lookup(follower->parked, request_device_id(request));
    if (older != NULL && older != request)
        request_wake(older);
    g_hash_table_replace(follower->parked, g_strdup(request_device_id(request)),
                         request_ref(request));
    if (has_news(hub, follower, seen) || !session_is_live(request_session(request), NULL))
        request_wake(request);
    g_mutex_unlock(&hub->lock);
}

gboolean
sync_hub_leave(SyncHub *hub, Request *request)
{
    g_mutex_lock(&hub->lock);
    Follower *follower = g_hash_table_lookup(hub->followers, request_user_id(request));
    gboolean parked = follower != NULL &&
                      g_hash_table_lookup(follower->parked, request_device_id(request)) == request;
    if (parked)
        g_hash_table_remove(follower->parked, request_device_id(request));
    g_mutex_unlock(&hub->lock);
    return parked;
}

char *
sync_hub_key_counts(SyncHub *hub, const char *user_id, const char *device_id, guint *ret_changes)
{
    char *counts = NULL;
    g_mutex_lock(&hub->lock);
    Follower *follower = g_hash_table_lookup(hub->followers, user_id);
    *ret_changes = follower != NULL ? follower->key_changes : 0;
    if (follower != NULL)
        counts = g_strdup(g_hash_table_lookup(follower->key_counts, device_id));
    g_mutex_unlock(&hub->lock);
    return counts;
}

void
sync_hub_keep_key_counts(SyncHub *hub, const char *user_id, const char *device_id, guint changes,
                         const char *counts)
{
    g_mutex_lock(&hub->lock);
    Follower *follower = g_hash_table_lookup(hub->followers, user_id);
    if (follower != NULL && follower->key_changes == changes)
        g_hash_table_replace(follower->key_counts, g_strdup(device_id), g_strdup(counts));
    g_mutex_unlock(&hub->lock);
}

void
sync_hub_keys_changed(SyncHub *hub, const char *user_id)
{
    g_mutex_lock(&hub->lock);
    Follower *follower = g_hash_table_lookup(hub->followers, user_id);
    if (follower != NULL)
        forget_key_counts(follower);
    g_mutex_unlock(&hub->lock);
}

void
sync_hub_wake_room(SyncHub *hub, const char *room_id)
{
    g_mutex_lock(&hub->lock);
    wake_room(hub, room_id);
    g_mutex_unlock(&hub->lock);
}

void
sync_hub_count_answer(SyncHub *hub, gboolean from_memory)
{
    g_mutex_lock(&hub->lock);
    if (from_memory)
        hub->counts.from_memory++;
    else
        hub->counts.from_database++;
    g_mutex_unlock(&hub->lock);
}

void
sync_hub_counts(SyncHub *hub, SyncHubCounts *ret_counts)
{
    GHashTableIter iterator;
    gpointer follower = NULL;
    g_mutex_lock(&hub->lock);
    hub->counts.followed_users = g_hash_table_size(hub->followers);
    hub->counts.parked = 0;
    g_hash_table_iter_init(&iterator, hub->followers);
    while (g_hash_table_iter_next(&iterator, NULL, &follower))
        hub->counts.parked += g_hash_table_size(((Follower *)follower)->parked);
    *ret_counts = hub->counts;
    g_mutex_unlock(&hub->lock);
}
