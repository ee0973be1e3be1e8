/* What make_join, make_leave and make_knock answer, and by whose power somebody joins a room that
 * opens to members of others (client-server API, "Restricted rooms"). */
#include "federation/room/identifier.h"
#include "federation/room/pdu_build.h"
#include "federation/room/power_levels.h"
#include "federation/rooms_private.h"
#include "identity/clock.h"
#include "identity/refusal.h"
#include "storage/membership_store.h"

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
    g_autoptr(RoomView) view = rooms_require_view(rooms, room_id, error);
    g_autoptr(RoomEvent) join_rules = NULL;
    g_autoptr(RoomEvent) member = NULL;
    const RoomVersion *version;
    const char *rule;
    const char *membership;
    StateNodeId root;

    *ret_authoriser = NULL;
    if (view == NULL || !rooms_require_root(rooms, room_id, &root, error) ||
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

    if (!identifier_is_of(named, rooms->server_name) ||
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
    events = ids != NULL ? rooms_view_load_events(view, ids, error) : NULL;
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
    g_autoptr(RoomView) view = rooms_require_view(rooms, room_id, error);
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
        !rooms_require_root(rooms, room_id, &root, error) ||
        !room_view_create(view, &create, error))
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
