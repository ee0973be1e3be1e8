#include "server/client/client_events.h"

#include <string.h>

#include "identity/clock.h"
#include "storage/event_store.h"

typedef struct {
    GHashTable *redactions;   /* event id -> redaction's event id, or NULL */
    GHashTable *transactions; /* event id -> transaction id, or NULL */
} Extras;

static void
extras_clear(Extras *extras)
{
    g_clear_pointer(&extras->redactions, g_hash_table_unref);
    g_clear_pointer(&extras->transactions, g_hash_table_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Extras, extras_clear)

static gboolean
extras_load(Extras *extras, const ClientEventsView *view, GPtrArray *pdus, GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    g_autoptr(GPtrArray) own = g_ptr_array_new();
    for (guint i = 0; i < pdus->len; i++) {
        const Pdu *pdu = g_ptr_array_index(pdus, i);
        g_ptr_array_add(all, (gpointer)pdu->event_id);
        if (strcmp(pdu->sender, view->user_id) == 0)
            g_ptr_array_add(own, (gpointer)pdu->event_id);
    }
    if (!view->none_redacted) {
        extras->redactions =
            event_store_find_redactions(view->connection, view->room_id,
                                        (const char *const *)all->pdata, all->len, error);
        if (extras->redactions == NULL)
            return FALSE;
    }
    if (own->len > 0 && view->device_id != NULL) {
        extras->transactions = event_store_find_transactions_of(
            view->connection, view->user_id, view->device_id, (const char *const *)own->pdata,
            own->len, error);
        if (extras->transactions == NULL)
            return FALSE;
    }
    return TRUE;
}

static gboolean
append_redacted(Server *server, const Pdu *pdu, const char *redaction_id, PduUnsigned *extra,
                gboolean with_room_id, GString *out, GError **error)
{
    g_autoptr(Pdu) redacted = pdu_redacted(pdu, error);
    g_autoptr(Pdu) redaction = NULL;
    g_autoptr(GString) because = g_string_new(NULL);
    gboolean rejected = FALSE;
    if (redacted == NULL ||
        !rooms_event(server->rooms, redaction_id, &redaction, &rejected, error))
        return FALSE;
    if (redaction != NULL) {
        pdu_client_json(redaction, TRUE, NULL, because);
        extra->redacted_because = because->str;
    }
    pdu_client_json(redacted, with_room_id, extra, out);
    return TRUE;
}

gboolean
client_events_append(Server *server, const ClientEventsView *view, GPtrArray *pdus, GString *out,
                     GError **error)
{
    g_auto(Extras) extras = {NULL, NULL};
    gint64 now_ms = clock_wall_ms();

    if (pdus->len == 0)
        return TRUE;
    if (!extras_load(&extras, view, pdus, error))
        return FALSE;
    for (guint i = 0; i < pdus->len; i++) {
        const Pdu *pdu = g_ptr_array_index(pdus, i);
        const char *redaction_id =
            extras.redactions != NULL ? g_hash_table_lookup(extras.redactions, pdu->event_id) : NULL;
        PduUnsigned extra = {
            .has_age = TRUE,
            .age_ms = now_ms - pdu->origin_server_ts,
            .transaction_id = extras.transactions != NULL
                                  ? g_hash_table_lookup(extras.transactions, pdu->event_id)
                                  : NULL,
        };
        if (i > 0)
            g_string_append_c(out, ',');
        if (redaction_id == NULL)
            pdu_client_json(pdu, view->with_room_id, &extra, out);
        else if (!append_redacted(server, pdu, redaction_id, &extra, view->with_room_id, out, error))
            return FALSE;
    }
    return TRUE;
}
