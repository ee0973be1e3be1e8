/* Messages, state and redactions of local users. */
#include "federation/room/power_levels.h"
#include "server/client/room_call.h"
#include "server/client/room_routes.h"
#include "server/client/room_transactions.h"
#include "server/client/sent_transactions.h"

#define TXN_ID_BYTES_MAX 255

/* ---- transactions ---- */

typedef struct {
    Request *request;
    Server *server;
    char *scope; /* the path without the transaction id */
    char *key;   /* user, device, scope, transaction id */
} Sending;

static void
sending_free(Sending *sending)
{
    g_free(sending->scope);
    g_free(sending->key);
    g_free(sending);
}

static void
sent(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    Sending *sending = data;
    Server *server = sending->server;
    g_autofree char *key = g_steal_pointer(&sending->key);
    g_autofree char *event_id =
        error == NULL ? g_strdup(g_ptr_array_index(outcome->event_ids, 0)) : NULL;

    if (error == NULL)
        sent_transactions_add(server->sent_transactions, request_user_id(sending->request),
                              request_device_id(sending->request), sending->scope,
                              request_path(sending->request, "txnId"));
    else if (error->domain == STORE_ERROR)
        sent_transactions_forget(server->sent_transactions, request_user_id(sending->request),
                                 request_device_id(sending->request));
    request_answer(sending->request, error == NULL ? room_answer_event_id(outcome) : NULL, error);
    room_transactions_end(server->room_transactions, key, event_id, error);
    sending_free(sending);
}

static Response *
event_id_response(const char *event_id)
{
    GString *body = g_string_new("{\"event_id\":");

    json_append_string(body, event_id);
    g_string_append_c(body, '}');
    return response_json(200, body);
}

typedef RoomsProposal *(*Propose)(Request *request, GError **error);

/* Once for each (user, device, path, transaction id), however often it is asked. */
static Response *
send_once(Request *request, const char *scope, Propose propose, GError **error)
{
    Server *server = request_server(request);
    const char *txn_id = request_path(request, "txnId");
    g_autofree char *key =
        g_strjoin("\n", request_user_id(request), request_device_id(request), scope, txn_id, NULL);
    g_autofree char *earlier = NULL;
    g_autoptr(RoomsProposal) proposal = NULL;
    g_autoptr(GError) cause = NULL;
    Sending *sending;

    if (strlen(txn_id) > TXN_ID_BYTES_MAX)
        return response_error(400, "M_INVALID_PARAM", "A transaction ID may have at most %d bytes",
                              TXN_ID_BYTES_MAX);
    if (!room_transactions_begin(server->room_transactions, key, request))
        return RESPONSE_LATER;
    if (sent_transactions_find(server->sent_transactions, request_user_id(request),
                               request_device_id(request), scope, txn_id, &earlier, &cause) &&
        earlier == NULL)
        proposal = propose(request, &cause);
    if (proposal == NULL) {
        room_transactions_end(server->room_transactions, key, earlier, cause);
        if (earlier != NULL)
            return event_id_response(earlier);
        g_propagate_error(error, g_steal_pointer(&cause));
        return NULL;
    }
    sending = g_new0(Sending, 1);
    sending->request = request;
    sending->server = server;
    sending->key = g_steal_pointer(&key);
    sending->scope = g_strdup(scope);
    rooms_proposal_set_transaction(proposal, request_device_id(request), scope, txn_id);
    rooms_propose(server->rooms, g_steal_pointer(&proposal), sent, sending);
    return RESPONSE_LATER;
}

/* ---- redactions ---- */

/* Whose event it is, or who has the power to redact others'. */
static gboolean
check_may_redact(Request *request, const char *room_id, const char *event_id, GError **error)
{
    Server *server = request_server(request);
    const char *user_id = request_user_id(request);
    g_auto(RoomAccess) access = {0};
    g_autoptr(RoomEvent) target = NULL;
    g_autoptr(Pdu) create = NULL;
    g_autoptr(Pdu) power_levels = NULL;
    PowerLevels levels;

    if (!room_access(request, room_id, &access, error) ||
        !rooms_event(server->rooms, room_id, event_id, &target, error))
        return FALSE;
    if (target == NULL || target->status != STORED_EVENT_ACCEPTED) {
        refusal_set(error, 404, "M_NOT_FOUND", "There is no such event in that room");
        return FALSE;
    }
    if (g_str_equal(target->pdu->sender, user_id))
        return TRUE;
    if (!rooms_state_find(server->rooms, room_id, access.root, "m.room.create", "", &create,
                          error) ||
        !rooms_state_find(server->rooms, room_id, access.root, "m.room.power_levels", "",
                          &power_levels, error))
        return FALSE;
    levels = (PowerLevels){.create = create, .power_levels = power_levels};
    if (create != NULL && power_at_least(power_of_user(&levels, user_id),
                                         power_level_for(&levels, POWER_ACTION_REDACT)))
        return TRUE;
    refusal_set(error, 403, "M_FORBIDDEN",
                "Your power in the room does not let you redact other people's events");
    return FALSE;
}

static RoomsProposal *
propose_redaction(Request *request, GError **error)
{
    const char *room_id = request_path(request, "roomId");
    const char *event_id = request_path(request, "eventId");
    RoomsProposal *proposal;
    cJSON *content;

    if (!check_may_redact(request, room_id, event_id, error))
        return NULL;
    content = cJSON_CreateObject();
    cJSON_AddItemToObject(content, "redacts", cJSON_CreateString(event_id));
    if (body_reason(request_json(request)) != NULL)
        cJSON_AddItemToObject(content, "reason",
                              cJSON_CreateString(body_reason(request_json(request))));
    proposal = rooms_proposal_new(room_id, request_user_id(request));
    rooms_proposal_add(proposal, "m.room.redaction", NULL, content);
    return proposal;
}

Response *
room_redaction_put(Request *request, GError **error)
{
    g_autofree char *scope = g_strjoin("/", "redact", request_path(request, "roomId"),
                                       request_path(request, "eventId"), NULL);

    return send_once(request, scope, propose_redaction, error);
}

/* ---- messages ---- */

/* A redaction may come as a message too; it is no way around who may redact what. */
static gboolean
check_message(Request *request, GError **error)
{
    const char *redacts;

    if (!g_str_equal(request_path(request, "eventType"), "m.room.redaction"))
        return TRUE;
    redacts = json_require_string(request_json(request), "redacts", error);
    return redacts != NULL &&
           check_may_redact(request, request_path(request, "roomId"), redacts, error);
}

static RoomsProposal *
propose_message(Request *request, GError **error)
{
    RoomsProposal *proposal;

    if (!check_message(request, error))
        return NULL;
    proposal = rooms_proposal_new(request_path(request, "roomId"), request_user_id(request));
    rooms_proposal_add(proposal, request_path(request, "eventType"), NULL,
                       cJSON_Duplicate(request_json(request), TRUE));
    return proposal;
}

Response *
room_message_put(Request *request, GError **error)
{
    g_autofree char *scope = g_strjoin("/", "send", request_path(request, "roomId"),
                                       request_path(request, "eventType"), NULL);

    return send_once(request, scope, propose_message, error);
}

/* ---- state ---- */

static Response *
put_state(Request *request, const char *state_key, GError **error)
{
    const char *type = request_path(request, "eventType");
    const cJSON *body = request_json(request);
    const char *membership = json_get_string(body, "membership");
    RoomsProposal *proposal;
    cJSON *content;

    /* Another server's user must be invited by way of that server, which co-signs. */
    if (g_str_equal(type, "m.room.member") && g_strcmp0(membership, "invite") == 0 &&
        !is_local_user(request_server(request), state_key))
        return response_error(403, "M_FORBIDDEN", "Use POST …/invite to invite somebody");
    if (g_str_equal(type, "m.room.redaction"))
        return response_error(400, "M_INVALID_PARAM", "A redaction is no state; use PUT …/redact");
    content = cJSON_Duplicate(body, TRUE);
    /* By whose word somebody comes in is for this server to say, which signs for it. */
    if (g_str_equal(type, "m.room.member"))
        cJSON_DeleteItemFromObjectCaseSensitive(content, "join_authorised_via_users_server");
    proposal = rooms_proposal_new(request_path(request, "roomId"), request_user_id(request));
    rooms_proposal_add(proposal, type, state_key, content);
    rooms_proposal_set_idempotent(proposal);
    return room_call(request, proposal, room_answer_event_id);
}

Response *
room_state_put(Request *request, GError **error)
{
    return put_state(request, request_path(request, "stateKey"), error);
}

Response *
room_state_put_without_key(Request *request, GError **error)
{
    return put_state(request, "", error);
}
