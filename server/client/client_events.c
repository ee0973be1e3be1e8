#include "server/client/client_events.h"

#include <string.h>

#include "identity/clock.h"
#include "server/client/relations.h"

/* unsigned.transaction_id: for the device alone that sent the event. */
static const char *
own_transaction(const ClientEventsView *view, const RoomEvent *event)
{
    return event->txn_id != NULL && g_strcmp0(event->device_id, view->device_id) == 0 &&
                   strcmp(event->pdu->sender, view->user_id) == 0
               ? event->txn_id
               : NULL;
}

/* What a state event replaced, or *ret_replaced NULL. */
static gboolean
find_replaced(Server *server, const RoomEvent *event, Pdu **ret_replaced, GError **error)
{
    const Pdu *pdu = event->pdu;
    g_autoptr(GBytes) before = NULL;

    *ret_replaced = NULL;
    if (pdu->state_key == NULL || !event->has_state || pdu_is(pdu, "m.room.create", ""))
        return TRUE;
    before = state_node_id_bytes(&event->before);
    return rooms_state_find(server->rooms, pdu->room_id, before, pdu->type, pdu->state_key,
                            ret_replaced, error);
}

static gboolean
append_redacted(Server *server, const ClientEventsView *view, const RoomEvent *event,
                PduUnsigned *extra, GString *out, GError **error)
{
    g_autoptr(Pdu) redacted = pdu_redacted(event->pdu, error);
    g_autoptr(RoomEvent) redaction = NULL;
    g_autoptr(GString) because = g_string_new(NULL);
    if (redacted == NULL ||
        !rooms_event(server->rooms, view->room_id, event->redaction_id, &redaction, error))
        return FALSE;
    if (redaction != NULL) {
        pdu_client_json(redaction->pdu, TRUE, NULL, because);
        extra->redacted_because = because->str;
    }
    pdu_client_json(redacted, view->with_room_id, extra, out);
    return TRUE;
}

gboolean
client_events_append(Server *server, const ClientEventsView *view, GPtrArray *events, GString *out,
                     GError **error)
{
    gint64 now_ms = clock_wall_ms();
    g_autoptr(GHashTable) relations = NULL;

    if (view->with_relations) {
        relations = relations_bundle(server, view, events, error);
        if (relations == NULL)
            return FALSE;
    }
    for (guint i = 0; i < events->len; i++) {
        const RoomEvent *event = g_ptr_array_index(events, i);
        PduUnsigned extra = {
            .has_age = TRUE,
            .age_ms = now_ms - event->pdu->origin_server_ts,
            .transaction_id = own_transaction(view, event),
        };
        g_autoptr(Pdu) replaced = NULL;

        if (!find_replaced(server, event, &replaced, error))
            return FALSE;
        if (replaced != NULL) {
            extra.prev_content = replaced->content;
            extra.prev_sender = replaced->sender;
            extra.replaces_state = replaced->event_id;
        }
        if (relations != NULL) {
            const GString *bundle = g_hash_table_lookup(relations, event->pdu->event_id);
            extra.relations = bundle != NULL ? bundle->str : NULL;
        }
        if (i > 0)
            g_string_append_c(out, ',');
        if (event->redaction_id == NULL)
            pdu_client_json(event->pdu, view->with_room_id, &extra, out);
        else if (!append_redacted(server, view, event, &extra, out, error))
            return FALSE;
    }
    return TRUE;
}
