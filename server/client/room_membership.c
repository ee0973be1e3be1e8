/* Who is in a room: leave, kick, ban, unban, forget.  How they come in: room_invite.c,
 * room_entry.c. */
#include "server/client/room_outside.h"
#include "server/client/room_routes.h"

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

/* From a room that this server is not in, only an invite or a knock can be left: nobody is asked
 * for less. */
static Response *
leave_from_outside(Request *request, const char *room_id, GError **error)
{
    gboolean invited = FALSE, asked = FALSE;

    if (!is_invited_from_outside(request, room_id, &invited, error) ||
        (invited && !room_outside_ask(request, room_id, "leave", NULL, outgoing_leave, left_outside,
                                      &asked, error)))
        return NULL;
    return asked ? RESPONSE_LATER : response_error(403, "M_FORBIDDEN", "You are not in that room");
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

/* @user_id of the body leaves, who must be one of @from now (NULL-terminated). */
static Response *
take_out(Request *request, const char *const *from, const char *otherwise, GError **error)
{
    const char *user_id = require_user_id(request_json(request), error);
    g_autofree char *membership = NULL;

    if (user_id == NULL ||
        !room_membership(request_server(request), request_path(request, "roomId"), user_id,
                         &membership, error))
        return NULL;
    if (membership == NULL || !g_strv_contains(from, membership))
        return response_error(403, "M_FORBIDDEN", "%s is not %s the room", user_id, otherwise);
    return change_other(request, user_id, "leave");
}

Response *
room_kick_post(Request *request, GError **error)
{
    static const char *const from[] = {"join", "invite", "knock", NULL};

    return take_out(request, from, "in", error);
}

Response *
room_unban_post(Request *request, GError **error)
{
    static const char *const from[] = {"ban", NULL};

    return take_out(request, from, "banned from", error);
}

Response *
room_ban_post(Request *request, GError **error)
{
    const char *user_id = require_user_id(request_json(request), error);

    return user_id != NULL ? change_other(request, user_id, "ban") : NULL;
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
