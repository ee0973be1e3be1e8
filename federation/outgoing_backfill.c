/* Older events of a room, from the partners in it, one after the other (server-server API,
 * "Backfilling and retrieving missing events"). */
#include "federation/outgoing_private.h"

#include <string.h>

#include "storage/membership_store.h"

#define BACKFILL_FROM_MAX 10 /* events from which older ones are asked for */

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
    g_autoptr(GPtrArray) events = outgoing_events_of(json_get_array(answer->json, "pdus"));
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
    while (backfill->next < backfill->servers->len && backfill->next < OUTGOING_SERVERS_MAX) {
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
        outgoing_tell_failure(&error, last);
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
