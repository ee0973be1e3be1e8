/* server/partner/events.c: what a partner may read of the rooms that it is in: single events,
 * state, auth chains, history.  Source: server-server API v1.19, "Retrieving events", "Backfilling
 * and retrieving missing events", "PDUs". */
#include <string.h>

#include "identity/clock.h"
#include "identity/refusal.h"
#include "server/http/route.h"
#include "server/partner/partner_room.h"
#include "storage/event_store.h"

#define BACKFILL_MAX 100
#define BACKFILL_FROM_MAX 20
#define MISSING_MAX 20
#define AUTH_CHAIN_MAX 10000

/* {"origin", "origin_server_ts", "pdus": [ — the caller adds the events and "]}". */
static GString *
begin_events(const Request *request)
{
    GString *out = g_string_new("{\"origin\":");
    json_append_string(out, request_server(request)->name);
    g_string_append_printf(out, ",\"origin_server_ts\":%" G_GINT64_FORMAT ",\"pdus\":[",
                           clock_wall_ms());
    return out;
}

static Response *
event_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *event_id = request_path(request, "eventId");
    g_autofree char *room_id = NULL;
    g_autoptr(RoomEvent) event = NULL;
    gboolean visible = FALSE;
    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
        if (connection == NULL || !event_store_find_room(connection, event_id, &room_id, error))
            return NULL;
    }
    if (room_id == NULL)
        return response_error(404, "M_NOT_FOUND", "That event is not known here");
    if (!partner_room_allows(request, room_id, TRUE, error) ||
        !partner_room_event(request, room_id, event_id, &event, error) ||
        !rooms_visible_to_server(server->rooms, event, request_origin(request), &visible, error))
        return NULL;
    if (!visible)
        return response_error(404, "M_NOT_FOUND", "That event is not known here");
    g_autoptr(GString) out = begin_events(request);
    if (!partner_room_append(request, out, event, error))
        return NULL;
    g_string_append(out, "]}");
    return response_json(200, g_steal_pointer(&out));
}

/* The state before ?event_id= of the room, and its auth chain. */
static gboolean
read_state(Request *request, GPtrArray **ret_state, GPtrArray **ret_auth_chain, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    const char *event_id = request_query(request, "event_id");
    g_autoptr(RoomEvent) event = NULL;
    if (event_id == NULL) {
        refusal_set(error, 400, "M_MISSING_PARAM", "The query parameter event_id is missing");
        return FALSE;
    }
    if (!partner_room_allows(request, room_id, TRUE, error) ||
        !partner_room_event(request, room_id, event_id, &event, error) ||
        !rooms_state_before(server->rooms, room_id, event_id, ret_state, ret_auth_chain, error))
        return FALSE;
    if (*ret_state == NULL) {
        refusal_set(error, 404, "M_NOT_FOUND", "The state at that event is not known here");
        return FALSE;
    }
    return TRUE;
}

static Response *
state_get(Request *request, GError **error)
{
    g_autoptr(GPtrArray) state = NULL;
    g_autoptr(GPtrArray) auth_chain = NULL;
    if (!read_state(request, &state, &auth_chain, error))
        return NULL;
    GString *out = g_string_new("{\"auth_chain\":");
    partner_room_append_pdus(out, auth_chain);
    g_string_append(out, ",\"pdus\":");
    partner_room_append_pdus(out, state);
    g_string_append_c(out, '}');
    return response_json(200, out);
}

static Response *
state_ids_get(Request *request, GError **error)
{
    g_autoptr(GPtrArray) state = NULL;
    g_autoptr(GPtrArray) auth_chain = NULL;
    if (!read_state(request, &state, &auth_chain, error))
        return NULL;
    GString *out = g_string_new("{\"auth_chain_ids\":");
    partner_room_append_ids(out, auth_chain);
    g_string_append(out, ",\"pdu_ids\":");
    partner_room_append_ids(out, state);
    g_string_append_c(out, '}');
    return response_json(200, out);
}

static Response *
event_auth_get(Request *request, GError **error)
{
    const char *room_id = request_path(request, "roomId");
    const char *event_id = request_path(request, "eventId");
    g_autoptr(RoomEvent) event = NULL;
    if (!partner_room_allows(request, room_id, TRUE, error) ||
        !partner_room_event(request, room_id, event_id, &event, error))
        return NULL;
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    g_ptr_array_add(ids, (gpointer)event_id);
    g_autoptr(GPtrArray) chain =
        rooms_auth_chain(request_server(request)->rooms, room_id, ids, AUTH_CHAIN_MAX, error);
    if (chain == NULL)
        return NULL;
    GString *out = g_string_new("{\"auth_chain\":");
    partner_room_append_pdus(out, chain);
    g_string_append_c(out, '}');
    return response_json(200, out);
}

/* Events going back from @from, newest first, as RoomEvents that are accepted. */
static GPtrArray *
walk_back(Request *request, const char *room_id, const char *const *from, const char *const *stop,
          gsize stop_count, gboolean include_from, guint events_max, GError **error)
{
    Server *server = request_server(request);
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    g_autoptr(GPtrArray) walked = NULL;
    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
        walked =
            connection != NULL
                ? event_store_walk_back(connection, room_id, from, g_strv_length((char **)from),
                                        stop, stop_count, include_from, events_max, error)
                : NULL;
    }
    if (walked == NULL)
        return NULL;
    for (guint i = 0; i < walked->len; i++) {
        const StoredEvent *event = walked->pdata[i];
        if (event->status == STORED_EVENT_ACCEPTED)
            g_ptr_array_add(ids, event->event_id);
    }
    return rooms_events(server->rooms, room_id, ids, error);
}

static Response *
backfill_get(Request *request, GError **error)
{
    const char *room_id = request_path(request, "roomId");
    const char *const *from = request_query_all(request, "v");
    gint64 limit = 0;
    if (from == NULL || from[0] == NULL || g_strv_length((char **)from) > BACKFILL_FROM_MAX)
        return response_error(400, "M_INVALID_PARAM", "Give 1 to %d event ids as v",
                              BACKFILL_FROM_MAX);
    if (!request_query_integer(request, "limit", 1, G_MAXINT32, BACKFILL_MAX, &limit, error) ||
        !partner_room_allows(request, room_id, TRUE, error))
        return NULL;
    g_autoptr(GPtrArray) events =
        walk_back(request, room_id, from, NULL, 0, TRUE, (guint)MIN(limit, BACKFILL_MAX), error);
    if (events == NULL)
        return NULL;
    g_autoptr(GString) out = begin_events(request);
    for (guint i = 0; i < events->len; i++) {
        if (i > 0)
            g_string_append_c(out, ',');
        if (!partner_room_append(request, out, events->pdata[i], error))
            return NULL;
    }
    g_string_append(out, "]}");
    return response_json(200, g_steal_pointer(&out));
}

/* Strings of @array, NULL-terminated; the array is the caller's, the strings are not. */
static const char **
string_list(const cJSON *array, guint count_max)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    for (const cJSON *item = array != NULL ? array->child : NULL; item != NULL; item = item->next) {
        if (!cJSON_IsString(item) || list->len == count_max)
            return NULL;
        g_ptr_array_add(list, item->valuestring);
    }
    g_ptr_array_add(list, NULL);
    return (const char **)g_ptr_array_free(g_steal_pointer(&list), FALSE);
}

static Response *
missing_events_post(Request *request, GError **error)
{
    const char *room_id = request_path(request, "roomId");
    const cJSON *body = request_json(request);
    g_autofree const char **earliest = string_list(json_get_array(body, "earliest_events"), 1000);
    g_autofree const char **latest =
        string_list(json_get_array(body, "latest_events"), BACKFILL_FROM_MAX);
    gint64 limit = 10, min_depth = 0;
    if (earliest == NULL || latest == NULL || latest[0] == NULL)
        return response_error(400, "M_BAD_JSON",
                              "'earliest_events' and 'latest_events' must be arrays of event ids");
    json_get_integer(body, "limit", &limit);
    json_get_integer(body, "min_depth", &min_depth);
    if (!partner_room_allows(request, room_id, TRUE, error))
        return NULL;
    g_autoptr(GPtrArray) events =
        walk_back(request, room_id, latest, earliest, g_strv_length((char **)earliest), FALSE,
                  (guint)CLAMP(limit, 1, MISSING_MAX), error);
    if (events == NULL)
        return NULL;
    g_autoptr(GString) out = g_string_new("{\"events\":[");
    guint count = 0;
    for (guint i = events->len; i > 0; i--) { /* oldest first */
        const RoomEvent *event = events->pdata[i - 1];
        if (event->pdu->depth < min_depth)
            continue;
        if (count++ > 0)
            g_string_append_c(out, ',');
        if (!partner_room_append(request, out, event, error))
            return NULL;
    }
    g_string_append(out, "]}");
    return response_json(200, g_steal_pointer(&out));
}

const Route routes_partner_events[] = {
    {"GET", "/_matrix/federation/v1/event/{eventId}", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_NONE, event_get},
    {"GET", "/_matrix/federation/v1/state/{roomId}", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_NONE, state_get},
    {"GET", "/_matrix/federation/v1/state_ids/{roomId}", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_NONE, state_ids_get},
    {"GET", "/_matrix/federation/v1/event_auth/{roomId}/{eventId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_NONE, event_auth_get},
    {"GET", "/_matrix/federation/v1/backfill/{roomId}", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_NONE, backfill_get},
    {"POST", "/_matrix/federation/v1/get_missing_events/{roomId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_JSON, missing_events_post},
    {NULL},
};
