/* Reading rooms: state by root, events with their standing, who may see what, what partners ask
 * for. */
#include "federation/room/identifier.h"
#include "federation/room/pdu_build.h"
#include "federation/room/power_levels.h"
#include "federation/rooms_private.h"
#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/unpadded_base64.h"
#include "storage/membership_store.h"

#include <sodium.h>

#define AUTH_CHAIN_EVENTS_MAX 50000

/* A look into a room; *ret_view NULL: this server never was in it. */
static gboolean
view_room(Rooms *rooms, const char *room_id, RoomView **ret_view, GError **error)
{
    g_autoptr(RoomInfo) info = NULL;

    *ret_view = NULL;
    if (!room_reader_info(rooms->reader, NULL, room_id, &info, error))
        return FALSE;
    if (info != NULL)
        *ret_view = room_view_new(rooms->reader, NULL, info);
    return TRUE;
}

static RoomView *
require_room(Rooms *rooms, const char *room_id, GError **error)
{
    RoomView *view = NULL;

    if (view_room(rooms, room_id, &view, error) && view == NULL)
        refusal_set(error, 404, "M_NOT_FOUND", "This server does not know that room");
    return view;
}

static gboolean
require_root(GBytes *bytes, StateNodeId *ret_root, GError **error)
{
    if (state_node_id_from_bytes(bytes, ret_root))
        return TRUE;
    g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED, "a state root is damaged");
    return FALSE;
}

gboolean
rooms_version(Rooms *rooms, const char *room_id, const RoomVersion **ret_version, GError **error)
{
    g_autoptr(RoomInfo) info = NULL;

    if (!room_reader_info(rooms->reader, NULL, room_id, &info, error))
        return FALSE;
    *ret_version = info != NULL ? info->version : NULL;
    return TRUE;
}

char *
rooms_new_id(Rooms *rooms, char sigil)
{
    guint8 random[15];
    g_autofree char *opaque = NULL;

    randombytes_buf(random, sizeof random);
    opaque = unpadded_base64_encode(random, sizeof random, BASE64_URL_SAFE);
    return g_strdup_printf("%c%s:%s", sigil, opaque, rooms->server_name);
}

gboolean
rooms_invite_version(Rooms *rooms, const char *room_id, const char *user_id,
                     const RoomVersion **ret_version, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(rooms->pool, error);
    g_autoptr(StoredInvite) invite = NULL;

    if (connection == NULL ||
        !membership_store_find_invite(connection, user_id, room_id, &invite, error))
        return FALSE;
    *ret_version = invite != NULL ? room_version_find_supported(invite->room_version) : NULL;
    return TRUE;
}

gboolean
rooms_event(Rooms *rooms, const char *room_id, const char *event_id, RoomEvent **ret_event,
            GError **error)
{
    g_autoptr(RoomView) view = NULL;

    *ret_event = NULL;
    if (!view_room(rooms, room_id, &view, error))
        return FALSE;
    return view == NULL || room_view_event(view, event_id, ret_event, error);
}

static GPtrArray *
load_events(RoomView *view, GPtrArray *event_ids, GError **error)
{
    g_autoptr(GPtrArray) events = g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
    g_autofree RoomEvent **found = g_new0(RoomEvent *, event_ids->len + 1);

    if (!room_view_events(view, (const char *const *)event_ids->pdata, event_ids->len, found,
                          error))
        return NULL;
    for (guint i = 0; i < event_ids->len; i++)
        if (found[i] != NULL)
            g_ptr_array_add(events, found[i]);
    return g_steal_pointer(&events);
}

GPtrArray *
rooms_events(Rooms *rooms, const char *room_id, GPtrArray *event_ids, GError **error)
{
    g_autoptr(RoomView) view = NULL;

    if (!view_room(rooms, room_id, &view, error))
        return NULL;
    if (view == NULL)
        return g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
    return load_events(view, event_ids, error);
}

gboolean
rooms_current_root(Rooms *rooms, const char *room_id, GBytes **ret_root, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(rooms->pool, error);

    return connection != NULL &&
           log_state_root_at(connection, room_id, G_MAXINT64, ret_root, error);
}

/* The event as it may be shown: a redaction takes effect on state too. */
static gboolean
shown_pdu(const RoomEvent *event, Pdu **ret_pdu, GError **error)
{
    *ret_pdu = event->redaction_id != NULL ? pdu_redacted(event->pdu, error) : pdu_ref(event->pdu);
    return *ret_pdu != NULL;
}

gboolean
rooms_state_find(Rooms *rooms, const char *room_id, GBytes *root, const char *type,
                 const char *state_key, Pdu **ret_pdu, GError **error)
{
    g_autoptr(RoomView) view = require_room(rooms, room_id, error);
    g_autoptr(RoomEvent) event = NULL;
    StateNodeId id;

    if (view == NULL || !require_root(root, &id, error) ||
        !room_view_state_event(view, &id, type, state_key, &event, error))
        return FALSE;
    *ret_pdu = NULL;
    return event == NULL || shown_pdu(event, ret_pdu, error);
}

/* ---- whole states ---- */

static gboolean
collect_id(const char *type, const char *state_key, const char *event_id, gpointer data)
{
    g_ptr_array_add(data, g_strdup(event_id));
    return TRUE;
}

/* The Pdus of @ids, read in parts so that no query is without bounds. */
static GPtrArray *
load_pdus(RoomView *view, GPtrArray *ids, GError **error)
{
    g_autoptr(GPtrArray) pdus = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);
    RoomEvent *events[STATE_LOAD_MAX];

    for (guint from = 0; from < ids->len; from += STATE_LOAD_MAX) {
        guint count = MIN(STATE_LOAD_MAX, ids->len - from);

        if (!room_view_events(view, (const char *const *)ids->pdata + from, count, events, error))
            return NULL;
        gboolean shown = TRUE;

        for (guint i = 0; i < count; i++) {
            Pdu *pdu = NULL;

            if (events[i] == NULL)
                continue;
            shown = shown && shown_pdu(events[i], &pdu, error);
            if (pdu != NULL)
                g_ptr_array_add(pdus, pdu);
            room_event_unref(events[i]);
        }
        if (!shown)
            return NULL;
    }
    return g_steal_pointer(&pdus);
}

static GPtrArray *
state_ids(RoomView *view, const StateNodeId *root, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);

    if (!state_trie_foreach(view->trie, root, collect_id, ids, error))
        return NULL;
    return g_steal_pointer(&ids);
}

GPtrArray *
rooms_state_load(Rooms *rooms, const char *room_id, GBytes *root, GError **error)
{
    g_autoptr(RoomView) view = require_room(rooms, room_id, error);
    g_autoptr(GPtrArray) ids = NULL;
    StateNodeId id;

    if (view == NULL || !require_root(root, &id, error))
        return NULL;
    ids = state_ids(view, &id, error);
    return ids != NULL ? load_pdus(view, ids, error) : NULL;
}

GPtrArray *
rooms_state_changes(Rooms *rooms, const char *room_id, GBytes *from, GBytes *to,
                    RoomsStateWanted wanted, gpointer data, GError **error)
{
    g_autoptr(RoomView) view = require_room(rooms, room_id, error);
    g_autoptr(GPtrArray) differences = NULL;
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    StateNodeId old_root = state_node_empty;
    StateNodeId new_root;

    if (view == NULL || !require_root(to, &new_root, error) ||
        (from != NULL && !require_root(from, &old_root, error)))
        return NULL;
    differences = state_trie_difference(view->trie, &old_root, &new_root, error);
    if (differences == NULL)
        return NULL;
    for (guint i = 0; i < differences->len; i++) {
        const StateDifference *difference = g_ptr_array_index(differences, i);

        if (difference->new_event_id != NULL &&
            wanted(difference->type, difference->state_key, data))
            g_ptr_array_add(ids, difference->new_event_id);
    }
    return load_pdus(view, ids, error);
}

gboolean
rooms_membership_at(Rooms *rooms, const char *room_id, GBytes *root, const char *user_id,
                    char **ret_membership, GError **error)
{
    g_autoptr(Pdu) pdu = NULL;

    if (!rooms_state_find(rooms, room_id, root, "m.room.member", user_id, &pdu, error))
        return FALSE;
    *ret_membership = pdu != NULL ? g_strdup(pdu_membership(pdu)) : NULL;
    return TRUE;
}

/* ---- who may see what ---- */

typedef enum {
    VISIBILITY_WORLD_READABLE,
    VISIBILITY_SHARED,
    VISIBILITY_INVITED,
    VISIBILITY_JOINED,
} Visibility;

static gboolean
visibility_at(RoomView *view, const StateNodeId *root, Visibility *ret_visibility, GError **error)
{
    g_autoptr(RoomEvent) event = NULL;
    const char *text;

    if (!room_view_state_event(view, root, "m.room.history_visibility", "", &event, error))
        return FALSE;
    text = event != NULL ? json_get_string(event->pdu->content, "history_visibility") : NULL;
    if (g_strcmp0(text, "world_readable") == 0)
        *ret_visibility = VISIBILITY_WORLD_READABLE;
    else if (g_strcmp0(text, "invited") == 0)
        *ret_visibility = VISIBILITY_INVITED;
    else if (g_strcmp0(text, "joined") == 0)
        *ret_visibility = VISIBILITY_JOINED;
    else
        *ret_visibility = VISIBILITY_SHARED;
    return TRUE;
}

static gboolean
visible_at(RoomView *view, const StateNodeId *root, const char *user_id,
           const char *current_membership, gboolean *ret_visible, GError **error)
{
    g_autoptr(RoomEvent) member = NULL;
    Visibility visibility;
    const char *membership;

    if (!visibility_at(view, root, &visibility, error) ||
        !room_view_state_event(view, root, "m.room.member", user_id, &member, error))
        return FALSE;
    membership = member != NULL ? pdu_membership(member->pdu) : NULL;
    *ret_visible =
        visibility == VISIBILITY_WORLD_READABLE || g_strcmp0(membership, "join") == 0 ||
        (visibility == VISIBILITY_SHARED && g_strcmp0(current_membership, "join") == 0) ||
        (visibility == VISIBILITY_INVITED && g_strcmp0(membership, "invite") == 0);
    return TRUE;
}

static gboolean
current_root_id(Rooms *rooms, const char *room_id, StateNodeId *ret_root, GError **error)
{
    g_autoptr(GBytes) root = NULL;

    if (!rooms_current_root(rooms, room_id, &root, error))
        return FALSE;
    if (root == NULL) {
        refusal_set(error, 404, "M_NOT_FOUND", "This server does not know that room");
        return FALSE;
    }
    return require_root(root, ret_root, error);
}

/* Whoever was in the room, or invited to it, may see how that ended. */
static gboolean
sees_own_end(RoomView *view, const RoomEvent *event, const char *user_id, gboolean *ret_visible,
             GError **error)
{
    g_autoptr(RoomEvent) member = NULL;
    const char *was;

    if (!room_view_state_event(view, &event->before, "m.room.member", user_id, &member, error))
        return FALSE;
    was = member != NULL ? pdu_membership(member->pdu) : NULL;
    *ret_visible = g_strcmp0(was, "join") == 0 || g_strcmp0(was, "invite") == 0 ||
                   g_strcmp0(was, "knock") == 0;
    return TRUE;
}

/* History that was fetched came without its state: it is shown only where what holds now shares it,
 * whoever was in the room then. */
static gboolean
history_visible(Rooms *rooms, RoomView *view, const char *current_membership, gboolean *ret_visible,
                GError **error)
{
    StateNodeId root;
    Visibility visibility;

    if (!current_root_id(rooms, view->info->room_id, &root, error) ||
        !visibility_at(view, &root, &visibility, error))
        return FALSE;
    *ret_visible = visibility == VISIBILITY_WORLD_READABLE ||
                   (visibility == VISIBILITY_SHARED && g_strcmp0(current_membership, "join") == 0);
    return TRUE;
}

gboolean
rooms_visible_to_user(Rooms *rooms, const RoomEvent *event, const char *user_id,
                      const char *current_membership, gboolean *ret_visible, GError **error)
{
    const Pdu *pdu = event->pdu;
    g_autoptr(RoomView) view = NULL;
    StateNodeId root = event->before;

    *ret_visible = FALSE;
    if (event->status != STORED_EVENT_ACCEPTED)
        return TRUE;
    view = require_room(rooms, pdu->room_id, error);
    if (view == NULL)
        return FALSE;
    if (!event->has_state)
        return history_visible(rooms, view, current_membership, ret_visible, error);
    if (!visible_at(view, &root, user_id, current_membership, ret_visible, error))
        return FALSE;
    gboolean own = pdu_is(pdu, "m.room.member", user_id);
    if (!*ret_visible && own && !sees_own_end(view, event, user_id, ret_visible, error))
        return FALSE;
    if (!*ret_visible && (own || pdu_is(pdu, "m.room.history_visibility", "")))
        return visible_at(view, &event->after, user_id, current_membership, ret_visible, error);
    return TRUE;
}

typedef struct {
    const char *server_name;
    GPtrArray *event_ids;
} ServerMembers;

static gboolean
collect_member(const char *type, const char *state_key, const char *event_id, gpointer data)
{
    ServerMembers *members = data;

    if (g_str_equal(type, "m.room.member") &&
        g_strcmp0(identifier_server(state_key), members->server_name) == 0)
        g_ptr_array_add(members->event_ids, g_strdup(event_id));
    return TRUE;
}

gboolean
rooms_visible_to_server(Rooms *rooms, const RoomEvent *event, const char *server_name,
                        gboolean *ret_visible, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) pdus = NULL;
    g_autoptr(RoomView) view = require_room(rooms, event->pdu->room_id, error);
    ServerMembers members = {server_name, ids};
    StateNodeId root = event->before;
    Visibility visibility;

    *ret_visible = FALSE;
    if (view == NULL ||
        (!event->has_state && !current_root_id(rooms, event->pdu->room_id, &root, error)) ||
        !visibility_at(view, &root, &visibility, error))
        return FALSE;
    if (visibility == VISIBILITY_WORLD_READABLE || visibility == VISIBILITY_SHARED) {
        *ret_visible = TRUE;
        return TRUE;
    }
    if (event->has_state)
        root = event->after;
    if (!state_trie_foreach(view->trie, &root, collect_member, &members, error))
        return FALSE;
    pdus = load_pdus(view, ids, error);
    if (pdus == NULL)
        return FALSE;
    for (guint i = 0; i < pdus->len && !*ret_visible; i++) {
        const char *membership = pdu_membership(g_ptr_array_index(pdus, i));

        *ret_visible = g_strcmp0(membership, "join") == 0 ||
                       (visibility == VISIBILITY_INVITED && g_strcmp0(membership, "invite") == 0);
    }
    return TRUE;
}

gboolean
rooms_server_in_room(Rooms *rooms, const char *room_id, const char *server_name, gboolean *ret_in,
                     GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(rooms->pool, error);

    return connection != NULL &&
           membership_store_server_joined(connection, room_id, server_name, ret_in, error);
}

/* ---- what partners ask for ---- */

static GPtrArray *
chain_of(Rooms *rooms, RoomView *view, GPtrArray *event_ids, guint events_max, GError **error)
{
    g_autoptr(GPtrArray) ids = NULL;
    gboolean complete = FALSE;

    {
        g_autoptr(StoreConnection) connection = store_borrow(rooms->pool, error);

        if (connection == NULL)
            return NULL;
        ids = event_store_auth_chain(connection, view->info->room_id,
                                     (const char *const *)event_ids->pdata, event_ids->len,
                                     events_max, &complete, error);
    }
    return ids != NULL ? load_pdus(view, ids, error) : NULL;
}

GPtrArray *
rooms_auth_chain(Rooms *rooms, const char *room_id, GPtrArray *event_ids, guint events_max,
                 GError **error)
{
    g_autoptr(RoomView) view = require_room(rooms, room_id, error);

    return view != NULL ? chain_of(rooms, view, event_ids, events_max, error) : NULL;
}

gboolean
rooms_state_before(Rooms *rooms, const char *room_id, const char *event_id, GPtrArray **ret_state,
                   GPtrArray **ret_auth_chain, GError **error)
{
    g_autoptr(RoomView) view = NULL;
    g_autoptr(RoomEvent) event = NULL;
    g_autoptr(GPtrArray) ids = NULL;
    g_autoptr(GPtrArray) state = NULL;
    g_autoptr(GPtrArray) chain = NULL;

    *ret_state = NULL;
    *ret_auth_chain = NULL;
    if (!view_room(rooms, room_id, &view, error))
        return FALSE;
    if (view == NULL)
        return TRUE;
    if (!room_view_event(view, event_id, &event, error))
        return FALSE;
    if (event == NULL || !event->has_state || event->status == STORED_EVENT_REJECTED)
        return TRUE;
    ids = state_ids(view, &event->before, error);
    state = ids != NULL ? load_pdus(view, ids, error) : NULL;
    /* The event itself counts among those whose chain is told: a join's auth events may have left
     * the state. */
    if (state != NULL) {
        g_ptr_array_add(ids, g_strdup(event_id));
        chain = chain_of(rooms, view, ids, AUTH_CHAIN_EVENTS_MAX, error);
    }
    if (chain == NULL)
        return FALSE;
    *ret_state = g_steal_pointer(&state);
    *ret_auth_chain = g_steal_pointer(&chain);
    return TRUE;
}

/* ---- restricted joins ---- */

typedef struct {
    StoreConnection *connection;
    const char *own_name;
    const char *user_id;
    gboolean known;   /* we are in one of the rooms, so our word counts */
    gboolean allowed; /* the user is in one of them */
    gboolean asked;   /* there is one at all */
} Allowance;

/* One entry of "allow": a room whose members may come in. */
static gboolean
ask_allowed_room(Allowance *allowance, const cJSON *entry, GError **error)
{
    const char *room_id = json_get_string(entry, "room_id");
    g_autoptr(StoredMembership) member = NULL;
    gboolean here = FALSE;

    if (g_strcmp0(json_get_string(entry, "type"), "m.room_membership") != 0 || room_id == NULL)
        return TRUE;
    allowance->asked = TRUE;
    if (!membership_store_server_joined(allowance->connection, room_id, allowance->own_name, &here,
                                        error))
        return FALSE;
    if (!here)
        return TRUE;
    allowance->known = TRUE;
    if (!membership_store_find(allowance->connection, room_id, allowance->user_id, &member, error))
        return FALSE;
    if (member != NULL && g_str_equal(member->membership, "join"))
        allowance->allowed = TRUE;
    return TRUE;
}

#define ALLOWED_ROOMS_MAX 100

static gboolean
may_come_in(Rooms *rooms, const Pdu *join_rules, const char *user_id, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(rooms->pool, error);
    Allowance allowance = {connection, rooms->server_name, user_id, FALSE, FALSE, FALSE};
    const cJSON *entry;
    guint count = 0;

    if (connection == NULL)
        return FALSE;
    cJSON_ArrayForEach(entry, json_get_array(join_rules->content, "allow"))
    {
        if (count++ < ALLOWED_ROOMS_MAX && !allowance.allowed &&
            !ask_allowed_room(&allowance, entry, error))
            return FALSE;
    }
    if (allowance.asked && !allowance.known)
        refusal_set(error, 400, "M_UNABLE_TO_AUTHORISE_JOIN",
                    "This server is in none of the rooms whose members may join");
    else if (!allowance.allowed)
        refusal_set(error, 403, "M_FORBIDDEN",
                    "You are in none of the rooms whose members may join, and have no invite");
    return allowance.allowed;
}

static char *
find_inviter(Rooms *rooms, RoomView *view, const StateNodeId *root, GError **error)
{
    g_autoptr(RoomEvent) power_levels = NULL;
    g_autoptr(Pdu) create = NULL;
    g_autoptr(GPtrArray) users = NULL;
    PowerLevels levels;

    if (!room_view_create(view, &create, error) ||
        !room_view_state_event(view, root, "m.room.power_levels", "", &power_levels, error))
        return NULL;
    {
        g_autoptr(StoreConnection) connection = store_borrow(rooms->pool, error);

        users = connection != NULL
                    ? membership_store_local_joined(connection, view->info->room_id, error)
                    : NULL;
    }
    if (users == NULL)
        return NULL;
    levels = (PowerLevels){create, power_levels != NULL ? power_levels->pdu : NULL};
    for (guint i = 0; i < users->len; i++)
        if (power_at_least(power_of_user(&levels, g_ptr_array_index(users, i)),
                           power_level_for(&levels, POWER_ACTION_INVITE)))
            return g_strdup(g_ptr_array_index(users, i));
    refusal_set(error, 400, "M_UNABLE_TO_GRANT_JOIN",
                "Nobody of this server has the power to let you in");
    return NULL;
}

gboolean
rooms_authoriser(Rooms *rooms, const char *room_id, const char *user_id, char **ret_authoriser,
                 GError **error)
{
    g_autoptr(RoomView) view = require_room(rooms, room_id, error);
    g_autoptr(RoomEvent) join_rules = NULL;
    g_autoptr(RoomEvent) member = NULL;
    const RoomVersion *version;
    const char *rule;
    const char *membership;
    StateNodeId root;

    *ret_authoriser = NULL;
    if (view == NULL || !current_root_id(rooms, room_id, &root, error) ||
        !room_view_state_event(view, &root, "m.room.join_rules", "", &join_rules, error) ||
        !room_view_state_event(view, &root, "m.room.member", user_id, &member, error))
        return FALSE;
    version = view->info->version;
    rule = join_rules != NULL ? json_get_string(join_rules->pdu->content, "join_rule") : NULL;
    membership = member != NULL ? pdu_membership(member->pdu) : NULL;
    if (!((version->restricted && g_strcmp0(rule, "restricted") == 0) ||
          (version->knock_restricted && g_strcmp0(rule, "knock_restricted") == 0)) ||
        g_strcmp0(membership, "join") == 0 || g_strcmp0(membership, "invite") == 0 ||
        g_strcmp0(membership, "ban") == 0)
        return TRUE;
    if (!may_come_in(rooms, join_rules->pdu, user_id, error))
        return FALSE;
    *ret_authoriser = find_inviter(rooms, view, &root, error);
    return *ret_authoriser != NULL;
}

Pdu *
rooms_cosign_join(Rooms *rooms, const Pdu *join, GError **error)
{
    const char *named = json_get_string(join->content, "join_authorised_via_users_server");
    g_autofree char *authoriser = NULL;

    if (g_strcmp0(named != NULL ? identifier_server(named) : NULL, rooms->server_name) != 0 ||
        !g_str_equal(join->sender, join->state_key)) {
        refusal_set(error, 400, "M_UNABLE_TO_AUTHORISE_JOIN",
                    "The join does not name a user of this server who lets its sender in");
        return NULL;
    }
    /* Any user of ours with the power will do: that the named one has it is for the auth rules. */
    if (!rooms_authoriser(rooms, join->room_id, join->sender, &authoriser, error))
        return NULL;
    return pdu_add_signature(join, &rooms->signer, error);
}

/* ---- templates ---- */

static cJSON *
member_template(const char *membership)
{
    cJSON *content = cJSON_CreateObject();

    cJSON_AddItemToObject(content, "membership", cJSON_CreateString(membership));
    return content;
}

/* The room's ends, and the depth of the deepest. */
static gboolean
room_ends(Rooms *rooms, RoomView *view, GPtrArray **ret_ids, GPtrArray **ret_hashes,
          gint64 *ret_depth, GError **error)
{
    g_autoptr(GPtrArray) ids = NULL;
    g_autoptr(GPtrArray) events = NULL;
    g_autoptr(GPtrArray) hashes = NULL;

    {
        g_autoptr(StoreConnection) connection = store_borrow(rooms->pool, error);

        if (connection == NULL)
            return FALSE;
        ids = event_store_extremities(connection, view->info->room_id, error);
    }
    events = ids != NULL ? load_events(view, ids, error) : NULL;
    if (events == NULL)
        return FALSE;
    *ret_depth = 0;
    for (guint i = 0; i < events->len; i++)
        *ret_depth = MAX(*ret_depth, ((RoomEvent *)g_ptr_array_index(events, i))->pdu->depth);
    g_ptr_array_set_size(ids, 0); /* the same, in the order of the events */
    hashes = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < events->len; i++) {
        const RoomEvent *event = g_ptr_array_index(events, i);

        g_ptr_array_add(ids, g_strdup(event->pdu->event_id));
        if (view->info->version->reference_pairs)
            g_ptr_array_add(hashes, pdu_reference_hash(event->pdu));
    }
    *ret_ids = g_steal_pointer(&ids);
    *ret_hashes = g_steal_pointer(&hashes);
    return TRUE;
}

gboolean
rooms_template(Rooms *rooms, const char *room_id, const char *user_id, const char *membership,
               GBytes **ret_event, char **ret_room_version, GError **error)
{
    g_autoptr(RoomView) view = require_room(rooms, room_id, error);
    g_autoptr(cJSON) content = member_template(membership);
    g_autoptr(GPtrArray) prev_ids = NULL;
    g_autoptr(GPtrArray) auth_pdus = NULL;
    g_autoptr(GPtrArray) auth_ids = g_ptr_array_new();
    g_autoptr(GPtrArray) prev_hashes = NULL;
    g_autoptr(GPtrArray) auth_hashes = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *trial_id = rooms_new_id(rooms, '$');
    g_autofree char *authoriser = NULL;
    g_autoptr(Pdu) create = NULL;
    g_autoptr(Pdu) trial = NULL;
    const char *reason = NULL;
    gboolean here = FALSE;
    gint64 depth = 0;
    EventAuthKeys keys;
    PduTemplate event;
    StateNodeId root;

    if (view == NULL || !rooms_server_in_room(rooms, room_id, rooms->server_name, &here, error))
        return FALSE;
    if (!here) {
        refusal_set(error, 404, "M_NOT_FOUND", "This server is not in that room");
        return FALSE;
    }
    if (g_str_equal(membership, "join")) {
        if (!rooms_authoriser(rooms, room_id, user_id, &authoriser, error))
            return FALSE;
        if (authoriser != NULL)
            cJSON_AddItemToObject(content, "join_authorised_via_users_server",
                                  cJSON_CreateString(authoriser));
    }
    if (!room_ends(rooms, view, &prev_ids, &prev_hashes, &depth, error) ||
        !current_root_id(rooms, room_id, &root, error) || !room_view_create(view, &create, error))
        return FALSE;
    event_auth_keys(view->info->version, "m.room.member", user_id, user_id, content, &keys);
    auth_pdus = room_view_state_pdus(view, &root, &keys, error);
    if (auth_pdus == NULL)
        return FALSE;
    for (guint i = 0; i < auth_pdus->len; i++) {
        const Pdu *pdu = g_ptr_array_index(auth_pdus, i);

        g_ptr_array_add(auth_ids, (gpointer)pdu->event_id);
        if (view->info->version->reference_pairs)
            g_ptr_array_add(auth_hashes, pdu_reference_hash(pdu));
    }
    g_ptr_array_add(auth_ids, NULL);
    g_ptr_array_add(prev_ids, NULL);
    g_ptr_array_add(prev_hashes, NULL);
    g_ptr_array_add(auth_hashes, NULL);
    event = (PduTemplate){
        .event_id = trial_id,
        .room_id = room_id,
        .type = "m.room.member",
        .state_key = user_id,
        .sender = user_id,
        .content = content,
        .prev_events = (const char *const *)prev_ids->pdata,
        .auth_events = (const char *const *)auth_ids->pdata,
        .prev_hashes =
            view->info->version->reference_pairs ? (const char *const *)prev_hashes->pdata : NULL,
        .auth_hashes =
            view->info->version->reference_pairs ? (const char *const *)auth_hashes->pdata : NULL,
        .depth = depth < view->info->version->depth_max ? depth + 1 : depth,
        .origin_server_ts = clock_wall_ms(),
    };
    /* Tried on an event that only this function sees; our signature on it means nothing. */
    trial = pdu_build(view->info->version, &event, &rooms->signer, error);
    if (trial == NULL)
        return FALSE;
    if (event_auth_check(trial, create, auth_pdus, &reason) != AUTH_ALLOW) {
        refusal_set(error, 403, "M_FORBIDDEN", "The rules of the room do not allow this: %s",
                    reason);
        return FALSE;
    }
    event.event_id = NULL; /* who signs it names it */
    *ret_event = pdu_template_json(view->info->version, &event, error);
    if (*ret_event == NULL)
        return FALSE;
    *ret_room_version = g_strdup(view->info->version->id);
    return TRUE;
}
