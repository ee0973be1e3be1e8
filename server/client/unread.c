#include "server/client/unread.h"

#include <string.h>

#include "federation/room/power_levels.h"
#include "federation/rooms.h"
#include "identity/seeded_hash.h"
#include "server/client/push_rule_match.h"
#include "server/client/push_rules.h"
#include "storage/log_ring.h"
#include "storage/membership_store.h"
#include "storage/receipt_store.h"

#define USERS_MAX 20000
#define ROOMS_MAX 5000 /* of one user */
#define FACTS_MAX 20000
#define NAMES_MAX 200000 /* of members, in all rooms */
#define STRIPES 256

typedef struct {
    gint64 until;
    guint notifications;
    guint highlights;
} Count;

/* Parsed rules, shared with whoever evaluates them. */
typedef struct {
    gint references;
    cJSON *json;
} Rules;

typedef struct {
    Rules *rules;       /* NULL: not read yet */
    GHashTable *counts; /* room id -> Count */
} UserCounts;

/* What conditions ask about a room, under one state of it. */
typedef struct {
    GBytes *root;
    gint64 member_count;
    GHashTable *names; /* user id -> display name, "": none */
} Facts;

struct Unread {
    Server *server;
    GMutex lock;            /* all below */
    GHashTable *users;      /* user id -> UserCounts */
    GHashTable *facts;      /* room id -> Facts */
    guint names;            /* in all of them */
    guint changes[STRIPES]; /* by user: what was read before a change is not kept after it */
};

static void
rules_unref(Rules *rules)
{
    if (rules == NULL || !g_atomic_int_dec_and_test(&rules->references))
        return;
    cJSON_Delete(rules->json);
    g_free(rules);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rules, rules_unref)

static Rules *
rules_ref(Rules *rules)
{
    if (rules != NULL)
        g_atomic_int_inc(&rules->references);
    return rules;
}

static void
user_free(gpointer data)
{
    UserCounts *user = data;

    rules_unref(user->rules);
    g_hash_table_unref(user->counts);
    g_free(user);
}

static void
facts_free(gpointer data)
{
    Facts *facts = data;

    g_bytes_unref(facts->root);
    g_hash_table_unref(facts->names);
    g_free(facts);
}

static guint *
changes_of(Unread *unread, const char *user_id)
{
    return &unread->changes[seeded_str_hash(user_id) % STRIPES];
}

/* ---- forgetting ---- */

static void
forget(Unread *unread, const LogEntry *entry)
{
    UserCounts *user = g_hash_table_lookup(unread->users, entry->user_id);

    (*changes_of(unread, entry->user_id))++;
    if (user == NULL)
        return;
    if (entry->room_id != NULL)
        g_hash_table_remove(user->counts, entry->room_id);
    else
        g_hash_table_remove(unread->users, entry->user_id);
}

static void
bell(GPtrArray *entries, gpointer data)
{
    Unread *unread = data;

    g_mutex_lock(&unread->lock);
    for (guint i = 0; i < entries->len; i++) {
        const LogEntry *entry = entries->pdata[i];
        gboolean of_rules =
            entry->kind == LOG_ACCOUNT_DATA && g_strcmp0(entry->ref, "m.push_rules") == 0;
        if (entry->user_id != NULL &&
            (entry->kind == LOG_RECEIPT || entry->kind == LOG_EVENT || of_rules))
            forget(unread, entry);
    }
    g_mutex_unlock(&unread->lock);
}

Unread *
unread_new(Server *server)
{
    Unread *unread = g_new0(Unread, 1);

    g_mutex_init(&unread->lock);
    unread->server = server;
    unread->users = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, user_free);
    unread->facts = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, facts_free);
    log_ring_add_bell(server->ring, bell, unread);
    return unread;
}

void
unread_free(Unread *unread)
{
    if (unread == NULL)
        return;
    g_hash_table_unref(unread->users);
    g_hash_table_unref(unread->facts);
    g_mutex_clear(&unread->lock);
    g_free(unread);
}

/* ---- keeping; the lock is held ---- */

static UserCounts *
user_get(Unread *unread, const char *user_id)
{
    UserCounts *user = g_hash_table_lookup(unread->users, user_id);

    if (user != NULL)
        return user;
    if (g_hash_table_size(unread->users) >= USERS_MAX)
        g_hash_table_remove_all(unread->users);
    user = g_new0(UserCounts, 1);
    user->counts = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, g_free);
    g_hash_table_insert(unread->users, g_strdup(user_id), user);
    return user;
}

static void
keep_count(UserCounts *user, const char *room_id, const Count *count)
{
    if (g_hash_table_size(user->counts) >= ROOMS_MAX)
        g_hash_table_remove_all(user->counts);
    g_hash_table_insert(user->counts, g_strdup(room_id), g_memdup2(count, sizeof *count));
}

/* ---- what conditions ask ---- */

typedef struct {
    Unread *unread;
    const char *room_id;
    const char *user_id;
    GBytes *root;      /* owned; NULL: the current one is looked up */
    Pdu *create;       /* once asked for, with power_levels */
    Pdu *power_levels; /* NULL: none */
    char *display_name;
} Room;

static void
room_clear(Room *room)
{
    g_clear_pointer(&room->root, g_bytes_unref);
    g_clear_pointer(&room->create, pdu_unref);
    g_clear_pointer(&room->power_levels, pdu_unref);
    g_clear_pointer(&room->display_name, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Room, room_clear)

/* Of the room's present state; NULL when another one was seen last.  The lock is held. */
static Facts *
present_facts(const Room *room)
{
    Facts *facts = g_hash_table_lookup(room->unread->facts, room->room_id);

    return facts != NULL && g_bytes_equal(facts->root, room->root) ? facts : NULL;
}

/* What is known already: *ret_member_count -1 where it is not, room->display_name NULL. */
static void
find_facts(Room *room, gint64 *ret_member_count)
{
    const Facts *facts;

    g_mutex_lock(&room->unread->lock);
    facts = present_facts(room);
    *ret_member_count = facts != NULL ? facts->member_count : -1;
    g_clear_pointer(&room->display_name, g_free);
    if (facts != NULL)
        room->display_name = g_strdup(g_hash_table_lookup(facts->names, room->user_id));
    g_mutex_unlock(&room->unread->lock);
}

static void
keep_facts(const Room *room, gint64 member_count)
{
    Unread *unread = room->unread;
    Facts *facts;

    g_mutex_lock(&unread->lock);
    if (g_hash_table_size(unread->facts) >= FACTS_MAX || unread->names >= NAMES_MAX) {
        g_hash_table_remove_all(unread->facts);
        unread->names = 0;
    }
    facts = present_facts(room);
    if (facts == NULL) {
        facts = g_new(Facts, 1);
        *facts = (Facts){g_bytes_ref(room->root), member_count,
                         g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, g_free)};
        g_hash_table_insert(unread->facts, g_strdup(room->room_id), facts);
    }
    g_hash_table_insert(facts->names, g_strdup(room->user_id), g_strdup(room->display_name));
    unread->names++;
    g_mutex_unlock(&unread->lock);
}

static gboolean
load_member_count(const Room *room, gint64 *ret_member_count)
{
    g_autoptr(StoreConnection) connection = store_borrow(room->unread->server->pool, NULL);
    gint64 invited;

    return connection != NULL &&
           membership_store_count(connection, room->room_id, ret_member_count, &invited, NULL);
}

static gboolean
load_display_name(Room *room)
{
    g_autoptr(Pdu) member = NULL;
    const char *name;

    if (!rooms_state_find(room->unread->server->rooms, room->room_id, room->root, "m.room.member",
                          room->user_id, &member, NULL))
        return FALSE;
    name = member != NULL ? json_get_string(member->content, "displayname") : NULL;
    room->display_name = g_strdup(name != NULL ? name : "");
    return TRUE;
}

static gboolean
find_root(Room *room)
{
    return (room->root != NULL ||
            rooms_current_root(room->unread->server->rooms, room->room_id, &room->root, NULL)) &&
           room->root != NULL;
}

static gboolean
load_context(PushContext *context)
{
    Room *room = context->data;

    if (!find_root(room))
        return FALSE;
    find_facts(room, &context->member_count);
    if (context->member_count < 0 || room->display_name == NULL) {
        if ((context->member_count < 0 && !load_member_count(room, &context->member_count)) ||
            (room->display_name == NULL && !load_display_name(room)))
            return FALSE;
        keep_facts(room, context->member_count);
    }
    context->display_name = room->display_name;
    return TRUE;
}

/* Few events ask for it: those that address the whole room. */
static gboolean
may_notify(PushContext *context, const char *sender, const char *what)
{
    Room *room = context->data;
    Rooms *rooms = room->unread->server->rooms;
    PowerLevels levels;

    if (room->create == NULL &&
        (!find_root(room) ||
         !rooms_state_find(rooms, room->room_id, room->root, "m.room.power_levels", "",
                           &room->power_levels, NULL) ||
         !rooms_state_find(rooms, room->room_id, room->root, "m.room.create", "", &room->create,
                           NULL) ||
         room->create == NULL))
        return FALSE;
    levels = (PowerLevels){room->create, room->power_levels};
    return power_at_least(power_of_user(&levels, sender), power_level_to_notify(&levels, what));
}

static void
judge_event(const cJSON *rules, const cJSON *event, PushContext *context, Count *count)
{
    gboolean highlight = FALSE;

    if (count->notifications >= UNREAD_MAX || !push_rules_notify(rules, event, context, &highlight))
        return;
    count->notifications++;
    count->highlights += highlight ? 1 : 0;
}

/* ---- from the database ---- */

/* Read up to a receipt, or else up to one's own coming in. */
static gboolean
find_read_position(StoreConnection *connection, const char *room_id, const char *user_id,
                   gint64 *ret_position, GError **error)
{
    g_autoptr(StoredMembership) membership = NULL;

    if (!receipt_store_read_position(connection, room_id, user_id, ret_position, error))
        return FALSE;
    if (*ret_position > 0)
        return TRUE;
    if (!membership_store_find(connection, room_id, user_id, &membership, error))
        return FALSE;
    return membership == NULL ||
           receipt_store_event_position(connection, room_id, membership->event_id, ret_position,
                                        error);
}

/* Newest first, up to the user's own last event: who writes has read. */
static void
judge_rows(const StoreRows *rows, const char *user_id, const cJSON *rules, PushContext *context,
           Count *count)
{
    for (guint i = 0; i < store_rows_count(rows); i++) {
        gsize length;
        const char *text = store_rows_data(rows, i, 2, &length);
        g_autoptr(cJSON) event = NULL;
        if (strcmp(store_rows_text(rows, i, 1), user_id) == 0)
            return;
        event = json_parse(text, length, &json_limits_event_lax, NULL);
        if (event != NULL)
            judge_event(rules, event, context, count);
    }
}

static Rules *
load_rules(Unread *unread, StoreConnection *connection, const char *user_id, GError **error)
{
    Rules *rules;
    const UserCounts *user;
    cJSON *json;

    g_mutex_lock(&unread->lock);
    user = g_hash_table_lookup(unread->users, user_id);
    rules = user != NULL ? rules_ref(user->rules) : NULL;
    g_mutex_unlock(&unread->lock);
    if (rules != NULL)
        return rules;
    json = push_rules_load(connection, user_id, error);
    if (json == NULL)
        return NULL;
    rules = g_new(Rules, 1);
    *rules = (Rules){1, json};
    return rules;
}

static gboolean
find_count(Unread *unread, const char *room_id, const char *user_id, gint64 until, Count *ret_count,
           guint *ret_changes)
{
    const UserCounts *user;
    const Count *count;
    gboolean found;

    g_mutex_lock(&unread->lock);
    user = g_hash_table_lookup(unread->users, user_id);
    count = user != NULL ? g_hash_table_lookup(user->counts, room_id) : NULL;
    found = count != NULL && count->until == until;
    if (found)
        *ret_count = *count;
    *ret_changes = *changes_of(unread, user_id);
    g_mutex_unlock(&unread->lock);
    return found;
}

static gboolean
count_in_database(Unread *unread, StoreConnection *connection, const char *room_id,
                  const char *user_id, gint64 until, guint changes, Count *count, GError **error)
{
    g_auto(Room) room = {.unread = unread, .room_id = room_id, .user_id = user_id};
    PushContext context = {
        .user_id = user_id, .load = load_context, .may_notify = may_notify, .data = &room};
    g_autoptr(StoreRows) rows = NULL;
    g_autoptr(Rules) rules = NULL;
    gint64 read = 0;

    if (!find_read_position(connection, room_id, user_id, &read, error))
        return FALSE;
    rows = receipt_store_unread(connection, room_id, read, until, UNREAD_MAX, error);
    rules = rows != NULL ? load_rules(unread, connection, user_id, error) : NULL;
    if (rules == NULL)
        return FALSE;
    judge_rows(rows, user_id, rules->json, &context, count);
    g_mutex_lock(&unread->lock);
    if (changes == *changes_of(unread, user_id)) {
        UserCounts *user = user_get(unread, user_id);
        if (user->rules == NULL)
            user->rules = rules_ref(rules);
        keep_count(user, room_id, count);
    }
    g_mutex_unlock(&unread->lock);
    return TRUE;
}

gboolean
unread_count(Server *server, StoreConnection *connection, const char *room_id, const char *user_id,
             gint64 until, guint *ret_notifications, guint *ret_highlights, GError **error)
{
    Count count = {.until = until};
    guint changes;

    if (!find_count(server->unread, room_id, user_id, until, &count, &changes) &&
        !count_in_database(server->unread, connection, room_id, user_id, until, changes, &count,
                           error))
        return FALSE;
    *ret_notifications = count.notifications;
    *ret_highlights = count.highlights;
    return TRUE;
}

/* ---- from memory ---- */

static Rules *
begin_advance(Unread *unread, const char *room_id, const char *user_id, gint64 since,
              Count *ret_count, guint *ret_changes)
{
    Rules *rules = NULL;
    UserCounts *user;
    const Count *count;

    g_mutex_lock(&unread->lock);
    user = g_hash_table_lookup(unread->users, user_id);
    count = user != NULL ? g_hash_table_lookup(user->counts, room_id) : NULL;
    if (count != NULL && count->until >= since) {
        rules = rules_ref(user->rules);
        *ret_count = *count;
    }
    *ret_changes = *changes_of(unread, user_id);
    g_mutex_unlock(&unread->lock);
    return rules;
}

gboolean
unread_advance(Unread *unread, const char *room_id, const char *user_id, gint64 since,
               GPtrArray *entries, GPtrArray *events, guint *ret_notifications,
               guint *ret_highlights)
{
    g_auto(Room) room = {.unread = unread, .room_id = room_id, .user_id = user_id};
    PushContext context = {
        .user_id = user_id, .load = load_context, .may_notify = may_notify, .data = &room};
    const LogEntry *last = entries->len > 0 ? entries->pdata[entries->len - 1] : NULL;
    Count count = {0};
    guint changes;
    g_autoptr(Rules) rules = begin_advance(unread, room_id, user_id, since, &count, &changes);

    if (rules == NULL || entries->len != events->len ||
        (last != NULL && count.until > last->position))
        return FALSE;
    room.root = last != NULL && last->state_root != NULL ? g_bytes_ref(last->state_root) : NULL;
    for (guint i = 0; i < entries->len; i++) {
        const LogEntry *entry = entries->pdata[i];
        const Pdu *pdu = ((const RoomEvent *)events->pdata[i])->pdu;
        if (entry->position <= count.until)
            continue;
        if (strcmp(pdu->sender, user_id) == 0)
            count.notifications = count.highlights = 0;
        else if (pdu->state_key == NULL)
            judge_event(rules->json, pdu->json, &context, &count);
    }
    if (last != NULL)
        count.until = last->position;
    g_mutex_lock(&unread->lock);
    if (changes == *changes_of(unread, user_id))
        keep_count(user_get(unread, user_id), room_id, &count);
    g_mutex_unlock(&unread->lock);
    *ret_notifications = count.notifications;
    *ret_highlights = count.highlights;
    return TRUE;
}
