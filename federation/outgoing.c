#include "federation/outgoing.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "federation/room/pdu_build.h"
#include "federation/room/pdu_sign.h"
#include "identity/clock.h"
#include "identity/refusal.h"
#include "storage/membership_store.h"

#define SERVERS_ASKED_MAX 10 /* for one join or leave */
#define BACKFILL_FROM_MAX 10 /* events from which older ones are asked for */

struct Outgoing {
    char *own_name;
    const ServerKey *key;
    StorePool *pool;
    Rooms *rooms;
    Partners *partners;
    PartnerClient *client;
};

Outgoing *
outgoing_new(const char *own_name, const ServerKey *key, StorePool *pool, Rooms *rooms,
             Partners *partners, PartnerClient *client)
{
    Outgoing *outgoing = g_new0(Outgoing, 1);
    outgoing->own_name = g_strdup(own_name);
    outgoing->key = key;
    outgoing->pool = pool;
    outgoing->rooms = rooms;
    outgoing->partners = partners;
    outgoing->client = client;
    return outgoing;
}

void
outgoing_free(Outgoing *outgoing)
{
    if (outgoing == NULL)
        return;
    g_free(outgoing->own_name);
    g_free(outgoing);
}

/* What a caller may be told: a refusal as it is, anything else as 502. */
static void
tell_failure(GError **error, const GError *cause)
{
    if (cause->domain == REFUSAL || cause->domain == STORE_ERROR)
        g_propagate_error(error, g_error_copy(cause));
    else
        refusal_set(error, 502, "M_UNKNOWN", "No partner could help: %s", cause->message);
}

/* Our verdict on an event that we brought in ourselves. TRUE: it is in. */
static gboolean
received_well(GPtrArray *received, const GError *error, GError **ret_error)
{
    if (error != NULL) {
        g_propagate_error(ret_error, g_error_copy(error));
        return FALSE;
    }
    const Received *last = received->len > 0 ? received->pdata[received->len - 1] : NULL;
    if (last != NULL && (last->verdict == RECEIVED_ACCEPTED || last->verdict == RECEIVED_KNOWN))
        return TRUE;
    refusal_set(ret_error, 403, "M_FORBIDDEN", "The event does not stand: %s",
                last != NULL && last->reason != NULL ? last->reason : "it was not taken");
    return FALSE;
}

/* The members of a JSON array, each as canonical JSON (GPtrArray of GBytes). NULL: it is none. */
static GPtrArray *
events_of(const cJSON *array)
{
    g_autoptr(GPtrArray) events = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    if (array == NULL)
        return NULL;
    for (const cJSON *item = array->child; item != NULL; item = item->next) {
        GBytes *bytes = cJSON_IsObject(item) ? json_canonical(item, NULL) : NULL;
        if (bytes == NULL)
            return NULL;
        g_ptr_array_add(events, bytes);
    }
    return g_steal_pointer(&events);
}

/* Is there a good signature of @server_name by a pinned key? */
static gboolean
is_signed_by(Outgoing *outgoing, const Pdu *event, const char *server_name)
{
    g_autoptr(GPtrArray) key_ids = pdu_signature_key_ids(event, server_name);
    guint8 key[32];
    for (guint i = 0; i < key_ids->len; i++)
        if (partners_find_event_key(server_name, key_ids->pdata[i], event->origin_server_ts, key,
                                    outgoing->partners) &&
            pdu_verify_signature(event, server_name, key_ids->pdata[i], key))
            return TRUE;
    return FALSE;
}

/* ---- join, knock and leave: make_*, sign, send_* ---- */

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

static gboolean
is_leave(const Handshake *handshake)
{
    return strcmp(handshake->membership, "leave") == 0;
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
    received_well(received, error, &failure);
    handshake_finish(handshake, position, failure);
}

/* Their answer to send_join: the room as it was before our join. */
static gboolean
take_room(Handshake *handshake, const cJSON *json, GError **error)
{
    g_autoptr(GPtrArray) state = events_of(json_get_array(json, "state"));
    g_autoptr(GPtrArray) auth_chain = events_of(json_get_array(json, "auth_chain"));
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
            !is_signed_by(handshake->outgoing, pdu, identifier_server(pdu->sender)))
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

static void
handshake_sent(const PartnerAnswer *answer, gpointer data)
{
    Handshake *handshake = data;
    g_autoptr(GError) error = NULL;
    if (answer->error != NULL)
        handshake_try_another(handshake, answer->error);
    else if (is_knock(handshake) && !take_knock(handshake, answer->json, &error))
        handshake_try_another(handshake, error);
    else if (is_leave(handshake))
        rooms_accept_leave(handshake->outgoing->rooms, handshake->room_id, handshake->event->bytes,
                           handshake_received, handshake);
    else if (is_join(handshake) && !take_room(handshake, answer->json, &error))
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
        tell_failure(&error, handshake->last);
    else
        refusal_set(&error, 404, "M_NOT_FOUND",
                    "No server is known that could let you into that room");
    handshake_finish(handshake, 0, error);
}

static void
handshake_next(Handshake *handshake)
{
    const char *server =
        handshake->next < SERVERS_ASKED_MAX ? handshake->via[handshake->next] : NULL;
    guint count = 0;
    if (server == NULL) {
        handshake_give_up(handshake);
        return;
    }
    handshake->next++;
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
    partner_client_send(handshake->outgoing->client, server, "GET", target->str, NULL,
                        PARTNER_QUICK, handshake_made, handshake);
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

/* ---- invite ---- */

typedef struct {
    Outgoing *outgoing;
    char *room_id;
    char *server;        /* the invited user's */
    GString *room_state; /* JSON array */
    Pdu *event;
    OutgoingDone done;
    gpointer data;
} Invite;

static void
invite_finish(Invite *invite, gint64 position, const GError *error)
{
    invite->done(invite->room_id, position, error, invite->data);
    g_free(invite->room_id);
    g_free(invite->server);
    g_string_free(invite->room_state, TRUE);
    pdu_unref(invite->event);
    g_free(invite);
}

static void
invite_received(GPtrArray *received, gint64 position, const GError *error, gpointer data)
{
    g_autoptr(GError) failure = NULL;
    received_well(received, error, &failure);
    invite_finish(data, position, failure);
}

static void
invite_cosigned(const PartnerAnswer *answer, gpointer data)
{
    Invite *invite = data;
    g_autoptr(GError) error = NULL;
    const cJSON *json = json_get_object(answer->json, "event");
    if (answer->error != NULL) {
        tell_failure(&error, answer->error);
        invite_finish(invite, 0, error);
        return;
    }
    g_autoptr(Pdu) event = json != NULL ? pdu_from_value(invite->event->version, json, NULL) : NULL;
    if (event == NULL || strcmp(event->event_id, invite->event->event_id) != 0 ||
        !pdu_check_content_hash(event) || !is_signed_by(invite->outgoing, event, invite->server)) {
        refusal_set(&error, 502, "M_UNKNOWN", "%s did not answer with the invite that it signed",
                    invite->server);
        invite_finish(invite, 0, error);
        return;
    }
    rooms_receive_own(invite->outgoing->rooms, invite->room_id, event->bytes, invite_received,
                      invite);
}

static void
append_bytes(GString *out, GBytes *bytes)
{
    gsize length = 0;
    const char *data = g_bytes_get_data(bytes, &length);
    g_string_append_len(out, data, (gssize)length);
}

/* On the lane thread, or that of outgoing_invite() when it is refused at once. */
static void
invite_built(const Pdu *pdu, const GError *error, gpointer data)
{
    Invite *invite = data;
    if (pdu == NULL) {
        invite_finish(invite, 0, error);
        return;
    }
    invite->event = pdu_ref(pdu);
    GString *body = g_string_new("{\"event\":");
    append_bytes(body, pdu->bytes);
    g_string_append(body, ",\"invite_room_state\":");
    g_string_append_len(body, invite->room_state->str, (gssize)invite->room_state->len);
    g_string_append(body, ",\"room_version\":");
    json_append_string(body, pdu->version->id);
    g_string_append_c(body, '}');
    g_autoptr(GBytes) content = g_string_free_to_bytes(body);
    g_autofree char *target = partner_client_target("/_matrix/federation/v2/invite/%s/%s",
                                                    invite->room_id, pdu->event_id);
    partner_client_send(invite->outgoing->client, invite->server, "PUT", target, content,
                        PARTNER_QUICK, invite_cosigned, invite);
}

gboolean
outgoing_append_room_state(Outgoing *outgoing, const char *room_id, const char *sender,
                           GString *out, GError **error)
{
    const char *const entries[][2] = {
        {"m.room.create", ""},     {"m.room.join_rules", ""}, {"m.room.canonical_alias", ""},
        {"m.room.avatar", ""},     {"m.room.name", ""},       {"m.room.topic", ""},
        {"m.room.encryption", ""}, {"m.room.member", sender},
    };
    g_autoptr(GBytes) root = NULL;
    if (!rooms_current_root(outgoing->rooms, room_id, &root, error))
        return FALSE;
    if (root == NULL) {
        refusal_set(error, 404, "M_NOT_FOUND", "This server is not in that room");
        return FALSE;
    }
    g_string_append_c(out, '[');
    for (guint i = 0, count = 0; i < G_N_ELEMENTS(entries) && entries[i][1] != NULL; i++) {
        g_autoptr(Pdu) pdu = NULL;
        if (!rooms_state_find(outgoing->rooms, room_id, root, entries[i][0], entries[i][1], &pdu,
                              error))
            return FALSE;
        if (pdu == NULL)
            continue;
        if (count++ > 0)
            g_string_append_c(out, ',');
        append_bytes(out, pdu->bytes);
    }
    g_string_append_c(out, ']');
    return TRUE;
}

void
outgoing_invite(Outgoing *outgoing, const char *room_id, const char *sender,
                const char *target_user, const cJSON *content, OutgoingDone done, gpointer data)
{
    Invite *invite = g_new0(Invite, 1);
    g_autoptr(GError) error = NULL;
    g_autoptr(Partner) partner = NULL;
    g_autoptr(RoomsProposal) proposal = rooms_proposal_new(room_id, sender);
    const char *server = identifier_server(target_user);
    cJSON *whole = content != NULL ? cJSON_Duplicate(content, TRUE) : cJSON_CreateObject();

    cJSON_DeleteItemFromObjectCaseSensitive(whole, "membership");
    cJSON_AddItemToObject(whole, "membership", cJSON_CreateString("invite"));
    invite->outgoing = outgoing;
    invite->room_id = g_strdup(room_id);
    invite->server = g_strdup(server != NULL ? server : "");
    invite->room_state = g_string_new(NULL);
    invite->done = done;
    invite->data = data;
    /* Before anything is built: an unlisted server is not even named in an event. */
    partner = partners_find(outgoing->partners, invite->server, PARTNER_OUTBOUND, &error);
    rooms_proposal_add(proposal, "m.room.member", target_user, whole);
    if (partner == NULL ||
        !outgoing_append_room_state(outgoing, room_id, sender, invite->room_state, &error)) {
        invite_finish(invite, 0, error);
        return;
    }
    rooms_build(outgoing->rooms, g_steal_pointer(&proposal), invite_built, invite);
}

/* ---- older events ---- */

typedef struct {
    Outgoing *outgoing;
    char *room_id;
    char *query; /* "?limit=…&v=…" */
    GPtrArray *servers;
    guint next;
    OutgoingDone done;
    gpointer data;
} Backfill;

static void
backfill_finish(Backfill *backfill, gint64 position, const GError *error)
{
    backfill->done(backfill->room_id, position, error, backfill->data);
    g_free(backfill->room_id);
    g_free(backfill->query);
    g_clear_pointer(&backfill->servers, g_ptr_array_unref);
    g_free(backfill);
}

static void
backfill_received(GPtrArray *received, gint64 position, const GError *error, gpointer data)
{
    backfill_finish(data, position, error);
}

static void backfill_next(Backfill *backfill, const GError *last);

static void
backfill_answered(const PartnerAnswer *answer, gpointer data)
{
    Backfill *backfill = data;
    g_autoptr(GPtrArray) events = events_of(json_get_array(answer->json, "pdus"));
    if (answer->error != NULL || events == NULL || events->len == 0)
        backfill_next(backfill, answer->error);
    else
        rooms_receive_history(backfill->outgoing->rooms, backfill->room_id, events,
                              backfill_received, backfill);
}

/* Partners in the room, one after the other. */
static void
backfill_next(Backfill *backfill, const GError *last)
{
    while (backfill->next < backfill->servers->len && backfill->next < SERVERS_ASKED_MAX) {
        const char *server = backfill->servers->pdata[backfill->next++];
        g_autoptr(Partner) partner =
            strcmp(server, backfill->outgoing->own_name) != 0
                ? partners_find(backfill->outgoing->partners, server, PARTNER_OUTBOUND, NULL)
                : NULL;
        if (partner == NULL)
            continue;
        g_autofree char *path =
            partner_client_target("/_matrix/federation/v1/backfill/%s", backfill->room_id);
        g_autofree char *target = g_strconcat(path, backfill->query, NULL);
        partner_client_send(backfill->outgoing->client, server, "GET", target, NULL, PARTNER_LARGE,
                            backfill_answered, backfill);
        return;
    }
    g_autoptr(GError) error = NULL;
    if (last != NULL)
        tell_failure(&error, last);
    backfill_finish(backfill, 0, error);
}

void
outgoing_backfill(Outgoing *outgoing, const char *room_id, guint events_max, OutgoingDone done,
                  gpointer data)
{
    Backfill *backfill = g_new0(Backfill, 1);
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(outgoing->pool, &error);
    g_autoptr(GPtrArray) missing =
        connection != NULL ? event_store_missing(connection, room_id, BACKFILL_FROM_MAX, &error)
                           : NULL;
    backfill->outgoing = outgoing;
    backfill->room_id = g_strdup(room_id);
    backfill->done = done;
    backfill->data = data;
    backfill->servers =
        missing != NULL ? membership_store_servers(connection, room_id, &error) : NULL;
    g_clear_pointer(&connection, store_return);
    if (error != NULL || missing == NULL || missing->len == 0 || backfill->servers == NULL) {
        backfill_finish(backfill, 0, error);
        return;
    }
    GString *query = g_string_new(NULL);
    g_string_printf(query, "?limit=%u", MIN(events_max, 100));
    for (guint i = 0; i < missing->len; i++) {
        g_string_append(query, "&v=");
        g_string_append_uri_escaped(query, missing->pdata[i], NULL, FALSE);
    }
    backfill->query = g_string_free(query, FALSE);
    backfill_next(backfill, NULL);
}

/* ---- questions ---- */

typedef struct {
    OutgoingProfile done;
    gpointer data;
} Question;

static void
question_answered(const PartnerAnswer *answer, gpointer data)
{
    Question *question = data;
    g_autoptr(GError) error = NULL;
    if (answer->error != NULL)
        tell_failure(&error, answer->error);
    question->done(error == NULL ? answer->json : NULL, error, question->data);
    g_free(question);
}

static void
ask(Outgoing *outgoing, const char *server_name, const char *method, const char *target,
    GBytes *content, OutgoingProfile done, gpointer data)
{
    Question *question = g_new0(Question, 1);
    question->done = done;
    question->data = data;
    partner_client_send(outgoing->client, server_name, method, target, content, PARTNER_QUICK,
                        question_answered, question);
}

void
outgoing_profile(Outgoing *outgoing, const char *user_id, const char *field, OutgoingProfile done,
                 gpointer data)
{
    const char *server = identifier_server(user_id);
    g_autofree char *target =
        field != NULL
            ? partner_client_target("/_matrix/federation/v1/query/profile?user_id=%s&field=%s",
                                    user_id, field)
            : partner_client_target("/_matrix/federation/v1/query/profile?user_id=%s", user_id);
    ask(outgoing, server != NULL ? server : "", "GET", target, NULL, done, data);
}

void
outgoing_query(Outgoing *outgoing, const char *server_name, const char *method, const char *target,
               const cJSON *content, OutgoingProfile done, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) bytes = content != NULL ? json_canonical(content, &error) : NULL;
    if (error != NULL)
        done(NULL, error, data);
    else
        ask(outgoing, server_name, method, target, bytes, done, data);
}
