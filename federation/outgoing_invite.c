/* Invites of users of other servers: built here, co-signed there, then stored (server-server API,
 * "Inviting to a room"). */
#include "federation/outgoing_private.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "identity/refusal.h"

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
    outgoing_received_well(received, error, &failure);
    invite_finish(data, position, failure);
}

static void
invite_cosigned(const PartnerAnswer *answer, gpointer data)
{
    Invite *invite = data;
    g_autoptr(GError) error = NULL;
    const cJSON *json = json_get_object(answer->json, "event");
    if (answer->error != NULL) {
        outgoing_tell_failure(&error, answer->error);
        invite_finish(invite, 0, error);
        return;
    }
    g_autoptr(Pdu) event = json != NULL ? pdu_from_value(invite->event->version, json, NULL) : NULL;
    if (event == NULL || strcmp(event->event_id, invite->event->event_id) != 0 ||
        !pdu_check_content_hash(event) ||
        !outgoing_is_signed_by(invite->outgoing, event, invite->server)) {
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
