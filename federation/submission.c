#include "federation/submission.h"
#include "federation/room/identifier.h"
#include "identity/refusal.h"
#include "identity/seeded_hash.h"
#include "identity/server_key.h"

void
received_free(Received *received)
{
    if (received == NULL)
        return;
    g_free(received->event_id);
    g_free(received->reason);
    g_clear_pointer(&received->missing_prev, g_ptr_array_unref);
    g_clear_pointer(&received->missing_auth, g_ptr_array_unref);
    g_free(received);
}

void
received_judge(Received *received, ReceivedVerdict verdict, const char *reason)
{
    received->verdict = verdict;
    g_free(received->reason);
    received->reason = g_strdup(reason);
}

/* ---- format, signature, hash: on the calling thread ---- */

static gboolean
signed_by(Rooms *rooms, const Pdu *pdu, const char *server)
{
    g_autoptr(GPtrArray) key_ids = pdu_signature_key_ids(pdu, server);
    gint64 at_ms = pdu->version->key_validity_enforced ? pdu->origin_server_ts : 0;

    for (guint i = 0; i < key_ids->len; i++) {
        const char *key_id = g_ptr_array_index(key_ids, i);
        guint8 key[PUBLIC_KEY_BYTES];

        if (g_str_equal(server, rooms->server_name)) {
            if (!g_str_equal(key_id, server_key_id(rooms->key)))
                continue;
            memcpy(key, server_key_public(rooms->key), sizeof key);
        } else if (rooms->find_key == NULL ||
                   !rooms->find_key(server, key_id, at_ms, key, rooms->find_key_data)) {
            continue;
        }
        if (pdu_verify_signature(pdu, server, key_id, key))
            return TRUE;
    }
    return FALSE;
}

Pdu *
submission_check(const Submission *submission, GBytes *bytes, char **ret_reason)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Pdu) pdu = NULL;
    g_autoptr(GPtrArray) signers = NULL;
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);

    pdu = pdu_from_json(submission->version, text, length, &error);
    if (pdu == NULL) {
        *ret_reason = g_strdup_printf("not an event: %s", error->message);
        return NULL;
    }
    if (!g_str_equal(pdu->room_id, submission->room_id)) {
        *ret_reason = g_strdup("the event is of another room");
        return NULL;
    }
    signers = pdu_required_signers(pdu);
    for (guint i = 0; i < signers->len; i++) {
        const char *server = g_ptr_array_index(signers, i);

        if (!signed_by(submission->rooms, pdu, server)) {
            *ret_reason = g_strdup_printf("no good signature of %s by a known key", server);
            return NULL;
        }
    }
    if (!pdu_check_content_hash(pdu)) {
        Pdu *redacted = pdu_redacted(pdu, &error);

        if (redacted == NULL)
            *ret_reason = g_strdup("the event is damaged");
        return redacted;
    }
    return g_steal_pointer(&pdu);
}

/* ---- a submission ---- */

static void
unref_pdu(gpointer pdu)
{
    pdu_unref(pdu); /* accepts NULL */
}

Submission *
submission_new(Rooms *rooms, SubmissionApply apply, const char *room_id, RoomsReceived done,
               gpointer data)
{
    Submission *submission = g_new0(Submission, 1);

    submission->rooms = rooms;
    submission->apply = apply;
    submission->room_id = g_strdup(room_id);
    submission->pdus = g_ptr_array_new_with_free_func(unref_pdu);
    submission->received = g_ptr_array_new_with_free_func((GDestroyNotify)received_free);
    submission->past = g_ptr_array_new_with_free_func(unref_pdu);
    submission->state = g_hash_table_new(seeded_str_hash, g_str_equal);
    submission->done = done;
    submission->data = data;
    return submission;
}

static void
submission_free(Submission *submission)
{
    g_free(submission->room_id);
    g_free(submission->origin);
    g_hash_table_unref(submission->state);
    g_ptr_array_unref(submission->pdus);
    g_ptr_array_unref(submission->received);
    g_ptr_array_unref(submission->past);
    if (submission->stripped_state != NULL)
        g_bytes_unref(submission->stripped_state);
    g_free(submission);
}

void
submission_answer(Submission *submission, gint64 position, const GError *error)
{
    submission->done(error == NULL ? submission->received : NULL, position, error,
                     submission->data);
    submission_free(submission);
}

void
submission_add_input(Submission *submission, GBytes *bytes)
{
    Received *received = g_new0(Received, 1);
    Pdu *pdu = NULL;

    received->verdict = RECEIVED_REFUSED;
    if (submission->version == NULL)
        received->reason = g_strdup("this server is not in that room");
    else
        pdu = submission_check(submission, bytes, &received->reason);
    if (pdu != NULL) {
        received->event_id = g_strdup(pdu->event_id);
        received->depth = pdu->depth;
    }
    g_ptr_array_add(submission->pdus, pdu);
    g_ptr_array_add(submission->received, received);
}

gboolean
submission_is_local(const Submission *submission, const Pdu *pdu)
{
    return identifier_is_of(pdu->sender, submission->rooms->server_name);
}

/* ---- the lane ---- */

/* It may run again after a batch was taken back. */
static void
reset_verdicts(Submission *submission)
{
    for (guint i = 0; i < submission->received->len; i++) {
        Received *received = g_ptr_array_index(submission->received, i);

        if (g_ptr_array_index(submission->pdus, i) == NULL)
            continue;
        received_judge(received, RECEIVED_REFUSED, NULL);
        g_clear_pointer(&received->missing_prev, g_ptr_array_unref);
        g_clear_pointer(&received->missing_auth, g_ptr_array_unref);
    }
}

static gboolean
apply(LaneBatch *batch, gpointer data, GError **error)
{
    Submission *submission = data;

    reset_verdicts(submission);
    return submission->apply(submission, batch, error);
}

static void
done(gpointer data, gint64 position, const GError *error)
{
    Submission *submission = data;
    g_autoptr(GError) refusal = NULL;

    if (error == NULL && submission->own) {
        const Received *received = g_ptr_array_index(submission->received, 0);

        if (received->verdict == RECEIVED_REJECTED || received->verdict == RECEIVED_SOFT_FAILED)
            refusal_set(&refusal, 403, "M_FORBIDDEN", "The rules of the room do not allow this: %s",
                        received->reason);
    }
    submission_answer(submission, position, error != NULL ? error : refusal);
}

void
submission_submit(Submission *submission)
{
    g_autoptr(GError) error = NULL;

    if (!lane_submit(submission->rooms->lane, apply, done, submission, &error))
        submission_answer(submission, 0, error);
}
