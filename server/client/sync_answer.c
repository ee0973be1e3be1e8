/* server/client/sync_answer.c: a sync answered out of the database, as of one snapshot.
 *
 * The snapshot gives the log's head (the new token) and the flat tables as of it.  What happened
 * since the old token is read from the log as a whole, or, after a long absence, room by room; what
 * a long absence makes too costly to tell apart (account data, receipts) is then told whole, which
 * clients take as the same. */
#include <string.h>

#include "identity/seeded_hash.h"
#include "server/client/account_data.h"
#include "server/client/receipts.h"
#include "server/client/room_call.h"
#include "server/client/sync_hub.h"
#include "server/client/sync_private.h"
#include "server/client/typing.h"
#include "server/client/unread.h"
#include "storage/event_store.h"
#include "storage/log.h"
#include "storage/log_ring.h"
#include "storage/membership_store.h"

#define HEROES_MAX 5u

/* ---- one joined room ---- */

/* Of a page out of the log (newest first) what the user may see, oldest first; ends at the first
 * event that is not to be seen, for what lies before it is not continuous. */
static gboolean
take_visible(const SyncLook *look, SyncRoom *room, GPtrArray *page, gboolean newest_first,
             const char *membership, GError **error)
{
    const SyncCall *call = look->call;
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    for (guint i = 0; i < page->len; i++) {
        const LogEntry *entry = g_ptr_array_index(page, newest_first ? page->len - 1 - i : i);
        g_ptr_array_add(ids, entry->ref);
    }
    g_autoptr(GPtrArray) events = rooms_events(call->server->rooms, room->room_id, ids, error);
    if (events == NULL)
        return FALSE;
    guint first = events->len;
    while (first > 0) {
        gboolean visible = FALSE;
        if (!rooms_visible_to_user(call->server->rooms, g_ptr_array_index(events, first - 1),
                                   call->user_id, membership, &visible, error))
            return FALSE;
        if (!visible)
            break;
        first--;
    }
    if (first > 0)
        room->limited = TRUE;
    for (guint i = first; i < events->len; i++)
        g_ptr_array_add(room->timeline, room_event_ref(g_ptr_array_index(events, i)));
    return TRUE;
}

static gint64
position_of(GPtrArray *page, const char *event_id)
{
    for (guint i = 0; i < page->len; i++) {
        const LogEntry *entry = g_ptr_array_index(page, i);
        if (g_strcmp0(entry->ref, event_id) == 0)
            return entry->position;
    }
    return 0;
}

/* The newest events of the room in (@after, @until]: the timeline. */
static gboolean
read_timeline(const SyncLook *look, SyncRoom *room, gint64 after, gint64 until,
              const char *membership, GError **error)
{
    guint limit = sync_timeline_limit(look->call);
    g_autoptr(GPtrArray) page =
        log_read_room(look->connection, room->room_id, until + 1, TRUE, limit + 1, error);
    if (page == NULL)
        return FALSE;
    for (guint i = page->len; i > 0; i--) { /* newest first: what is too old stands last */
        const LogEntry *entry = g_ptr_array_index(page, i - 1);
        if (entry->position > after)
            break;
        g_ptr_array_remove_index(page, i - 1);
    }
    room->limited = page->len > limit;
    if (room->limited)
        g_ptr_array_set_size(page, (gint)limit);
    if (!take_visible(look, room, page, TRUE, membership, error))
        return FALSE;
    sync_room_limit_timeline(look->call, room);
    if (room->timeline->len > 0) {
        const RoomEvent *first = g_ptr_array_index(room->timeline, 0);
        room->before_position = position_of(page, first->pdu->event_id) - 1;
    } else {
        room->before_position = until;
    }
    return TRUE;
}

/* With lazy members: whose member events are wanted; NULL: everybody's. */
static GHashTable *
wanted_members(const SyncCall *call, const SyncRoom *room)
{
    if (!call->filter->lazy_members)
        return NULL;
    GHashTable *wanted = g_hash_table_new(seeded_str_hash, g_str_equal);
    g_hash_table_add(wanted, (gpointer)call->user_id);
    for (guint i = 0; i < room->timeline->len; i++) {
        const Pdu *pdu = ((RoomEvent *)g_ptr_array_index(room->timeline, i))->pdu;
        g_hash_table_add(wanted, (gpointer)pdu->sender);
        /* Clients that are told the state after the timeline take none out of it. */
        if (call->state_after != NULL && pdu_membership(pdu) != NULL)
            g_hash_table_add(wanted, (gpointer)pdu->state_key);
    }
    return wanted;
}

static gboolean
is_wanted_state(const char *type, const char *state_key, gpointer data)
{
    GHashTable *members = data;
    return members == NULL || strcmp(type, "m.room.member") != 0 ||
           g_hash_table_contains(members, state_key);
}

static gboolean
begins_with_create(const SyncRoom *room)
{
    const RoomEvent *first = g_ptr_array_index(room->timeline, 0);
    return pdu_is(first->pdu, "m.room.create", "");
}

/* From the state at @from (NULL: none) to that before the timeline, or after it when the client
 * asks so. */
static gboolean
read_state(const SyncLook *look, SyncRoom *room, GBytes *from, gint64 until, GError **error)
{
    const SyncCall *call = look->call;
    gint64 at =
        call->state_after != NULL || room->timeline->len == 0 ? until : room->before_position;
    g_autoptr(GBytes) to = NULL;

    if (!log_state_root_at(look->connection, room->room_id, at, &to, error))
        return FALSE;
    if (to == NULL && room->timeline->len > 0 && !begins_with_create(room)) {
        /* The room begins here for us (a join over federation): the state is told as it is after
         * its first event. */
        if (!log_state_root_at(look->connection, room->room_id, until, &to, error))
            return FALSE;
    }
    if (to == NULL)
        return TRUE; /* all of it is in the timeline */
    if (from != NULL && g_bytes_equal(from, to))
        return sync_room_add_senders(call, room, to, error);
    g_autoptr(GHashTable) members = wanted_members(call, room);
    GPtrArray *changes = rooms_state_changes(call->server->rooms, room->room_id, from, to,
                                             is_wanted_state, members, error);
    if (changes == NULL)
        return FALSE;
    g_ptr_array_unref(room->state);
    room->state = changes;
    return sync_room_add_senders(call, room, to, error);
}

/* Up to five other members, for a room without a name (client-server API, "Calculating the display
 * name for a room"): those who are there or invited; if there are none, those who were. */
static gboolean
read_heroes(const SyncLook *look, SyncRoom *room, GError **error)
{
    const char *const kinds[] = {"join", "invite", "leave", "ban"};
    for (guint kind = 0; kind < G_N_ELEMENTS(kinds); kind++) {
        if (kind >= 2 && room->heroes->len > 0)
            return TRUE;
        g_autoptr(GPtrArray) members = membership_store_members(
            look->connection, room->room_id, kinds[kind], NULL, HEROES_MAX + 1, error);
        if (members == NULL)
            return FALSE;
        for (guint i = 0; i < members->len && room->heroes->len < HEROES_MAX; i++) {
            const StoredMembership *member = g_ptr_array_index(members, i);
            if (strcmp(member->user_id, look->call->user_id) != 0)
                g_ptr_array_add(room->heroes, g_strdup(member->user_id));
        }
    }
    return TRUE;
}

static gboolean
read_summary(const SyncLook *look, SyncRoom *room, GError **error)
{
    g_autoptr(GBytes) root = NULL;
    gint64 joined = 0;
    gint64 invited = 0;
    if (!membership_store_count(look->connection, room->room_id, &joined, &invited, error) ||
        !read_heroes(look, room, error) ||
        !log_state_root_at(look->connection, room->room_id, look->until, &root, error))
        return FALSE;
    g_string_append_printf(room->summary,
                           "\"m.joined_member_count\":%" G_GINT64_FORMAT
                           ",\"m.invited_member_count\":%" G_GINT64_FORMAT ",\"m.heroes\":[",
                           joined, invited);
    for (guint i = 0; i < room->heroes->len; i++) {
        if (i > 0)
            g_string_append_c(room->summary, ',');
        json_append_string(room->summary, g_ptr_array_index(room->heroes, i));
    }
    g_string_append_c(room->summary, ']');
    return sync_room_add_heroes(look->call, room, root, error);
}

static gboolean
read_unread(const SyncLook *look, SyncRoom *room, GError **error)
{
    return unread_count(look->call->server, look->connection, room->room_id, look->call->user_id,
                        look->until, &room->notifications, &room->highlights, error);
}

/* What is not of the timeline: receipts, typing, account data.  @after 0: all of it. */
static gboolean
read_extras(const SyncLook *look, SyncRoom *room, gint64 after, GError **error)
{
    const SyncCall *call = look->call;
    Typing *typing = call->server->typing;

    if (typing_changed(typing, room->room_id, after == 0 ? 0 : call->since.typing))
        sync_room_add_typing(call, room);
    return (!filter_events_want(call->filter->ephemeral, room->room_id, "m.receipt", NULL, NULL) ||
            receipts_append(look->connection, room->room_id, call->user_id, after, look->until,
                            room->ephemeral, error)) &&
           account_data_append(look->connection, call->user_id, room->room_id, after, look->until,
                               call->filter->room_account_data, room->account_data, error);
}

static gboolean
has_member_change(const SyncLook *look, const char *room_id)
{
    GPtrArray *entries = sync_look_room_entries(look, room_id);
    for (guint i = 0; entries != NULL && i < entries->len; i++) {
        const LogEntry *entry = g_ptr_array_index(entries, i);
        if (entry->kind == LOG_EVENT && entry->user_id != NULL)
            return TRUE;
    }
    return FALSE;
}

static SyncRoom *
joined_room(SyncLook *look, const StoredMembership *membership, GError **error)
{
    const SyncCall *call = look->call;
    const char *room_id = membership->room_id;
    g_autoptr(SyncRoom) room = sync_room_new(room_id);
    g_autoptr(GBytes) root_since = NULL;
    gboolean newly = call->initial;

    if (!call->initial) {
        g_autofree char *then = NULL;
        if (!sync_look_membership_then(look, room_id, call->user_id, &root_since, &then, error))
            return NULL;
        newly = g_strcmp0(then, "join") != 0;
    }
    gboolean full = newly || call->full_state;
    if (!read_timeline(look, room, newly ? G_MININT64 : look->since, look->until, "join", error) ||
        !read_state(look, room, full ? NULL : root_since, look->until, error) ||
        !read_extras(look, room, newly ? 0 : look->since, error) ||
        !read_unread(look, room, error) ||
        ((full || has_member_change(look, room_id) ||
          (look->whole && (room->timeline->len > 0 || room->state->len > 0))) &&
         !read_summary(look, room, error)))
        return NULL;
    return g_steal_pointer(&room);
}

/* From now on the hub follows the user's rooms. */
static void
follow(const SyncLook *look)
{
    g_autoptr(GPtrArray) room_ids = g_ptr_array_new();
    GHashTableIter iterator;
    gpointer room_id = NULL;

    g_hash_table_iter_init(&iterator, look->joined);
    while (g_hash_table_iter_next(&iterator, &room_id, NULL))
        g_ptr_array_add(room_ids, room_id);
    sync_hub_follow(look->call->server->sync, look->call->user_id, room_ids, look->until);
}

static gboolean
append_joined(SyncLook *look, GString *out, GError **error)
{
    const SyncCall *call = look->call;
    for (guint i = 0; i < look->memberships->len; i++) {
        const StoredMembership *membership = g_ptr_array_index(look->memberships, i);
        if (strcmp(membership->membership, "join") != 0 ||
            !filter_wants_room(call->filter, membership->room_id))
            continue;
        if (!look->whole && !call->full_state &&
            sync_look_room_entries(look, membership->room_id) == NULL &&
            !g_hash_table_contains(look->account_rooms, membership->room_id) &&
            !typing_changed(call->server->typing, membership->room_id, call->since.typing))
            continue;
        g_autoptr(SyncRoom) room = joined_room(look, membership, error);
        if (room == NULL)
            return FALSE;
        if (!call->initial && !call->full_state && sync_room_is_empty(room))
            continue;
        if (out->len > 0)
            g_string_append_c(out, ',');
        if (!sync_room_append(call, room, TRUE, out, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- rooms left and invites ---- */

/* Of a room that the user was not in any more, or never was: their own membership's end at
 * @position, and nothing else. */
static gboolean
read_own_end(const SyncLook *look, SyncRoom *room, const StoredMembership *membership,
             gint64 position, GError **error)
{
    const SyncCall *call = look->call;
    g_autoptr(GBytes) root = NULL;
    Pdu *member = NULL;

    if (!read_timeline(look, room, position - 1, position, membership->membership, error))
        return FALSE;
    room->limited = TRUE;
    if (room->timeline->len > 0)
        return TRUE;
    if (!log_state_root_at(look->connection, room->room_id, position, &root, error) ||
        (root != NULL && !rooms_state_find(call->server->rooms, room->room_id, root,
                                           "m.room.member", call->user_id, &member, error)))
        return FALSE;
    if (member != NULL)
        g_ptr_array_add(room->state, member);
    return TRUE;
}

/* A room that was the user's until @position: what came up to then. */
static gboolean
read_until_left(const SyncLook *look, SyncRoom *room, const StoredMembership *membership,
                gint64 position, GError **error)
{
    const SyncCall *call = look->call;
    g_autoptr(GBytes) root_since = NULL;
    g_autofree char *then = NULL;

    if (!call->initial &&
        !sync_look_membership_then(look, room->room_id, call->user_id, &root_since, &then, error))
        return FALSE;
    return read_timeline(look, room, call->initial ? G_MININT64 : look->since, position,
                         membership->membership, error) &&
           read_state(look, room, g_strcmp0(then, "join") == 0 ? root_since : NULL, position,
                      error);
}

static gboolean
left_room(SyncLook *look, const StoredMembership *membership, GString *out, GError **error)
{
    const SyncCall *call = look->call;
    g_autoptr(SyncRoom) room = sync_room_new(membership->room_id);
    g_autoptr(StoredEvent) event = NULL;
    g_autoptr(RoomEvent) leave = NULL;
    gint64 position = 0;

    if (!event_store_find(look->connection, membership->room_id, membership->event_id, &event,
                          error))
        return FALSE;
    if (event == NULL || event->position <= look->since || event->position > look->until)
        return TRUE;
    /* A ban may follow a leave that was told, or meet somebody who never was in the room. */
    if (!room_find_leave(call->server, membership, &leave, &position, error) ||
        !(leave != NULL && (call->initial || position > look->since)
              ? read_until_left(look, room, membership, position, error)
              : read_own_end(look, room, membership, event->position, error)))
        return FALSE;
    if (out->len > 0)
        g_string_append_c(out, ',');
    g_hash_table_add(look->told, g_strdup(room->room_id));
    return sync_room_append(call, room, FALSE, out, error);
}

static gboolean
append_left(SyncLook *look, GString *out, GError **error)
{
    const SyncCall *call = look->call;
    for (guint i = 0; i < look->memberships->len; i++) {
        const StoredMembership *membership = g_ptr_array_index(look->memberships, i);
        gboolean left = strcmp(membership->membership, "leave") == 0 ||
                        strcmp(membership->membership, "ban") == 0;
        if (!left || membership->forgotten ||
            !filter_wants_room(call->filter, membership->room_id) ||
            (call->initial && !call->filter->include_leave) ||
            (!look->whole &&
             !sync_look_has_entry(look, membership->room_id, LOG_EVENT, call->user_id)))
            continue;
        if (!left_room(look, membership, out, error))
            return FALSE;
    }
    return TRUE;
}

static const char *const stripped_types[] = {
    "m.room.create",     "m.room.name",       "m.room.avatar",
    "m.room.topic",      "m.room.join_rules", "m.room.canonical_alias",
    "m.room.encryption",
};

/* Stripped state of a room that this server is in, for who is invited or knocks. */
static gboolean
append_local_invite(SyncLook *look, const StoredMembership *membership, GString *out,
                    GError **error)
{
    Rooms *rooms = look->call->server->rooms;
    g_autoptr(GBytes) root = NULL;
    gboolean first = TRUE;
    if (!rooms_current_root(rooms, membership->room_id, &root, error))
        return FALSE;
    if (root == NULL)
        return TRUE;
    for (guint i = 0; i <= G_N_ELEMENTS(stripped_types) + 1; i++) {
        g_autoptr(Pdu) pdu = NULL;
        const gboolean member = i >= G_N_ELEMENTS(stripped_types);
        const char *type = member ? "m.room.member" : stripped_types[i];
        const char *state_key = !member                             ? ""
                                : i == G_N_ELEMENTS(stripped_types) ? membership->sender
                                                                    : look->call->user_id;
        /* Who knocks is the sender too. */
        if (member && i == G_N_ELEMENTS(stripped_types) &&
            strcmp(state_key, look->call->user_id) == 0)
            continue;
        if (!rooms_state_find(rooms, membership->room_id, root, type, state_key, &pdu, error))
            return FALSE;
        if (pdu == NULL)
            continue;
        if (!first)
            g_string_append_c(out, ',');
        first = FALSE;
        /* The invite itself comes whole, so that clients know who invited and when. */
        if (member && strcmp(state_key, look->call->user_id) == 0)
            pdu_client_json(pdu, FALSE, NULL, out);
        else
            pdu_stripped_json(pdu, out);
    }
    return TRUE;
}

/* @kind: "invite" or "knock". */
static gboolean
begin_invite(SyncLook *look, const char *kind, const char *room_id, GString *out)
{
    g_hash_table_add(look->told, g_strdup(room_id));
    if (!filter_wants_room(look->call->filter, room_id))
        return FALSE;
    if (out->len > 0)
        g_string_append_c(out, ',');
    json_append_string(out, room_id);
    g_string_append_printf(out, ":{\"%s_state\":{\"events\":[", kind);
    return TRUE;
}

/* Invites by partners and knocks at their rooms: the stripped state as it came, and the event. */
static gboolean
append_partner_invites(SyncLook *look, const char *kind, GString *out, GError **error)
{
    g_autoptr(GPtrArray) invites =
        membership_store_invites(look->connection, look->call->user_id, error);
    if (invites == NULL)
        return FALSE;
    for (guint i = 0; i < invites->len; i++) {
        const StoredInvite *invite = g_ptr_array_index(invites, i);
        gsize length = 0;
        if (!look->whole &&
            !sync_look_has_entry(look, invite->room_id, LOG_INVITE, look->call->user_id))
            continue;
        const RoomVersion *version = room_version_find(invite->room_version);
        g_autoptr(Pdu) pdu =
            version != NULL ? pdu_from_trusted_bytes(version, invite->event_id, invite->json, error)
                            : NULL;
        if (pdu == NULL)
            return version == NULL;
        if (g_strcmp0(pdu_membership(pdu), kind) != 0 ||
            !begin_invite(look, kind, invite->room_id, out))
            continue;
        const char *state = g_bytes_get_data(invite->room_state, &length);
        if (length > 2) { /* without the brackets */
            g_string_append_len(out, state + 1, (gssize)length - 2);
            g_string_append_c(out, ',');
        }
        pdu_client_json(pdu, FALSE, NULL, out);
        g_string_append(out, "]}}");
    }
    return TRUE;
}

static gboolean
append_invites(SyncLook *look, const char *kind, GString *out, GError **error)
{
    for (guint i = 0; i < look->memberships->len; i++) {
        const StoredMembership *membership = g_ptr_array_index(look->memberships, i);
        if (strcmp(membership->membership, kind) != 0 ||
            (!look->whole &&
             !sync_look_has_entry(look, membership->room_id, LOG_EVENT, look->call->user_id)) ||
            !begin_invite(look, kind, membership->room_id, out))
            continue;
        if (!append_local_invite(look, membership, out, error))
            return FALSE;
        g_string_append(out, "]}}");
    }
    return append_partner_invites(look, kind, out, error);
}

/* Invites from partners that ended: rooms that the user left, with nothing to show. */
static gboolean
append_ended_invites(SyncLook *look, GString *out, GError **error)
{
    const SyncCall *call = look->call;
    g_autoptr(GPtrArray) entries = NULL;

    if (call->initial)
        return TRUE;
    entries = log_read_user(look->connection, call->user_id, LOG_INVITE, look->since, look->until,
                            SYNC_ENTRIES_MAX, error);
    if (entries == NULL)
        return FALSE;
    for (guint i = 0; i < entries->len; i++) {
        const char *room_id = ((LogEntry *)g_ptr_array_index(entries, i))->room_id;
        if (room_id == NULL || g_hash_table_contains(look->joined, room_id) ||
            !filter_wants_room(call->filter, room_id) ||
            !g_hash_table_add(look->told, g_strdup(room_id)))
            continue;
        if (out->len > 0)
            g_string_append_c(out, ',');
        json_append_string(out, room_id);
        g_string_append(out, ":{\"state\":{\"events\":[]},\"timeline\":{\"events\":[],"
                             "\"limited\":false},\"account_data\":{\"events\":[]}}");
    }
    return TRUE;
}

/* ---- the whole ---- */

void
sync_append_next_batch(const SyncToken *token, GString *out)
{
    g_autofree char *text = sync_token_format(token);
    g_string_append_printf(out, "\"next_batch\":\"%s\"", text);
}

GString *
sync_empty_answer(const SyncCall *call, GError **error)
{
    g_autofree char *counts = sync_key_counts(call, NULL, error);
    if (counts == NULL)
        return NULL;
    GString *answer = g_string_new("{");
    sync_append_next_batch(&call->since, answer);
    g_string_append_printf(answer, ",%s}", counts);
    return answer;
}

typedef struct {
    GString *join;
    GString *leave;
    GString *invite;
    GString *knock;
    GString *account_data;
    GString *to_device;
} Parts;

static void
parts_clear(Parts *parts)
{
    GString *const all[] = {parts->join,  parts->leave,        parts->invite,
                            parts->knock, parts->account_data, parts->to_device};
    for (guint i = 0; i < G_N_ELEMENTS(all); i++)
        g_string_free(all[i], TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Parts, parts_clear)

static GString *
put_together(const SyncLook *look, const Parts *parts, const SyncToken *next, GError **error)
{
    g_autofree char *counts = sync_key_counts(look->call, look->connection, error);
    if (counts == NULL)
        return NULL;
    GString *out = g_string_sized_new(parts->join->len + 1024);
    g_string_append_c(out, '{');
    sync_append_next_batch(next, out);
    g_string_append_printf(out, ",%s,\"rooms\":{\"join\":{", counts);
    g_string_append_len(out, parts->join->str, (gssize)parts->join->len);
    g_string_append(out, "},\"invite\":{");
    g_string_append_len(out, parts->invite->str, (gssize)parts->invite->len);
    g_string_append(out, "},\"knock\":{");
    g_string_append_len(out, parts->knock->str, (gssize)parts->knock->len);
    g_string_append(out, "},\"leave\":{");
    g_string_append_len(out, parts->leave->str, (gssize)parts->leave->len);
    g_string_append(out, "}},\"account_data\":{\"events\":[");
    g_string_append_len(out, parts->account_data->str, (gssize)parts->account_data->len);
    g_string_append(out, "]},\"presence\":{\"events\":[]},\"to_device\":{\"events\":[");
    g_string_append_len(out, parts->to_device->str, (gssize)parts->to_device->len);
    g_string_append(out, "]},\"device_lists\":{");
    sync_append_device_lists(look, out);
    g_string_append(out, "}}");
    return out;
}

gboolean
sync_from_database(const SyncCall *call, GString **ret_answer, SyncToken *ret_next, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(call->server->pool, error);
    g_auto(SyncLook) look = {.call = call, .connection = connection};
    g_auto(Parts) parts = {g_string_new(NULL), g_string_new(NULL), g_string_new(NULL),
                           g_string_new(NULL), g_string_new(NULL), g_string_new(NULL)};
    /* Read before the snapshot: what changes in between is told again, never missed. */
    SyncToken next = {.epoch = log_ring_head(call->server->ring).epoch,
                      .typing = typing_version(call->server->typing)};

    if (connection == NULL || !sync_acknowledge_to_device(call, connection, error) ||
        !sync_look_begin(&look, error) || !append_joined(&look, parts.join, error) ||
        !append_left(&look, parts.leave, error) ||
        !append_invites(&look, "invite", parts.invite, error) ||
        !append_invites(&look, "knock", parts.knock, error) ||
        !append_ended_invites(&look, parts.leave, error) ||
        !account_data_append(connection, call->user_id, NULL, look.since, look.until,
                             call->filter->account_data, parts.account_data, error) ||
        !sync_append_to_device(&look, &next, parts.to_device, error) ||
        !sync_note_device_lists(&look, error))
        return FALSE;
    follow(&look);
    next.position = look.until;
    *ret_next = next;
    *ret_answer = NULL;
    if (!call->initial && !call->full_state && parts.join->len == 0 && parts.leave->len == 0 &&
        parts.invite->len == 0 && parts.knock->len == 0 && parts.account_data->len == 0 &&
        parts.to_device->len == 0 && g_hash_table_size(look.changed_users) == 0 &&
        g_hash_table_size(look.left_users) == 0)
        return TRUE;
    *ret_answer = put_together(&look, &parts, &next, error);
    return *ret_answer != NULL;
}
