/* Joins, knocks and leaves of rooms that we are not in: make_*, sign, send_*, with one server after
 * the other (server-server API, "Joining Rooms", "Knocking upon a room", "Leaving Rooms"). */
#include "federation/outgoing_private.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "federation/room/pdu_build.h"
#include "federation/room/pdu_sign.h"
#include "identity/clock.h"
#include "identity/refusal.h"
#include "storage/membership_store.h"

typedef struct {
    Outgoing *outgoing;
    const char *membership; /* "join", "knock" or "leave" */
    char *room_id;
    char *user_id;
    cJSON *content; /* what the user adds, or NULL */
    char **via;
    guint next; /* index into via */
    Pdu *event; /* signed by us */
    GError *last;
    OutgoingDone done;
    gpointer data;
} Handshake;

static gboolean
is_join(const Handshake *handshake)
{
    return strcmp(handshake->membership, "join") == 0;
}

static gboolean
is_knock(const Handshake *handshake)
{
    return strcmp(handshake->membership, "knock") == 0;
}

static void
handshake_finish(Handshake *handshake, gint64 position, const GError *error)
{
    handshake->done(handshake->room_id, position, error, handshake->data);
    g_free(handshake->room_id);
    g_free(handshake->user_id);
    cJSON_Delete(handshake->content);
    g_strfreev(handshake->via);
    pdu_unref(handshake->event);
    g_clear_error(&handshake->last);
    g_free(handshake);
}

static void handshake_next(Handshake *handshake);

static void
handshake_try_another(Handshake *handshake, const GError *error)
{
    g_clear_error(&handshake->last);
    handshake->last = g_error_copy(error);
    handshake_next(handshake);
}

static void
handshake_received(GPtrArray *received, gint64 position, const GError *error, gpointer data)
{
    Handshake *handshake = data;
    g_autoptr(GError) failure = NULL;
    outgoing_received_well(received, error, &failure);
    handshake_finish(handshake, position, failure);
}

/* Their answer to send_join: the room as it was before our join. */
static gboolean
take_room(Handshake *handshake, const cJSON *json, GError **error)
{
    g_autoptr(GPtrArray) state = outgoing_events_of(json_get_array(json, "state"));
    g_autoptr(GPtrArray) auth_chain = outgoing_events_of(json_get_array(json, "auth_chain"));
    const cJSON *signed_event = json_get_object(json, "event");
    g_autoptr(Pdu) event = pdu_ref(handshake->event);

    if (state == NULL || auth_chain == NULL || json_get_boolean(json, "members_omitted", FALSE)) {
        refusal_set(error, 502, "M_UNKNOWN", "The partner's answer to send_join is not complete");
        return FALSE;
    }
    if (signed_event != NULL) { /* a restricted join: their signature is needed too */
        Pdu *theirs = pdu_from_value(event->version, signed_event, error);
        if (theirs == NULL)
            return FALSE;
        if (strcmp(theirs->event_id, event->event_id) == 0 && pdu_check_content_hash(theirs)) {
            pdu_unref(event);
            event = theirs;
        } else {
            pdu_unref(theirs);
        }
    }
    rooms_accept_join(handshake->outgoing->rooms, handshake->room_id, event->bytes, state,
                      auth_chain, handshake_received, handshake);
    return TRUE;
}

#define KNOCK_STATE_MAX 50 /* events of knock_room_state */

/* Their answer to send_knock: what our user is shown of the room while they wait.  Entries that are
 * not well formed, or not signed by a partner of their sender's name, are left out. */
static gboolean
take_knock(Handshake *handshake, const cJSON *json, GError **error)
{
    const RoomVersion *version = handshake->event->version;
    const cJSON *entries = json_get_array(json, "knock_room_state");
    g_autoptr(GString) out = g_string_new("[");
    gboolean has_create = FALSE;
    guint count = 0;

    for (const cJSON *entry = entries != NULL ? entries->child : NULL;
         entry != NULL && count < KNOCK_STATE_MAX; entry = entry->next, count++) {
        g_autoptr(Pdu) pdu = pdu_from_value(version, entry, NULL);
        if (pdu == NULL || !pdu_is_state(pdu) || strcmp(pdu->room_id, handshake->room_id) != 0 ||
            !pdu_check_content_hash(pdu))
            continue;
        const gboolean create = pdu_is(pdu, "m.room.create", "");
        has_create |= create;
        /* Since version 12 the room's id vouches for the create event. */
        if (!(create && version->room_id_is_create_hash) &&
            !outgoing_is_signed_by(handshake->outgoing, pdu, identifier_server(pdu->sender)))
            continue;
        if (out->len > 1)
            g_string_append_c(out, ',');
        pdu_stripped_json(pdu, out);
    }
    if (!has_create) {
        refusal_set(error, 502, "M_UNKNOWN",
                    "The partner's answer to send_knock has no create event of that room");
        return FALSE;
    }
    g_string_append_c(out, ']');
    g_autoptr(GBytes) stripped = g_string_free_to_bytes(g_steal_pointer(&out));
    rooms_accept_knock(handshake->outgoing->rooms, handshake->room_id, version,
                       handshake->event->bytes, stripped, handshake_received, handshake);
    return TRUE;
}

/* TRUE: the rooms go on with the handshake, which may be gone already. */
static gboolean
take_answer(Handshake *handshake, const cJSON *json, GError **error)
{
    if (is_knock(handshake))
        return take_knock(handshake, json, error);
    if (is_join(handshake))
        return take_room(handshake, json, error);
    rooms_accept_leave(handshake->outgoing->rooms, handshake->room_id, handshake->event->bytes,
                       handshake_received, handshake);
    return TRUE;
}

static void
handshake_sent(const PartnerAnswer *answer, gpointer data)
{
    Handshake *handshake = data;
    g_autoptr(GError) error = NULL;
    if (answer->error != NULL)
        handshake_try_another(handshake, answer->error);
    else if (!take_answer(handshake, answer->json, &error))
        handshake_try_another(handshake, error);
}

/* prev_events or auth_events of a template: at most PDU_PREV_EVENTS_MAX ids, and the hashes beside
 * them where the version has such (else ""), borrowed. */
typedef struct {
    const char *ids[PDU_PREV_EVENTS_MAX + 1]; /* NULL-terminated */
    const char *hashes[PDU_PREV_EVENTS_MAX + 1];
} References;

static gboolean
read_references(const RoomVersion *version, const cJSON *array, guint count_max,
                References *ret_references)
{
    guint count = 0;
    if (array == NULL)
        return FALSE;
    for (const cJSON *item = array->child; item != NULL; item = item->next, count++) {
        const cJSON *id = version->reference_pairs && cJSON_IsArray(item) ? item->child : item;
        const char *hash = id != NULL && id != item ? json_get_string(id->next, "sha256") : NULL;
        if (!cJSON_IsString(id) || count == count_max)
            return FALSE;
        ret_references->ids[count] = id->valuestring;
        ret_references->hashes[count] = hash != NULL ? hash : "";
    }
    return TRUE;
}

/* The content is ours; of the template's only what a restricted join needs is taken over. */
static cJSON *
member_content(const Handshake *handshake, const cJSON *template)
{
    const char *authorised =
        json_get_string(json_get_object(template, "content"), "join_authorised_via_users_server");
    cJSON *content = handshake->content != NULL ? cJSON_Duplicate(handshake->content, TRUE)
                                                : cJSON_CreateObject();
    cJSON_DeleteItemFromObjectCaseSensitive(content, "membership");
    cJSON_DeleteItemFromObjectCaseSensitive(content, "join_authorised_via_users_server");
    cJSON_AddItemToObject(content, "membership", cJSON_CreateString(handshake->membership));
    if (is_join(handshake) && authorised != NULL)
        cJSON_AddItemToObject(content, "join_authorised_via_users_server",
                              cJSON_CreateString(authorised));
    return content;
}

static gboolean
template_depth(const cJSON *template, gint64 *ret_depth)
{
    const char *large = json_number_text(json_object_get(template, "depth"));
    if (large != NULL) /* versions 1 to 5 */
        return g_ascii_string_to_signed(large, 10, 0, G_MAXINT64, ret_depth, NULL);
    return json_get_integer(template, "depth", ret_depth) && *ret_depth >= 0;
}

/* We sign a member event of our own user and nothing else, whatever the partner's template says. */
static Pdu *
event_from_template(const Handshake *handshake, const cJSON *json, GError **error)
{
    const cJSON *template = json_get_object(json, "event");
    const char *version_id = json_get_string(json, "room_version");
    const RoomVersion *version = room_version_find_supported(version_id != NULL ? version_id : "1");
    const char *membership = json_get_string(json_get_object(template, "content"), "membership");
    gint64 depth = 0;

    if (version == NULL) {
        refusal_set(error, 400, "M_UNSUPPORTED_ROOM_VERSION",
                    "This server does not speak the version of that room");
        return NULL;
    }
    if (g_strcmp0(json_get_string(template, "type"), "m.room.member") != 0 ||
        g_strcmp0(json_get_string(template, "sender"), handshake->user_id) != 0 ||
        g_strcmp0(json_get_string(template, "state_key"), handshake->user_id) != 0 ||
        g_strcmp0(json_get_string(template, "room_id"), handshake->room_id) != 0 ||
        g_strcmp0(membership, handshake->membership) != 0 || !template_depth(template, &depth)) {
        refusal_set(error, 502, "M_UNKNOWN",
                    "The partner's template is not the membership event that was asked for");
        return NULL;
    }
    References prev = {0}, auth = {0};
    if (!read_references(version, json_get_array(template, "prev_events"), PDU_PREV_EVENTS_MAX,
                         &prev) ||
        !read_references(version, json_get_array(template, "auth_events"), PDU_AUTH_EVENTS_MAX,
                         &auth)) {
        refusal_set(error, 502, "M_UNKNOWN", "The partner's template has malformed event ids");
        return NULL;
    }
    g_autoptr(cJSON) content = member_content(handshake, template);
    g_autofree char *event_id = rooms_new_id(handshake->outgoing->rooms, '$');
    PduSigner signer = pdu_signer(handshake->outgoing->own_name, handshake->outgoing->key);
    PduTemplate ours = {
        .event_id = event_id,
        .room_id = handshake->room_id,
        .type = "m.room.member",
        .state_key = handshake->user_id,
        .sender = handshake->user_id,
        .content = content,
        .prev_events = prev.ids,
        .auth_events = auth.ids,
        .prev_hashes = prev.hashes,
        .auth_hashes = auth.hashes,
        .depth = depth,
        .origin_server_ts = clock_wall_ms(),
    };
    return pdu_build(version, &ours, &signer, error);
}

static void
handshake_made(const PartnerAnswer *answer, gpointer data)
{
    Handshake *handshake = data;
    g_autoptr(GError) error = NULL;
    if (answer->error != NULL) {
        handshake_try_another(handshake, answer->error);
        return;
    }
    g_clear_pointer(&handshake->event, pdu_unref);
    handshake->event = event_from_template(handshake, answer->json, &error);
    if (handshake->event == NULL) {
        handshake_try_another(handshake, error);
        return;
    }
    g_autofree char *target =
        partner_client_target(is_join(handshake)    ? "/_matrix/federation/v2/send_join/%s/%s"
                              : is_knock(handshake) ? "/_matrix/federation/v1/send_knock/%s/%s"
                                                    : "/_matrix/federation/v2/send_leave/%s/%s",
                              handshake->room_id, handshake->event->event_id);
    partner_client_send(handshake->outgoing->client, handshake->via[handshake->next - 1], "PUT",
                        target, handshake->event->bytes,
                        is_join(handshake) ? PARTNER_LARGE : PARTNER_QUICK, handshake_sent,
                        handshake);
}

/* An invite from a server that nobody can ask any more is turned down here alone. TRUE: on its way.
 */
static gboolean
leave_alone(Handshake *handshake)
{
    Outgoing *outgoing = handshake->outgoing;
    g_autoptr(StoredInvite) invite = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(outgoing->pool, NULL);
    if (is_join(handshake) || is_knock(handshake) || connection == NULL ||
        !membership_store_find_invite(connection, handshake->user_id, handshake->room_id, &invite,
                                      NULL) ||
        invite == NULL)
        return FALSE;
    g_clear_pointer(&connection, store_return);
    const RoomVersion *version = room_version_find_supported(invite->room_version);
    if (version == NULL)
        return FALSE;
    const char *const stands_on[] = {invite->event_id, NULL};
    g_autoptr(cJSON) content = member_content(handshake, NULL);
    g_autofree char *event_id = rooms_new_id(outgoing->rooms, '$');
    PduSigner signer = pdu_signer(outgoing->own_name, outgoing->key);
    PduTemplate ours = {
        .event_id = event_id,
        .room_id = handshake->room_id,
        .type = "m.room.member",
        .state_key = handshake->user_id,
        .sender = handshake->user_id,
        .content = content,
        .prev_events = stands_on,
        .auth_events = stands_on,
        .depth = 1,
        .origin_server_ts = clock_wall_ms(),
    };
    g_clear_pointer(&handshake->event, pdu_unref);
    handshake->event = pdu_build(version, &ours, &signer, NULL);
    if (handshake->event == NULL)
        return FALSE;
    rooms_accept_leave(outgoing->rooms, handshake->room_id, handshake->event->bytes,
                       handshake_received, handshake);
    return TRUE;
}

static void
handshake_give_up(Handshake *handshake)
{
    g_autoptr(GError) error = NULL;
    if (leave_alone(handshake))
        return;
    if (handshake->last != NULL)
        outgoing_tell_failure(&error, handshake->last);
    else
        refusal_set(&error, 404, "M_NOT_FOUND",
                    "No server is known that could let you into that room");
    handshake_finish(handshake, 0, error);
}

static void
handshake_make(gpointer data)
{
    Handshake *handshake = data;
    guint count = 0;
    g_autofree char *path =
        partner_client_target(is_join(handshake)    ? "/_matrix/federation/v1/make_join/%s/%s"
                              : is_knock(handshake) ? "/_matrix/federation/v1/make_knock/%s/%s"
                                                    : "/_matrix/federation/v1/make_leave/%s/%s",
                              handshake->room_id, handshake->user_id);
    g_autoptr(GString) target = g_string_new(path);
    const RoomVersion *versions = room_version_table(&count);
    const gboolean asks_version = is_join(handshake) || is_knock(handshake);
    for (guint i = 0, given = 0; asks_version && i < count; i++)
        if (versions[i].supported)
            g_string_append_printf(target, "%cver=%s", given++ == 0 ? '?' : '&', versions[i].id);
    partner_client_send(handshake->outgoing->client, handshake->via[handshake->next - 1], "GET",
                        target->str, NULL, PARTNER_QUICK, handshake_made, handshake);
}

/* Who comes back into a room takes the resident's word for its state (rooms_accept_join()): so the
 * resident first hears what we did there before we left it, a ban of that very user maybe. */
static void
handshake_next(Handshake *handshake)
{
    const char *server =
        handshake->next < OUTGOING_SERVERS_MAX ? handshake->via[handshake->next] : NULL;
    if (server == NULL) {
        handshake_give_up(handshake);
        return;
    }
    handshake->next++;
    delivery_when_told(handshake->outgoing->delivery, server, handshake->room_id, handshake_make,
                       handshake);
}

static void
handshake_begin(Outgoing *outgoing, const char *membership, const char *room_id,
                const char *user_id, const cJSON *content, const char *const *via,
                OutgoingDone done, gpointer data)
{
    Handshake *handshake = g_new0(Handshake, 1);
    g_autoptr(GPtrArray) servers = g_ptr_array_new();
    for (guint i = 0; via != NULL && via[i] != NULL; i++)
        if (strcmp(via[i], outgoing->own_name) != 0 && identifier_server_name_valid(via[i]) &&
            !g_ptr_array_find_with_equal_func(servers, via[i], g_str_equal, NULL))
            g_ptr_array_add(servers, g_strdup(via[i]));
    g_ptr_array_add(servers, NULL);
    handshake->outgoing = outgoing;
    handshake->membership = membership;
    handshake->room_id = g_strdup(room_id);
    handshake->user_id = g_strdup(user_id);
    handshake->content = content != NULL ? cJSON_Duplicate(content, TRUE) : NULL;
    handshake->via = (char **)g_ptr_array_free(g_steal_pointer(&servers), FALSE);
    handshake->done = done;
    handshake->data = data;
    handshake_next(handshake);
}

void
outgoing_join(Outgoing *outgoing, const char *room_id, const char *user_id, const cJSON *content,
              const char *const *via, OutgoingDone done, gpointer data)
{
    handshake_begin(outgoing, "join", room_id, user_id, content, via, done, data);
}

void
outgoing_leave(Outgoing *outgoing, const char *room_id, const char *user_id, const cJSON *content,
               const char *const *via, OutgoingDone done, gpointer data)
{
    handshake_begin(outgoing, "leave", room_id, user_id, content, via, done, data);
}

void
outgoing_knock(Outgoing *outgoing, const char *room_id, const char *user_id, const cJSON *content,
               const char *const *via, OutgoingDone done, gpointer data)
{
    handshake_begin(outgoing, "knock", room_id, user_id, content, via, done, data);
}
