#include "server/client/room_invite.h"
#include "server/client/room_routes.h"

/* Who comes and goes: join, knock, invite, leave, kick, ban, unban, forget. */
#include "server/client/room_alias.h"
#include "server/client/room_call.h"
#include "server/client/room_invite.h"
#include "server/client/room_routes.h"

#define VIA_MAX 10

static void
answer_empty(const char *room_id, gint64 position, const GError *error, gpointer data)
{
    request_answer(data, error == NULL ? response_empty_object() : NULL, error);
}

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
