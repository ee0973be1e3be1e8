/* Who comes and goes: join, knock, invite, leave, kick, ban, unban, forget. */
#include "server/client/room_alias.h"
#include "server/client/room_call.h"
#include "server/client/room_invite.h"
#include "server/client/room_routes.h"

#define VIA_MAX 10

/* ---- parking while partners are asked ---- */

/* Answers {} or {"room_id"}. */
static void
answer_empty(const char *room_id, gint64 position, const GError *error, gpointer data)
{
    request_answer(data, error == NULL ? response_empty_object() : NULL, error);
}

static void
answer_room_id(const char *room_id, gint64 position, const GError *error, gpointer data)
{
    request_answer(data, error == NULL ? room_id_response(room_id) : NULL, error);
}

/* ---- join ---- */

static void
add_server(const Server *server, GPtrArray *names, const char *name)
{
    if (names->len < VIA_MAX && name != NULL && identifier_server_name_valid(name) &&
        !g_str_equal(name, server->name) &&
        !g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
        g_ptr_array_add(names, g_strdup(name));
}

/* The servers of those who are named in what an invite or a knock showed of the room. */
static void
add_servers_shown(const Server *server, GPtrArray *names, const StoredInvite *invite)
{
    gsize length = 0;
    const char *text = g_bytes_get_data(invite->room_state, &length);
    g_autoptr(cJSON) events = json_parse(text, length, &json_limits_request, NULL);
    const cJSON *event;

    cJSON_ArrayForEach(event, events)
    {
        add_server(server, names, identifier_server(json_get_string(event, "sender")));
    }
}

/* Servers that may know the room: the inviter's, those that the client names, and those of whom an
 * invite or a knock told, and the room's maker's.  Free with g_strfreev. */
static char **
servers_to_ask(Request *request, const char *room_id, const char *const *known_by, GError **error)
{
    Server *server = request_server(request);
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(StoredInvite) invite = NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    if (connection == NULL || !membership_store_find_invite(connection, request_user_id(request),
                                                            room_id, &invite, error))
        return NULL;
    if (invite != NULL)
        add_server(server, names, identifier_server(invite->sender));
    for (guint list = 0; list < 3; list++) {
        const char *const *via = list == 0   ? request_query_all(request, "via")
                                 : list == 1 ? request_query_all(request, "server_name")
                                             : known_by;

        for (guint i = 0; via != NULL && via[i] != NULL; i++)
            add_server(server, names, via[i]);
    }
    if (invite != NULL)
        add_servers_shown(server, names, invite);
    /* Up to version 11 a room's id names the server that made it, which may still be there. */
    add_server(server, names, identifier_server(room_id));
    g_ptr_array_set_free_func(names, NULL);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

/* More than the membership itself, for the event that a partner's template becomes. */
static cJSON *
content_beside(Request *request, const char *membership, GError **error)
{
    cJSON *content = member_content(request_server(request), request_user_id(request), membership,
                                    body_reason(request_json(request)), error);

    if (content != NULL)
        cJSON_DeleteItemFromObjectCaseSensitive(content, "membership");
    return content;
}

static Response *
join_from_outside(Request *request, const char *room_id, const char *const *known_by,
                  GError **error)
{
    Server *server = request_server(request);
    g_auto(GStrv) via = servers_to_ask(request, room_id, known_by, error);
    g_autoptr(cJSON) content = NULL;

    if (via == NULL)
        return NULL;
    if (via[0] == NULL || server->outgoing == NULL)
        return response_error(404, "M_NOT_FOUND",
                              "This server does not know that room, and the request names no "
                              "server (via) that might");
    content = content_beside(request, "join", error);
    if (content == NULL)
        return NULL;
    outgoing_join(server->outgoing, room_id, request_user_id(request), content,
                  (const char *const *)via, answer_room_id, request);
    return RESPONSE_LATER;
}

/* Nobody here can let the user into a room of members: another server of the room may. */
static gboolean
is_for_others_to_say(const GError *error)
{
    const char *sentence = NULL;
    g_autofree char *errcode = error->domain == REFUSAL ? refusal_errcode(error, &sentence) : NULL;

    return g_strcmp0(errcode, "M_UNABLE_TO_AUTHORISE_JOIN") == 0 ||
           g_strcmp0(errcode, "M_UNABLE_TO_GRANT_JOIN") == 0;
}

static Response *
join_by_others(Request *request, const char *room_id, const GError *cause, GError **error)
{
    Server *server = request_server(request);
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(GPtrArray) servers =
        connection != NULL ? membership_store_servers(connection, room_id, error) : NULL;

    if (servers == NULL)
        return NULL;
    g_clear_pointer(&connection, store_return);
    if (servers->len < 2) {
        g_propagate_error(error, g_error_copy(cause));
        return NULL;
    }
    g_ptr_array_add(servers, NULL);
    return join_from_outside(request, room_id, (const char *const *)servers->pdata, error);
}

static Response *
join(Request *request, const char *room_id, const char *const *known_by, GError **error)
{
    Server *server = request_server(request);
    const char *user_id = request_user_id(request);
    g_autofree char *membership = NULL;
    g_autofree char *authoriser = NULL;
    g_autoptr(GError) cause = NULL;
    RoomsProposal *proposal;
    gboolean here = FALSE;
    cJSON *content;

    if (!identifier_room_id_valid(room_id))
        return response_error(400, "M_INVALID_PARAM", "That is no room ID");
    if (!rooms_server_in_room(server->rooms, room_id, server->name, &here, error))
        return NULL;
    if (!here)
        return join_from_outside(request, room_id, known_by, error);
    if (!room_membership(server, room_id, user_id, &membership, error))
        return NULL;
    if (g_strcmp0(membership, "join") == 0)
        return room_id_response(room_id);
    if (!rooms_authoriser(server->rooms, room_id, user_id, &authoriser, &cause)) {
        if (is_for_others_to_say(cause) && server->outgoing != NULL)
            return join_by_others(request, room_id, cause, error);
        g_propagate_error(error, g_steal_pointer(&cause));
        return NULL;
    }
    content = member_content(server, user_id, "join", body_reason(request_json(request)), error);
    if (content == NULL)
        return NULL;
    if (authoriser != NULL)
        cJSON_AddItemToObject(content, "join_authorised_via_users_server",
                              cJSON_CreateString(authoriser));
    proposal = rooms_proposal_new(room_id, user_id);
    rooms_proposal_add(proposal, "m.room.member", user_id, content);
    return room_call(request, proposal, room_answer_room_id);
}

Response *
room_join_post(Request *request, GError **error)
{
    return join(request, request_path(request, "roomId"), NULL, error);
}

/* An alias that was found: the room, and who knows it. */
typedef struct {
    char *room_id;
    char **servers;
} AliasJoin;

static void
alias_join_free(gpointer data)
{
    AliasJoin *alias_join = data;

    g_free(alias_join->room_id);
    g_strfreev(alias_join->servers);
    g_free(alias_join);
}

static Response *
join_found(Request *request, gpointer data, GError **error)
{
    const AliasJoin *alias_join = data;

    return join(request, alias_join->room_id, (const char *const *)alias_join->servers, error);
}

static void
go_on_with_alias(Request *request, const char *room_id, const char *const *servers,
                 const GError *error, RequestNext next)
{
    AliasJoin *alias_join;

    if (error != NULL) {
        request_answer(request, NULL, error);
        return;
    }
    alias_join = g_new0(AliasJoin, 1);
    alias_join->room_id = g_strdup(room_id);
    alias_join->servers = g_strdupv((char **)servers);
    request_continue(request, next, alias_join, alias_join_free);
}

static void
alias_found(const char *room_id, const char *const *servers, const GError *error, gpointer data)
{
    go_on_with_alias(data, room_id, servers, error, join_found);
}

Response *
room_join_by_alias_post(Request *request, GError **error)
{
    const char *room = request_path(request, "roomIdOrAlias");

    if (room[0] != '#')
        return join(request, room, NULL, error);
    room_alias_resolve(request_server(request), room, alias_found, request);
    return RESPONSE_LATER;
}

/* ---- knock ---- */

static Response *
knock_from_outside(Request *request, const char *room_id, const char *const *known_by,
                   GError **error)
{
    Server *server = request_server(request);
    g_auto(GStrv) via = servers_to_ask(request, room_id, known_by, error);
    g_autoptr(cJSON) content = NULL;

    if (via == NULL)
        return NULL;
    if (via[0] == NULL || server->outgoing == NULL)
        return response_error(404, "M_NOT_FOUND",
                              "This server does not know that room, and the request names no "
                              "server (via) that might");
    content = content_beside(request, "knock", error);
    if (content == NULL)
        return NULL;
    outgoing_knock(server->outgoing, room_id, request_user_id(request), content,
                   (const char *const *)via, answer_room_id, request);
    return RESPONSE_LATER;
}

static Response *
knock(Request *request, const char *room_id, const char *const *known_by, GError **error)
{
    Server *server = request_server(request);
    const char *user_id = request_user_id(request);
    RoomsProposal *proposal;
    gboolean here = FALSE;
    cJSON *content;

    if (!identifier_room_id_valid(room_id))
        return response_error(400, "M_INVALID_PARAM", "That is no room ID");
    if (!rooms_server_in_room(server->rooms, room_id, server->name, &here, error))
        return NULL;
    if (!here)
        return knock_from_outside(request, room_id, known_by, error);
    content = member_content(server, user_id, "knock", body_reason(request_json(request)), error);
    if (content == NULL)
        return NULL;
    proposal = rooms_proposal_new(room_id, user_id);
    rooms_proposal_add(proposal, "m.room.member", user_id, content);
    rooms_proposal_set_idempotent(proposal);
    return room_call(request, proposal, room_answer_room_id);
}

static Response *
knock_found(Request *request, gpointer data, GError **error)
{
    const AliasJoin *alias_join = data;

    return knock(request, alias_join->room_id, (const char *const *)alias_join->servers, error);
}

static void
knock_alias_found(const char *room_id, const char *const *servers, const GError *error,
                  gpointer data)
{
    go_on_with_alias(data, room_id, servers, error, knock_found);
}

Response *
room_knock_post(Request *request, GError **error)
{
    const char *room = request_path(request, "roomIdOrAlias");

    if (room[0] != '#')
        return knock(request, room, NULL, error);
    room_alias_resolve(request_server(request), room, knock_alias_found, request);
    return RESPONSE_LATER;
}

/* ---- leave ---- */

/* {} either way: an invite whose server does not answer must not stay for ever. */
static void
invite_dropped(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    request_answer(data, error == NULL ? response_empty_object() : NULL, error);
}

static void
left_outside(const char *room_id, gint64 position, const GError *error, gpointer data)
{
    Request *request = data;

    if (error == NULL)
        request_answer(request, response_empty_object(), NULL);
    else
        rooms_drop_invite(request_server(request)->rooms, request_path(request, "roomId"),
                          request_user_id(request), invite_dropped, request);
}

static gboolean
is_invited_from_outside(Request *request, const char *room_id, gboolean *ret_is, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
    g_autoptr(StoredInvite) invite = NULL;

    if (connection == NULL || !membership_store_find_invite(connection, request_user_id(request),
                                                            room_id, &invite, error))
        return FALSE;
    *ret_is = invite != NULL;
    return TRUE;
}

/* From a room that this server is not in, only an invite can be left: nobody is asked for less. */
static Response *
leave_from_outside(Request *request, const char *room_id, GError **error)
{
    Server *server = request_server(request);
    g_auto(GStrv) via = servers_to_ask(request, room_id, NULL, error);
    g_autoptr(cJSON) content = NULL;
    gboolean invited = FALSE;

    if (via == NULL || !is_invited_from_outside(request, room_id, &invited, error))
        return NULL;
    if (!invited || via[0] == NULL || server->outgoing == NULL)
        return response_error(403, "M_FORBIDDEN", "You are not in that room");
    content = content_beside(request, "leave", error);
    if (content == NULL)
        return NULL;
    outgoing_leave(server->outgoing, room_id, request_user_id(request), content,
                   (const char *const *)via, left_outside, request);
    return RESPONSE_LATER;
}

static cJSON *
plain_member_content(const char *membership, const char *reason)
{
    cJSON *content = cJSON_CreateObject();

    cJSON_AddItemToObject(content, "membership", cJSON_CreateString(membership));
    if (reason != NULL)
        cJSON_AddItemToObject(content, "reason", cJSON_CreateString(reason));
    return content;
}

Response *
room_leave_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    const char *user_id = request_user_id(request);
    g_autofree char *membership = NULL;
    RoomsProposal *proposal;
    gboolean here = FALSE;

    if (!rooms_server_in_room(server->rooms, room_id, server->name, &here, error))
        return NULL;
    if (!here)
        return leave_from_outside(request, room_id, error);
    if (!room_membership(server, room_id, user_id, &membership, error))
        return NULL;
    if (g_strcmp0(membership, "leave") == 0)
        return response_empty_object();
    proposal = rooms_proposal_new(room_id, user_id);
    rooms_proposal_add(proposal, "m.room.member", user_id,
                       plain_member_content("leave", body_reason(request_json(request))));
    return room_call(request, proposal, room_answer_empty);
}

/* ---- invite ---- */

cJSON *
invite_content(Server *server, const char *user_id, const char *reason, gboolean is_direct,
               GError **error)
{
    cJSON *content = is_local_user(server, user_id)
                         ? member_content(server, user_id, "invite", reason, error)
                         : plain_member_content("invite", reason);

    if (content != NULL && is_direct)
        cJSON_AddItemToObject(content, "is_direct", cJSON_CreateTrue());
    return content;
}

gboolean
invite_remote(Request *request, const char *room_id, const char *user_id, const char *reason,
              gboolean is_direct, OutgoingDone done, gpointer data, GError **error)
{
    Server *server = request_server(request);
    g_autoptr(cJSON) content = invite_content(server, user_id, reason, is_direct, error);

    if (content == NULL)
        return FALSE;
    if (server->outgoing == NULL) {
        refusal_set(error, 403, "M_FORBIDDEN", "This server does not federate");
        return FALSE;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(content, "membership");
    outgoing_invite(server->outgoing, room_id, request_user_id(request), user_id, content, done,
                    data);
    return TRUE;
}

Response *
room_invite_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    const cJSON *body = request_json(request);
    const char *room_id = request_path(request, "roomId");
    const char *user_id;
    g_autofree char *membership = NULL;
    RoomsProposal *proposal;
    cJSON *content;

    if (json_object_get(body, "id_server") != NULL || json_object_get(body, "medium") != NULL)
        return response_error(403, "M_FORBIDDEN",
                              "This server invites by user ID only; it uses no identity server");
    user_id = require_user_id(body, error);
    if (user_id == NULL || !room_membership(server, room_id, user_id, &membership, error))
        return NULL;
    if (g_strcmp0(membership, "join") == 0)
        return response_error(403, "M_FORBIDDEN", "%s is in the room already", user_id);
    if (g_strcmp0(membership, "ban") == 0)
        return response_error(403, "M_FORBIDDEN", "%s is banned from the room", user_id);
    if (!is_local_user(server, user_id))
        return invite_remote(request, room_id, user_id, body_reason(body), FALSE, answer_empty,
                             request, error)
                   ? RESPONSE_LATER
                   : NULL;
    content = invite_content(server, user_id, body_reason(body), FALSE, error);
    if (content == NULL)
        return NULL;
    proposal = rooms_proposal_new(room_id, request_user_id(request));
    rooms_proposal_add(proposal, "m.room.member", user_id, content);
    return room_call(request, proposal, room_answer_empty);
}

/* ---- kick, ban, unban ---- */

static Response *
change_other(Request *request, const char *user_id, const char *membership)
{
    RoomsProposal *proposal =
        rooms_proposal_new(request_path(request, "roomId"), request_user_id(request));

    rooms_proposal_add(proposal, "m.room.member", user_id,
                       plain_member_content(membership, body_reason(request_json(request))));
    return room_call(request, proposal, room_answer_empty);
}

Response *
room_kick_post(Request *request, GError **error)
{
    const char *user_id = require_user_id(request_json(request), error);
    g_autofree char *membership = NULL;

    if (user_id == NULL ||
        !room_membership(request_server(request), request_path(request, "roomId"), user_id,
                         &membership, error))
        return NULL;
    if (g_strcmp0(membership, "join") != 0 && g_strcmp0(membership, "invite") != 0 &&
        g_strcmp0(membership, "knock") != 0)
        return response_error(403, "M_FORBIDDEN", "%s is not in the room", user_id);
    return change_other(request, user_id, "leave");
}

Response *
room_ban_post(Request *request, GError **error)
{
    const char *user_id = require_user_id(request_json(request), error);

    return user_id != NULL ? change_other(request, user_id, "ban") : NULL;
}

Response *
room_unban_post(Request *request, GError **error)
{
    const char *user_id = require_user_id(request_json(request), error);
    g_autofree char *membership = NULL;

    if (user_id == NULL ||
        !room_membership(request_server(request), request_path(request, "roomId"), user_id,
                         &membership, error))
        return NULL;
    if (g_strcmp0(membership, "ban") != 0)
        return response_error(403, "M_FORBIDDEN", "%s is not banned from the room", user_id);
    return change_other(request, user_id, "leave");
}

/* ---- forget ---- */

static gboolean
forget_apply(LaneBatch *batch, gpointer data, GError **error)
{
    Request *request = data;
    const char *room_id = request_path(request, "roomId");
    const char *user_id = request_user_id(request);

    membership_store_forget(batch, room_id, user_id);
    lane_batch_log(batch, log_entry_new(LOG_ROOM_FORGOTTEN, room_id, user_id, NULL));
    return TRUE;
}

Response *
room_forget_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    const char *user_id = request_user_id(request);
    g_autofree char *membership = NULL;

    if (!room_membership(server, room_id, user_id, &membership, error))
        return NULL;
    if (membership == NULL)
        return response_empty_object();
    if (!g_str_equal(membership, "leave") && !g_str_equal(membership, "ban"))
        return response_error(400, "M_UNKNOWN", "Leave the room before you forget it");
    return lane_call(request, forget_apply, request, NULL, error);
}

/* ---- where the caller is ---- */

Response *
room_joined_rooms_get(Request *request, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
    g_autoptr(GPtrArray) rows =
        connection != NULL
            ? membership_store_rooms(connection, request_user_id(request), "join", error)
            : NULL;
    GString *body;

    if (rows == NULL)
        return NULL;
    body = g_string_new("{\"joined_rooms\":[");
    for (guint i = 0; i < rows->len; i++) {
        const StoredMembership *row = g_ptr_array_index(rows, i);

        if (i > 0)
            g_string_append_c(body, ',');
        json_append_string(body, row->room_id);
    }
    g_string_append(body, "]}");
    return response_json(200, body);
}
