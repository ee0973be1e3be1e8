/* Invites to rooms that we are not in, and knocks of ours at such rooms: both wait in one table
 * until the room is joined, or they end. */
#include "federation/invites.h"
#include "federation/room/identifier.h"
#include "identity/json.h"
#include "identity/refusal.h"
#include "storage/membership_store.h"

static void
log_invite(LaneBatch *batch, const Pdu *pdu)
{
    lane_batch_log(batch, log_entry_new(LOG_INVITE, pdu->room_id, pdu->state_key, pdu->event_id));
}

static gboolean
apply_invite(Submission *submission, LaneBatch *batch, GError **error)
{
    const Pdu *pdu = g_ptr_array_index(submission->pdus, 0);
    RoomMemory *memory;

    if (!rooms_memory(submission->rooms, batch, submission->room_id, &memory, error))
        return FALSE;
    received_judge(g_ptr_array_index(submission->received, 0), RECEIVED_ACCEPTED, NULL);
    /* Where we are in the room the invite comes as an event of the room as well, and is judged
     * there. */
    if (memory != NULL && room_memory_server_joined(memory, submission->rooms->server_name) > 0)
        return TRUE;
    membership_store_set_invite(batch, &(StoredInvite){
                                           .user_id = (char *)pdu->state_key,
                                           .room_id = (char *)pdu->room_id,
                                           .room_version = (char *)pdu->version->id,
                                           .event_id = (char *)pdu->event_id,
                                           .sender = (char *)pdu->sender,
                                           .json = pdu->bytes,
                                           .room_state = submission->stripped_state,
                                       });
    log_invite(batch, pdu);
    return TRUE;
}

/* A knock of ours waits in the invite's place. */
static gboolean
is_knock(const StoredInvite *invite)
{
    gsize length = 0;
    const char *text = g_bytes_get_data(invite->json, &length);
    g_autoptr(cJSON) json = json_parse(text, length, &json_limits_event_lax, NULL);

    return g_strcmp0(json_get_string(json_get_object(json, "content"), "membership"), "knock") == 0;
}

/* The end of an invite: by the invited user, or taken back by a user of the inviter's server.  Of a
 * knock: by who knocked, or refused by a user of any partner, for nobody outside knows who has the
 * power there; knocking again costs little. */
static gboolean
apply_leave(Submission *submission, LaneBatch *batch, const Pdu *pdu, Received *received,
            GError **error)
{
    StoreConnection *connection = lane_batch_settled_connection(batch, error);
    g_autoptr(StoredInvite) invite = NULL;

    if (connection == NULL ||
        !membership_store_find_invite(connection, pdu->state_key, pdu->room_id, &invite, error))
        return FALSE;
    if (invite == NULL ||
        (!g_str_equal(pdu->sender, pdu->state_key) &&
         !identifier_same_server(pdu->sender, invite->sender) && !is_knock(invite))) {
        received_judge(received, RECEIVED_REFUSED, "there is no invite that this event could end");
        return TRUE;
    }
    membership_store_remove_invite(batch, pdu->state_key, pdu->room_id);
    log_invite(batch, pdu);
    received_judge(received, RECEIVED_ACCEPTED, NULL);
    return TRUE;
}

static gboolean
ends_invite(const Submission *submission, const Pdu *pdu)
{
    const char *membership = pdu_membership(pdu);

    return (g_strcmp0(membership, "leave") == 0 || g_strcmp0(membership, "ban") == 0) &&
           identifier_is_of(pdu->state_key, submission->rooms->server_name);
}

/* Not in the room: all that may still concern us is the end of an invite. */
gboolean
invites_apply_outside(Submission *submission, LaneBatch *batch, GError **error)
{
    for (guint i = 0; i < submission->pdus->len; i++) {
        const Pdu *pdu = g_ptr_array_index(submission->pdus, i);
        Received *received = g_ptr_array_index(submission->received, i);

        if (pdu == NULL)
            continue;
        if (ends_invite(submission, pdu)) {
            if (!apply_leave(submission, batch, pdu, received, error))
                return FALSE;
        } else {
            received_judge(received, RECEIVED_REFUSED, "this server is not in that room");
        }
    }
    return TRUE;
}

/* ---- the ways in ---- */

static void
accept_from_outside(Rooms *rooms, const char *room_id, const RoomVersion *version,
                    const char *membership, GBytes *event, GBytes *stripped_state,
                    RoomsReceived on_done, gpointer data)
{
    Submission *submission = submission_new(rooms, apply_invite, room_id, on_done, data);
    g_autoptr(GError) error = NULL;
    const Received *received;
    const Pdu *pdu;

    submission->version = version;
    submission->stripped_state = g_bytes_ref(stripped_state);
    submission_add_input(submission, event);
    received = g_ptr_array_index(submission->received, 0);
    pdu = g_ptr_array_index(submission->pdus, 0);
    if (pdu == NULL || g_strcmp0(pdu_membership(pdu), membership) != 0 ||
        !identifier_is_of(pdu->state_key, rooms->server_name)) {
        refusal_set(&error, 400, "M_INVALID_PARAM", "That is no %s of a user of this server: %s",
                    membership,
                    received->reason != NULL ? received->reason : "wrong membership or state_key");
        submission_answer(submission, 0, error);
        return;
    }
    submission_submit(submission);
}

void
rooms_accept_invite(Rooms *rooms, const char *room_id, const RoomVersion *version, GBytes *invite,
                    GBytes *stripped_state, RoomsReceived on_done, gpointer data)
{
    accept_from_outside(rooms, room_id, version, "invite", invite, stripped_state, on_done, data);
}

void
rooms_accept_knock(Rooms *rooms, const char *room_id, const RoomVersion *version, GBytes *knock,
                   GBytes *stripped_state, RoomsReceived on_done, gpointer data)
{
    accept_from_outside(rooms, room_id, version, "knock", knock, stripped_state, on_done, data);
}

/* ---- an invite ends here alone ---- */

typedef struct {
    char *room_id;
    char *user_id;
    RoomsDone done;
    gpointer data;
} InviteDrop;

static gboolean
drop_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const InviteDrop *drop = data;

    membership_store_remove_invite(batch, drop->user_id, drop->room_id);
    lane_batch_log(batch, log_entry_new(LOG_INVITE, drop->room_id, drop->user_id, NULL));
    return TRUE;
}

static void
drop_done(gpointer data, gint64 position, const GError *error)
{
    InviteDrop *drop = data;
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    const RoomsOutcome outcome = {drop->room_id, none, position};

    drop->done(error == NULL ? &outcome : NULL, error, drop->data);
    g_free(drop->room_id);
    g_free(drop->user_id);
    g_free(drop);
}

void
rooms_drop_invite(Rooms *rooms, const char *room_id, const char *user_id, RoomsDone on_done,
                  gpointer data)
{
    InviteDrop *drop = g_new0(InviteDrop, 1);
    g_autoptr(GError) error = NULL;

    drop->room_id = g_strdup(room_id);
    drop->user_id = g_strdup(user_id);
    drop->done = on_done;
    drop->data = data;
    if (!lane_submit(rooms->lane, drop_apply, drop_done, drop, &error))
        drop_done(drop, 0, error);
}
