#include "federation/outgoing_private.h"

#include "federation/room/identifier.h"
#include "federation/room/pdu_sign.h"
#include "identity/refusal.h"

Outgoing *
outgoing_new(const char *own_name, const ServerKey *key, StorePool *pool, Rooms *rooms,
             Partners *partners, PartnerClient *client, Delivery *delivery)
{
    Outgoing *outgoing = g_new0(Outgoing, 1);
    outgoing->own_name = g_strdup(own_name);
    outgoing->key = key;
    outgoing->pool = pool;
    outgoing->rooms = rooms;
    outgoing->partners = partners;
    outgoing->client = client;
    outgoing->delivery = delivery;
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

void
outgoing_tell_failure(GError **error, const GError *cause)
{
    if (cause->domain == REFUSAL || cause->domain == STORE_ERROR)
        g_propagate_error(error, g_error_copy(cause));
    else
        refusal_set(error, 502, "M_UNKNOWN", "No partner could help: %s", cause->message);
}

gboolean
outgoing_received_well(GPtrArray *received, const GError *error, GError **ret_error)
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

GPtrArray *
outgoing_events_of(const cJSON *array)
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

gboolean
outgoing_is_signed_by(Outgoing *outgoing, const Pdu *event, const char *server_name)
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
        outgoing_tell_failure(&error, answer->error);
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
