/* server/partner/memberships.c: a partner's users join and leave our rooms, and invite our users.
 * Each event is what its endpoint says, of the room and event id of the path, from a user of the
 * partner that calls, or it is refused before anything is stored or signed. Source: server-server
 * API v1.19, "Joining Rooms", "Leaving Rooms", "Inviting to a room". */
#include <string.h>

#include "federation/outgoing.h"
#include "federation/partner.h"
#include "federation/room/identifier.h"
#include "federation/room/pdu_sign.h"
#include "identity/refusal.h"
#include "server/http/route.h"
#include "server/partner/partner_room.h"
#include "storage/enrolment_store.h"
#include "storage/membership_store.h"

/* A user's invites from outside come in one sync, with what they show of their rooms. */
#define INVITE_STATE_MAX 50 /* events of invite_room_state */
#define INVITE_STATE_BYTES_MAX (128 * 1024)
#define INVITES_WAITING_MAX 300

static gboolean
is_user_of(const char *user_id, const char *server_name)
{
    const char *server =
        user_id != NULL && identifier_user_id_valid(user_id) ? identifier_server(user_id) : NULL;
    return server != NULL && strcmp(server, server_name) == 0;
}

/* ---- make_join, make_knock, make_leave ---- */

static gboolean
offers_version(Request *request, const char *version)
{
    const char *const *offered = request_query_all(request, "ver");
    if (offered == NULL || offered[0] == NULL)
        return strcmp(version, "1") == 0; /* the specification's default */
    return g_strv_contains(offered, version);
}

static Response *
answer_template(Request *request, const char *membership, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    const char *user_id = request_path(request, "userId");
    const gboolean leave = strcmp(membership, "leave") == 0;
    const RoomVersion *version = NULL;
    g_autoptr(GBytes) event = NULL;
    g_autofree char *version_id = NULL;

    if (!is_user_of(user_id, request_origin(request)))
        return response_error(403, "M_FORBIDDEN", "A server may ask for its own users alone");
    if (!partner_room_allows(request, room_id, FALSE, error) ||
        !rooms_version(server->rooms, room_id, &version, error))
        return NULL;
    if (!leave && !offers_version(request, version->id)) {
        Response *response =
            response_error(400, "M_INCOMPATIBLE_ROOM_VERSION",
                           "Your server does not speak room version %s", version->id);
        response_error_set(response, "room_version", cJSON_CreateString(version->id));
        return response;
    }
    if (!rooms_template(server->rooms, room_id, user_id, membership, &event, &version_id, error))
        return NULL;
    gsize length = 0;
    const char *bytes = g_bytes_get_data(event, &length);
    GString *out = g_string_new("{\"event\":");
    g_string_append_len(out, bytes, (gssize)length);
    g_string_append(out, ",\"room_version\":");
    json_append_string(out, version_id);
    g_string_append_c(out, '}');
    return response_json(200, out);
}

static Response *
make_join_get(Request *request, GError **error)
{
    return answer_template(request, "join", error);
}

static Response *
make_knock_get(Request *request, GError **error)
{
    return answer_template(request, "knock", error);
}

static Response *
make_leave_get(Request *request, GError **error)
{
    return answer_template(request, "leave", error);
}

/* ---- send_join, send_knock, send_leave ---- */

/* The body as the member event that this endpoint takes: NULL with a REFUSAL otherwise. */
static Pdu *
read_member_event(const RoomVersion *version, const cJSON *json, const char *room_id,
                  const char *event_id, const char *membership, const char *origin, GError **error)
{
    g_autoptr(Pdu) event = pdu_from_value(version, json, error);
    if (event == NULL)
        return NULL;
    if (strcmp(event->room_id, room_id) != 0)
        refusal_set(error, 400, "M_INVALID_PARAM", "The event is of another room than the path");
    else if (strcmp(event->event_id, event_id) != 0)
        refusal_set(error, 400, "M_INVALID_PARAM", "The event's id is not that of the path");
    else if (strcmp(event->type, "m.room.member") != 0 || event->state_key == NULL ||
             g_strcmp0(pdu_membership(event), membership) != 0)
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "The event must be an m.room.member event of membership '%s'", membership);
    else if (!is_user_of(event->sender, origin))
        refusal_set(error, 403, "M_FORBIDDEN", "The event's sender is not a user of %s", origin);
    else if (!pdu_check_content_hash(event))
        refusal_set(error, 400, "M_INVALID_PARAM", "The event's content hash does not match");
    else
        return g_steal_pointer(&event);
    return NULL;
}

typedef struct {
    Request *request;
    Pdu *event;
    const char *membership; /* "join", "knock" or "leave" */
    GError *error;
} Arrival;

static void
arrival_free(gpointer data)
{
    Arrival *arrival = data;
    pdu_unref(arrival->event);
    g_clear_error(&arrival->error);
    g_free(arrival);
}

/* What who knocks is shown of the room. */
static Response *
knock_answer(Request *request, const char *room_id, GError **error)
{
    g_autoptr(GString) out = g_string_new("{\"knock_room_state\":");
    if (!outgoing_append_room_state(request_server(request)->outgoing, room_id, NULL, out, error))
        return NULL;
    g_string_append_c(out, '}');
    return response_json(200, g_steal_pointer(&out));
}

/* An event that is here already may have been kept though it counts for nothing, or be over: who
 * was banned since is told nothing of the room by it. */
static gboolean
still_counts(Server *server, const Arrival *arrival, GError **error)
{
    const Pdu *event = arrival->event;
    g_autoptr(GBytes) root = NULL;
    g_autofree char *membership = NULL;

    if (!rooms_current_root(server->rooms, event->room_id, &root, error) ||
        (root != NULL && !rooms_membership_at(server->rooms, event->room_id, root, event->state_key,
                                              &membership, error)))
        return FALSE;
    if (g_strcmp0(membership, arrival->membership) == 0)
        return TRUE;
    refusal_set(error, 403, "M_FORBIDDEN", "That event does not stand in the room any more");
    return FALSE;
}

/* On a worker again: the room as it was before the join. */
static Response *
arrival_answer(Request *request, gpointer data, GError **error)
{
    Arrival *arrival = data;
    Server *server = request_server(request);
    g_autoptr(GPtrArray) state = NULL;
    g_autoptr(GPtrArray) auth_chain = NULL;
    if (arrival->error != NULL) {
        g_propagate_error(error, g_steal_pointer(&arrival->error));
        return NULL;
    }
    if (strcmp(arrival->membership, "leave") == 0)
        return response_empty_object();
    if (!still_counts(server, arrival, error))
        return NULL;
    if (strcmp(arrival->membership, "knock") == 0)
        return knock_answer(request, arrival->event->room_id, error);
    if (!rooms_state_before(server->rooms, arrival->event->room_id, arrival->event->event_id,
                            &state, &auth_chain, error))
        return NULL;
    if (state == NULL)
        return response_error(500, "M_UNKNOWN", "The state at the join is not known");
    gsize length = 0;
    const char *bytes = g_bytes_get_data(arrival->event->bytes, &length);
    GString *out = g_string_new("{\"auth_chain\":");
    partner_room_append_pdus(out, auth_chain);
    g_string_append(out, ",\"event\":");
    g_string_append_len(out, bytes, (gssize)length);
    g_string_append(out, ",\"members_omitted\":false,\"origin\":");
    json_append_string(out, server->name);
    g_string_append(out, ",\"state\":");
    partner_room_append_pdus(out, state);
    g_string_append_c(out, '}');
    return response_json(200, out);
}

static void
arrival_received(GPtrArray *received, gint64 position, const GError *error, gpointer data)
{
    Arrival *arrival = data;
    const Received *one = error == NULL && received->len > 0 ? received->pdata[0] : NULL;
    if (error != NULL)
        arrival->error = g_error_copy(error);
    else if (one == NULL || (one->verdict != RECEIVED_ACCEPTED && one->verdict != RECEIVED_KNOWN))
        refusal_set(&arrival->error, 403, "M_FORBIDDEN", "The event is not allowed: %s",
                    one != NULL && one->reason != NULL ? one->reason : "it was refused");
    request_continue(arrival->request, arrival_answer, arrival, arrival_free);
}

static Response *
take_member_event(Request *request, const char *membership, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    const RoomVersion *version = NULL;
    if (!partner_room_allows(request, room_id, FALSE, error) ||
        !rooms_version(server->rooms, room_id, &version, error))
        return NULL;
    g_autoptr(Pdu) event =
        read_member_event(version, request_json(request), room_id, request_path(request, "eventId"),
                          membership, request_origin(request), error);
    if (event == NULL)
        return NULL;
    if (strcmp(event->sender, event->state_key) != 0)
        return response_error(403, "M_FORBIDDEN", "Users join and leave for themselves");
    /* A join by the word of one of our users needs our signature, if that word still holds. */
    const char *by = json_get_string(event->content, "join_authorised_via_users_server");
    if (by != NULL && strcmp(membership, "join") == 0 && is_user_of(by, server->name)) {
        Pdu *cosigned = rooms_cosign_join(server->rooms, event, error);
        if (cosigned == NULL)
            return NULL;
        pdu_unref(event);
        event = cosigned;
    }
    Arrival *arrival = g_new0(Arrival, 1);
    arrival->request = request;
    arrival->event = g_steal_pointer(&event);
    arrival->membership = membership;
    rooms_receive_own(server->rooms, room_id, arrival->event->bytes, arrival_received, arrival);
    return RESPONSE_LATER;
}

static Response *
send_join_put(Request *request, GError **error)
{
    return take_member_event(request, "join", error);
}

static Response *
send_knock_put(Request *request, GError **error)
{
    return take_member_event(request, "knock", error);
}

static Response *
send_leave_put(Request *request, GError **error)
{
    return take_member_event(request, "leave", error);
}

/* ---- invite ---- */

/* Before v1.16 entries had four members and no more; in rooms up to version 11 that passes still.
 */
static gboolean
append_stripped(const RoomVersion *version, const cJSON *entry, const char *room_id, GString *out)
{
    const char *type = json_get_string(entry, "type");
    const char *state_key = json_get_string(entry, "state_key");
    const char *sender = json_get_string(entry, "sender");
    const cJSON *content = json_get_object(entry, "content");
    const cJSON *other = json_object_get(entry, "room_id");

    if (version->room_id_is_create_hash || type == NULL || state_key == NULL || content == NULL ||
        !identifier_user_id_valid(sender) ||
        (other != NULL && g_strcmp0(json_get_string(entry, "room_id"), room_id) != 0))
        return FALSE;
    g_string_append(out, "{\"content\":");
    if (!json_canonical_append(out, content, NULL))
        return FALSE;
    g_string_append(out, ",\"sender\":");
    json_append_string(out, sender);
    g_string_append(out, ",\"state_key\":");
    json_append_string(out, state_key);
    g_string_append(out, ",\"type\":");
    json_append_string(out, type);
    g_string_append_c(out, '}');
    return TRUE;
}

/* What the invited user is shown: every entry is an event of that room, well formed, and since
 * version 12 the create event makes the room's id.  *ret_stripped: JSON array in the clients' form.
 */
static gboolean
read_invite_state(const RoomVersion *version, const cJSON *entries, const char *room_id,
                  GBytes **ret_stripped, GError **error)
{
    g_autoptr(GString) out = g_string_new("[");
    gboolean has_create = FALSE;
    guint count = 0;
    for (const cJSON *entry = entries != NULL ? entries->child : NULL; entry != NULL;
         entry = entry->next) {
        g_autoptr(Pdu) pdu = count < INVITE_STATE_MAX ? pdu_from_value(version, entry, NULL) : NULL;
        gboolean whole = pdu != NULL && pdu_is_state(pdu) && strcmp(pdu->room_id, room_id) == 0 &&
                         pdu_check_content_hash(pdu);
        if (count > 0)
            g_string_append_c(out, ',');
        if (count++ >= INVITE_STATE_MAX ||
            (!whole && !append_stripped(version, entry, room_id, out))) {
            refusal_set(error, 400, "M_INVALID_PARAM",
                        "invite_room_state must be at most %d state events of that room, as its "
                        "version writes them",
                        INVITE_STATE_MAX);
            return FALSE;
        }
        if (whole)
            pdu_stripped_json(pdu, out);
        has_create |= whole && pdu_is(pdu, "m.room.create", "");
        if (out->len > INVITE_STATE_BYTES_MAX) {
            refusal_set(error, 413, "M_TOO_LARGE", "invite_room_state shows more than %d bytes",
                        INVITE_STATE_BYTES_MAX);
            return FALSE;
        }
    }
    if (!has_create && version->room_id_is_create_hash) {
        refusal_set(error, 400, "M_MISSING_PARAM",
                    "invite_room_state must hold the room's create event");
        return FALSE;
    }
    g_string_append_c(out, ']');
    *ret_stripped = g_string_free_to_bytes(g_steal_pointer(&out));
    return TRUE;
}

static gboolean
is_signed_by_sender(Server *server, const Pdu *event, const char *origin)
{
    g_autoptr(GPtrArray) key_ids = pdu_signature_key_ids(event, origin);
    guint8 key[32];
    for (guint i = 0; i < key_ids->len; i++)
        if (partners_find_event_key(origin, key_ids->pdata[i], event->origin_server_ts, key,
                                    server->partners) &&
            pdu_verify_signature(event, origin, key_ids->pdata[i], key))
            return TRUE;
    return FALSE;
}

static Response *
invite_response(const Pdu *event)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(event->bytes, &length);
    GString *out = g_string_new("{\"event\":");
    g_string_append_len(out, bytes, (gssize)length);
    g_string_append_c(out, '}');
    return response_json(200, out);
}

static void
invite_received(GPtrArray *received, gint64 position, const GError *error, gpointer data)
{
    Arrival *arrival = data;
    const Received *one = error == NULL && received->len > 0 ? received->pdata[0] : NULL;
    g_autoptr(GError) failure = NULL;
    if (error != NULL)
        failure = g_error_copy(error);
    else if (one == NULL || (one->verdict != RECEIVED_ACCEPTED && one->verdict != RECEIVED_KNOWN))
        refusal_set(&failure, 403, "M_FORBIDDEN", "The invite is not taken: %s",
                    one != NULL && one->reason != NULL ? one->reason : "it was refused");
    request_answer(arrival->request, failure == NULL ? invite_response(arrival->event) : NULL,
                   failure);
    arrival_free(arrival);
}

static gboolean
invited_exists(Server *server, const char *user_id, const char *room_id, GError **error)
{
    gboolean exists = FALSE;
    gint64 waiting = 0;
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    if (connection == NULL || !account_store_exists(connection, user_id, &exists, error) ||
        !membership_store_count_other_invites(connection, user_id, room_id, &waiting, error))
        return FALSE;
    if (!exists)
        refusal_set(error, 404, "M_NOT_FOUND", "There is no such user here");
    else if (waiting >= INVITES_WAITING_MAX)
        refusal_set(error, 403, "M_FORBIDDEN", "%s has %d invites waiting already", user_id,
                    INVITES_WAITING_MAX);
    return exists && waiting < INVITES_WAITING_MAX;
}

static Response *
invite_put(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    const char *origin = request_origin(request);
    const cJSON *body = request_json(request);
    const char *version_id = json_require_string(body, "room_version", error);
    const RoomVersion *version =
        version_id != NULL ? room_version_find_supported(version_id) : NULL;
    const cJSON *json = version_id != NULL ? json_require_object(body, "event", error) : NULL;
    g_autoptr(GBytes) stripped = NULL;
    gboolean here = FALSE, allows = TRUE;

    if (json == NULL)
        return NULL;
    if (version == NULL) {
        Response *response =
            response_error(400, "M_INCOMPATIBLE_ROOM_VERSION",
                           "This server does not speak room version '%.32s'", version_id);
        response_error_set(response, "room_version", cJSON_CreateString(version_id));
        return response;
    }
    g_autoptr(Pdu) event = read_member_event(
        version, json, room_id, request_path(request, "eventId"), "invite", origin, error);
    if (event == NULL)
        return NULL;
    if (!is_user_of(event->state_key, server->name))
        return response_error(400, "M_INVALID_PARAM", "The invited user is not of this server");
    if (!is_signed_by_sender(server, event, origin))
        return response_error(400, "M_INVALID_PARAM", "The invite is not properly signed by %s",
                              origin);
    if (!read_invite_state(version, json_get_array(body, "invite_room_state"), room_id, &stripped,
                           error) ||
        !invited_exists(server, event->state_key, room_id, error) ||
        !rooms_server_in_room(server->rooms, room_id, server->name, &here, error) ||
        (here && !partner_room_acl_allows(server, room_id, origin, &allows, error)))
        return NULL;
    if (!allows)
        return response_error(403, "M_FORBIDDEN", "The room's server ACL keeps %s out", origin);

    PduSigner signer = pdu_signer(server->name, server->key);
    g_autoptr(Pdu) cosigned = pdu_add_signature(event, &signer, error);
    if (cosigned == NULL)
        return NULL;
    if (here) /* it comes again in a transaction, and counts by the room's rules then */
        return invite_response(cosigned);
    Arrival *arrival = g_new0(Arrival, 1);
    arrival->request = request;
    arrival->event = g_steal_pointer(&cosigned);
    rooms_accept_invite(server->rooms, room_id, version, arrival->event->bytes, stripped,
                        invite_received, arrival);
    return RESPONSE_LATER;
}

const Route routes_partner_memberships[] = {
    {"GET", "/_matrix/federation/v1/make_join/{roomId}/{userId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_NONE, make_join_get},
    {"PUT", "/_matrix/federation/v2/send_join/{roomId}/{eventId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_JSON_MEMBER, send_join_put},
    {"GET", "/_matrix/federation/v1/make_leave/{roomId}/{userId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_NONE, make_leave_get},
    {"PUT", "/_matrix/federation/v2/send_leave/{roomId}/{eventId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_JSON_MEMBER, send_leave_put},
    {"GET", "/_matrix/federation/v1/make_knock/{roomId}/{userId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_NONE, make_knock_get},
    {"PUT", "/_matrix/federation/v1/send_knock/{roomId}/{eventId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_JSON_MEMBER, send_knock_put},
    {"PUT", "/_matrix/federation/v2/invite/{roomId}/{eventId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_JSON_MEMBER, invite_put},
    {NULL},
};
