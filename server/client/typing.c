#include "server/client/typing.h"

#include <sodium.h>

#include "identity/clock.h"
#include "identity/json.h"
#include "identity/seeded_hash.h"

#define ROOMS_MAX 50000 /* with somebody typing, now or a short while ago */
/* Longer than a sync waits: whoever follows has been told by then that nobody types any more. */
#define EMPTY_ROOM_KEPT_MS (10 * 60 * 1000)

typedef struct {
    GHashTable *users; /* user id -> gint64 *: until when, on the interval clock */
    gint64 version;
    gint64 changed_ms; /* on the interval clock */
} TypingRoom;

struct Typing {
    TypingBell bell;
    gpointer data;
    GThread *thread;
    GMutex lock; /* all below */
    GCond changed;
    GHashTable
        *rooms; /* room id -> TypingRoom; an emptied one stays until its change has been told */
    gint64 version;
    gint64 first_version;
    gboolean ending;
};

static void
room_free(gpointer data)
{
    TypingRoom *room = data;

    g_hash_table_unref(room->users);
    g_free(room);
}

/* Out of @room whoever's time is up. */
static gboolean
expire_room(TypingRoom *room, gint64 now_ms)
{
    gboolean any = FALSE;
    GHashTableIter iter;
    gpointer until;

    g_hash_table_iter_init(&iter, room->users);
    while (g_hash_table_iter_next(&iter, NULL, &until))
        if (*(gint64 *)until <= now_ms) {
            g_hash_table_iter_remove(&iter);
            any = TRUE;
        }
    return any;
}

static gboolean
is_long_empty(const TypingRoom *room, gint64 now_ms)
{
    return g_hash_table_size(room->users) == 0 && room->changed_ms + EMPTY_ROOM_KEPT_MS < now_ms;
}

static void
room_changed(Typing *typing, TypingRoom *room)
{
    room->version = ++typing->version;
    room->changed_ms = clock_interval_ms();
}

/* The rooms that changed: char *, owned. */
static GPtrArray *
expire_all(Typing *typing)
{
    GPtrArray *rooms = g_ptr_array_new_with_free_func(g_free);
    gint64 now_ms = clock_interval_ms();
    GHashTableIter iter;
    gpointer room_id;
    gpointer room;

    g_hash_table_iter_init(&iter, typing->rooms);
    while (g_hash_table_iter_next(&iter, &room_id, &room))
        if (expire_room(room, now_ms)) {
            room_changed(typing, room);
            g_ptr_array_add(rooms, g_strdup(room_id));
        } else if (is_long_empty(room, now_ms)) {
            g_hash_table_iter_remove(&iter);
        }
    return rooms;
}

static gpointer
typing_run(gpointer data)
{
    Typing *typing = data;

    g_mutex_lock(&typing->lock);
    while (!typing->ending) {
        g_autoptr(GPtrArray) rooms = NULL;
        g_cond_wait_until(&typing->changed, &typing->lock,
                          g_get_monotonic_time() + G_TIME_SPAN_SECOND);
        if (typing->ending)
            break;
        rooms = expire_all(typing);
        g_mutex_unlock(&typing->lock);
        for (guint i = 0; i < rooms->len; i++)
            typing->bell(rooms->pdata[i], typing->data);
        g_mutex_lock(&typing->lock);
    }
    g_mutex_unlock(&typing->lock);
    return NULL;
}

Typing *
typing_new(TypingBell bell, gpointer data)
{
    Typing *typing = g_new0(Typing, 1);

    g_mutex_init(&typing->lock);
    g_cond_init(&typing->changed);
    typing->bell = bell;
    typing->data = data;
    typing->rooms = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, room_free);
    /* Another process's tokens then name other versions, but for chance. */
    typing->first_version = (gint64)randombytes_uniform(1000000000) * 1000000 + 1;
    typing->version = typing->first_version;
    typing->thread = g_thread_new("typing", typing_run, typing);
    return typing;
}

void
typing_free(Typing *typing)
{
    if (typing == NULL)
        return;
    g_mutex_lock(&typing->lock);
    typing->ending = TRUE;
    g_cond_signal(&typing->changed);
    g_mutex_unlock(&typing->lock);
    g_thread_join(typing->thread);
    g_hash_table_unref(typing->rooms);
    g_mutex_clear(&typing->lock);
    g_cond_clear(&typing->changed);
    g_free(typing);
}

static TypingRoom *
find_room(Typing *typing, const char *room_id)
{
    TypingRoom *room = g_hash_table_lookup(typing->rooms, room_id);

    if (room != NULL || g_hash_table_size(typing->rooms) >= ROOMS_MAX)
        return room;
    room = g_new0(TypingRoom, 1);
    room->users = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, g_free);
    g_hash_table_insert(typing->rooms, g_strdup(room_id), room);
    return room;
}

/* TRUE when the list of names changed: a longer time alone is no news. */
static gboolean
set_user(TypingRoom *room, const char *user_id, guint timeout_ms)
{
    gint64 *until;

    if (timeout_ms == 0)
        return g_hash_table_remove(room->users, user_id);
    until = g_hash_table_lookup(room->users, user_id);
    if (until == NULL && g_hash_table_size(room->users) >= TYPING_ROOM_USERS_MAX)
        return FALSE;
    if (until != NULL) {
        *until = clock_interval_ms() + MIN(timeout_ms, (guint)TYPING_MS_MAX);
        return FALSE;
    }
    until = g_new(gint64, 1);
    *until = clock_interval_ms() + MIN(timeout_ms, (guint)TYPING_MS_MAX);
    g_hash_table_insert(room->users, g_strdup(user_id), until);
    return TRUE;
}

void
typing_set(Typing *typing, const char *room_id, const char *user_id, guint timeout_ms)
{
    gboolean news = FALSE;
    TypingRoom *room;

    g_mutex_lock(&typing->lock);
    room = find_room(typing, room_id);
    if (room != NULL)
        news = set_user(room, user_id, timeout_ms);
    if (news)
        room_changed(typing, room);
    g_mutex_unlock(&typing->lock);
    if (news)
        typing->bell(room_id, typing->data);
}

gint64
typing_version(Typing *typing)
{
    gint64 version;

    g_mutex_lock(&typing->lock);
    version = typing->version;
    g_mutex_unlock(&typing->lock);
    return version;
}

static gboolean
changed_since(const Typing *typing, const char *room_id, gint64 since)
{
    const TypingRoom *room = g_hash_table_lookup(typing->rooms, room_id);

    if (since < typing->first_version || since > typing->version)
        since = 0;
    return room != NULL && room->version > since;
}

gboolean
typing_changed(Typing *typing, const char *room_id, gint64 since)
{
    gboolean changed;

    g_mutex_lock(&typing->lock);
    changed = changed_since(typing, room_id, since);
    g_mutex_unlock(&typing->lock);
    return changed;
}

GPtrArray *
typing_changed_among(Typing *typing, GHashTable *room_ids, gint64 since)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    gpointer room_id;

    g_mutex_lock(&typing->lock);
    if (since != typing->version) {
        /* Of the two sets, through the smaller. */
        gboolean through_theirs = g_hash_table_size(room_ids) <= g_hash_table_size(typing->rooms);
        GHashTable *other = through_theirs ? typing->rooms : room_ids;
        g_hash_table_iter_init(&iter, through_theirs ? room_ids : typing->rooms);
        while (g_hash_table_iter_next(&iter, &room_id, NULL))
            if (g_hash_table_contains(other, room_id) && changed_since(typing, room_id, since))
                g_ptr_array_add(found, g_strdup(room_id));
    }
    g_mutex_unlock(&typing->lock);
    return found;
}

void
typing_append(Typing *typing, const char *room_id, GString *out)
{
    gboolean first = TRUE;
    const TypingRoom *room;
    GHashTableIter iter;
    gpointer user_id;

    g_string_append(out, "{\"type\":\"m.typing\",\"content\":{\"user_ids\":[");
    g_mutex_lock(&typing->lock);
    room = g_hash_table_lookup(typing->rooms, room_id);
    if (room != NULL) {
        g_hash_table_iter_init(&iter, room->users);
        while (g_hash_table_iter_next(&iter, &user_id, NULL)) {
            if (!first)
                g_string_append_c(out, ',');
            first = FALSE;
            json_append_string(out, user_id);
        }
    }
    g_mutex_unlock(&typing->lock);
    g_string_append(out, "]}}");
}
