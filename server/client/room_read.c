/* What a user reads of a room: state, members, single events, pages of history. */
#include "federation/outgoing.h"
#include "identity/seeded_hash.h"
#include "server/client/client_events.h"
#include "server/client/filter.h"
#include "server/client/room_call.h"
#include "server/client/room_routes.h"
#include "server/client/stream_token.h"

#define PAGE_STANDARD 10
#define PAGE_MAX 500
#define CONTEXT_MAX 100
/* Entries looked at for one page: those that the reader may not see do not end the page. */
#define PAGE_ENTRIES_MAX 5000

/* ---- state ---- */

static gboolean
append_pdus(Request *request, const char *room_id, GPtrArray *pdus, GString *body, GError **error)
{
    Server *server = request_server(request);
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    g_autoptr(GPtrArray) events = NULL;
    const ClientEventsView view = {
        .room_id = room_id,
        .user_id = request_user_id(request),
        .device_id = request_device_id(request),
        .with_room_id = TRUE,
    };

    for (guint i = 0; i < pdus->len; i++)
        g_ptr_array_add(ids, (gpointer)((Pdu *)g_ptr_array_index(pdus, i))->event_id);
    events = rooms_events(server->rooms, room_id, ids, error);
    return events != NULL && client_events_append(server, &view, events, body, error);
}

Response *
room_state_get(Request *request, GError **error)
{
    const char *room_id = request_path(request, "roomId");
    g_auto(RoomAccess) access = {0};
    g_autoptr(GPtrArray) pdus = NULL;
    g_autoptr(GString) body = g_string_new("[");

    if (!room_access(request, room_id, &access, error))
        return NULL;
    pdus = rooms_state_load(request_server(request)->rooms, room_id, access.root, error);
    if (pdus == NULL || !append_pdus(request, room_id, pdus, body, error))
        return NULL;
    g_string_append_c(body, ']');
    return response_json(200, g_steal_pointer(&body));
}

static Response *
state_event(Request *request, const char *state_key, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    const char *format = request_query(request, "format");
    g_auto(RoomAccess) access = {0};
    g_autoptr(Pdu) pdu = NULL;
    g_autoptr(GString) body = g_string_new(NULL);

    if (!room_access(request, room_id, &access, error) ||
        !rooms_state_find(server->rooms, room_id, access.root, request_path(request, "eventType"),
                          state_key, &pdu, error))
        return NULL;
    if (pdu == NULL)
        return response_error(404, "M_NOT_FOUND", "The room has no such state");
    if (g_strcmp0(format, "event") == 0) {
        g_autoptr(GPtrArray) pdus = g_ptr_array_new();

        g_ptr_array_add(pdus, pdu);
        if (!append_pdus(request, room_id, pdus, body, error))
            return NULL;
        return response_json(200, g_steal_pointer(&body));
    }
    pdu_content_json(pdu, body);
    return response_json(200, g_steal_pointer(&body));
}

Response *
room_state_event_get(Request *request, GError **error)
{
    return state_event(request, request_path(request, "stateKey"), error);
}

Response *
room_state_event_get_without_key(Request *request, GError **error)
{
    return state_event(request, "", error);
}

/* ---- members ---- */

/* Was the room the caller's to look into at @position, when its state was @root: were they in it,
 * or may they see what was last said there? */
static gboolean
was_open(Request *request, const char *room_id, GBytes *root, gint64 position,
         const RoomAccess *access, gboolean *ret_open, GError **error)
{
    Rooms *rooms = request_server(request)->rooms;
    g_autofree char *membership = NULL;
    g_autoptr(GPtrArray) entries = NULL;
    g_autoptr(RoomEvent) event = NULL;

    if (!rooms_membership_at(rooms, room_id, root, request_user_id(request), &membership, error))
        return FALSE;
    *ret_open = g_strcmp0(membership, "join") == 0;
    if (*ret_open)
        return TRUE;
    {
        g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);

        entries = connection != NULL
                      ? log_read_room(connection, room_id, position + 1, TRUE, 1, error)
                      : NULL;
    }
    if (entries == NULL)
        return FALSE;
    if (entries->len == 0)
        return TRUE;
    return rooms_event(rooms, room_id, ((LogEntry *)g_ptr_array_index(entries, 0))->ref, &event,
                       error) &&
           (event == NULL || rooms_visible_to_user(rooms, event, request_user_id(request),
                                                   access->standing, ret_open, error));
}

/* The state's root as of the token `at`, within what the caller may see. */
static gboolean
root_at(Request *request, const char *room_id, RoomAccess *access, GError **error)
{
    const char *at = request_query(request, "at");
    g_autoptr(GBytes) root = NULL;
    gint64 position = 0;
    gboolean open = FALSE;

    if (at == NULL)
        return TRUE;
    if (!room_token_parse(at, &position)) {
        refusal_set(error, 400, "M_INVALID_PARAM", "at is no token of this server");
        return FALSE;
    }
    if (position >= access->until)
        return TRUE;
    {
        g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);

        if (connection == NULL || !log_state_root_at(connection, room_id, position, &root, error))
            return FALSE;
    }
    if (root == NULL)
        return TRUE;
    if (!was_open(request, room_id, root, position, access, &open, error))
        return FALSE;
    if (!open) {
        refusal_set(error, 403, "M_FORBIDDEN", "The room was not open to you at that time");
        return FALSE;
    }
    g_bytes_unref(access->root);
    access->root = g_steal_pointer(&root);
    return TRUE;
}

Response *
room_members_get(Request *request, GError **error)
{
    const char *room_id = request_path(request, "roomId");
    const char *wanted = request_query(request, "membership");
    const char *unwanted = request_query(request, "not_membership");
    g_auto(RoomAccess) access = {0};
    g_autoptr(GPtrArray) pdus = NULL;
    g_autoptr(GPtrArray) members = g_ptr_array_new();
    g_autoptr(GString) body = g_string_new("{\"chunk\":[");

    if (!room_access(request, room_id, &access, error) ||
        !root_at(request, room_id, &access, error))
        return NULL;
    pdus = rooms_state_load(request_server(request)->rooms, room_id, access.root, error);
    if (pdus == NULL)
        return NULL;
    for (guint i = 0; i < pdus->len; i++) {
        Pdu *pdu = g_ptr_array_index(pdus, i);
        const char *membership = pdu_membership(pdu);

        if (membership != NULL && (wanted == NULL || g_str_equal(membership, wanted)) &&
            (unwanted == NULL || !g_str_equal(membership, unwanted)))
            g_ptr_array_add(members, pdu);
    }
    if (!append_pdus(request, room_id, members, body, error))
        return NULL;
    g_string_append(body, "]}");
    return response_json(200, g_steal_pointer(&body));
}

Response *
room_joined_members_get(Request *request, GError **error)
{
    const char *room_id = request_path(request, "roomId");
    g_auto(RoomAccess) access = {0};
    g_autoptr(GPtrArray) pdus = NULL;
    cJSON *joined, *answer;

    if (!room_access(request, room_id, &access, error))
        return NULL;
    if (!access.joined)
        return response_error(403, "M_FORBIDDEN", "You are not in that room");
    pdus = rooms_state_load(request_server(request)->rooms, room_id, access.root, error);
    if (pdus == NULL)
        return NULL;
    joined = cJSON_CreateObject();
    for (guint i = 0; i < pdus->len; i++) {
        const Pdu *pdu = g_ptr_array_index(pdus, i);
        const char *name = json_get_string(pdu->content, "displayname");
        const char *picture = json_get_string(pdu->content, "avatar_url");
        cJSON *member;

        if (g_strcmp0(pdu_membership(pdu), "join") != 0)
            continue;
        member = cJSON_CreateObject();
        if (name != NULL)
            cJSON_AddItemToObject(member, "display_name", cJSON_CreateString(name));
        if (picture != NULL)
            cJSON_AddItemToObject(member, "avatar_url", cJSON_CreateString(picture));
        cJSON_AddItemToObject(joined, pdu->state_key, member);
    }
    answer = cJSON_CreateObject();
    cJSON_AddItemToObject(answer, "joined", joined);
    return response_value(200, answer);
}

/* ---- single events ---- */

/* The event if the caller may see it; 404 whether it is absent or hidden. */
static gboolean
visible_event(Request *request, const char *room_id, const char *event_id, RoomAccess *access,
              RoomEvent **ret_event, GError **error)
{
    Server *server = request_server(request);
    g_autoptr(RoomEvent) event = NULL;
    gboolean visible = FALSE;

    if (!rooms_event(server->rooms, room_id, event_id, &event, error))
        return FALSE;
    if (event != NULL && !rooms_visible_to_user(server->rooms, event, request_user_id(request),
                                                access->standing, &visible, error))
        return FALSE;
    if (!visible) {
        refusal_set(error, 404, "M_NOT_FOUND", "There is no such event, or it is not for you");
        return FALSE;
    }
    *ret_event = g_steal_pointer(&event);
    return TRUE;
}

static gboolean
append_events(Request *request, const char *room_id, const RoomAccess *access, GPtrArray *events,
              GString *body, GError **error)
{
    const ClientEventsView view = {
        .room_id = room_id,
        .user_id = request_user_id(request),
        .device_id = request_device_id(request),
        .with_room_id = TRUE,
        .with_relations = access->joined,
    };

    return client_events_append(request_server(request), &view, events, body, error);
}

Response *
room_event_get(Request *request, GError **error)
{
    const char *room_id = request_path(request, "roomId");
    g_auto(RoomAccess) access = {0};
    g_autoptr(RoomEvent) event = NULL;
    g_autoptr(GPtrArray) events = g_ptr_array_new();
    g_autoptr(GString) body = g_string_new(NULL);

    if (!room_access(request, room_id, &access, error) ||
        !visible_event(request, room_id, request_path(request, "eventId"), &access, &event,
                       error) ||
        !room_access_covers(request, room_id, event->pdu->event_id, &access, error))
        return NULL;
    g_ptr_array_add(events, event);
    if (!append_events(request, room_id, &access, events, body, error))
        return NULL;
    return response_json(200, g_steal_pointer(&body));
}

/* The event nearest to a moment, that the caller may see. */
Response *
room_by_time_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    const char *direction = request_query(request, "dir");
    g_auto(RoomAccess) access = {0};
    g_autoptr(RoomEvent) event = NULL;
    g_autofree char *event_id = NULL;
    gint64 wanted_ts = 0;
    gint64 found_ts = 0;
    cJSON *answer;

    if (request_query(request, "ts") == NULL ||
        (g_strcmp0(direction, "b") != 0 && g_strcmp0(direction, "f") != 0))
        return response_error(400, "M_MISSING_PARAM", "Give ts, and dir as b or f");
    if (!request_query_integer(request, "ts", 0, G_MAXINT64, 0, &wanted_ts, error) ||
        !room_access(request, room_id, &access, error))
        return NULL;
    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);

        if (connection == NULL ||
            !event_store_find_by_time(connection, room_id, wanted_ts, direction[0] == 'b',
                                      &event_id, &found_ts, error))
            return NULL;
    }
    if (event_id == NULL)
        return response_error(404, "M_NOT_FOUND", "The room has no event on that side of the time");
    if (!visible_event(request, room_id, event_id, &access, &event, error) ||
        !room_access_covers(request, room_id, event->pdu->event_id, &access, error))
        return NULL;
    answer = cJSON_CreateObject();
    cJSON_AddItemToObject(answer, "event_id", cJSON_CreateString(event_id));
    cJSON_AddItemToObject(answer, "origin_server_ts", cJSON_CreateNumber((double)found_ts));
    return response_value(200, answer);
}

/* ---- pages of history ---- */

typedef struct {
    const char *room_id;
    RoomAccess *access;
    const FilterEvents *filter; /* or NULL */
    gboolean backwards;
    guint limit;
    gint64 position;   /* in: where to begin (exclusive); out: where the page ends */
    GPtrArray *events; /* RoomEvent */
    gboolean more;     /* the page ended by its limit, not by the end of the room */
} Page;

static gboolean
page_takes(Request *request, Page *page, const RoomEvent *event, gboolean *ret_takes,
           GError **error)
{
    const Pdu *pdu = event->pdu;

    *ret_takes = FALSE;
    if (page->filter != NULL &&
        !filter_events_want(page->filter, page->room_id, pdu->type, pdu->sender, pdu->content))
        return TRUE;
    return rooms_visible_to_user(request_server(request)->rooms, event, request_user_id(request),
                                 page->access->standing, ret_takes, error);
}

static gboolean
page_add_entries(Request *request, Page *page, GPtrArray *entries, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    g_autoptr(GPtrArray) events = NULL;
    guint at = 0;

    for (guint i = 0; i < entries->len; i++)
        g_ptr_array_add(ids, ((LogEntry *)g_ptr_array_index(entries, i))->ref);
    events = rooms_events(request_server(request)->rooms, page->room_id, ids, error);
    if (events == NULL)
        return FALSE;
    for (guint i = 0; i < entries->len && page->events->len < page->limit; i++) {
        const LogEntry *entry = g_ptr_array_index(entries, i);
        RoomEvent *event = at < events->len ? g_ptr_array_index(events, at) : NULL;
        gboolean takes = FALSE;

        page->position = entry->position;
        if (event == NULL || !g_str_equal(event->pdu->event_id, entry->ref))
            continue;
        at++;
        if (!page_takes(request, page, event, &takes, error))
            return FALSE;
        if (takes)
            g_ptr_array_add(page->events, room_event_ref(event));
    }
    return TRUE;
}

static gboolean
read_page(Request *request, Page *page, GError **error)
{
    guint looked_at = 0;

    while (page->events->len < page->limit && looked_at < PAGE_ENTRIES_MAX) {
        guint wanted = MIN(page->limit - page->events->len + 1, 200);
        g_autoptr(GPtrArray) entries = NULL;
        guint keep;

        {
            g_autoptr(StoreConnection) connection =
                store_borrow(request_server(request)->pool, error);

            entries = connection != NULL ? log_read_room(connection, page->room_id, page->position,
                                                         page->backwards, wanted, error)
                                         : NULL;
        }
        if (entries == NULL)
            return FALSE;
        keep = entries->len;
        while (!page->backwards && keep > 0 &&
               ((LogEntry *)g_ptr_array_index(entries, keep - 1))->position > page->access->until)
            keep--;
        page->more = entries->len == wanted && keep == entries->len;
        g_ptr_array_set_size(entries, (gint)keep);
        if (!page_add_entries(request, page, entries, error))
            return FALSE;
        looked_at += keep;
        if (!page->more)
            break;
    }
    return TRUE;
}

/* Member events of the page's senders, for clients that load members as they need them. */
static gboolean
append_lazy_members(Request *request, const Page *page, GString *body, GError **error)
{
    Server *server = request_server(request);
    g_autoptr(GHashTable) seen = g_hash_table_new(seeded_str_hash, g_str_equal);
    g_autoptr(GPtrArray) pdus = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);

    for (guint i = 0; i < page->events->len; i++) {
        const RoomEvent *event = g_ptr_array_index(page->events, i);
        Pdu *member = NULL;

        if (!g_hash_table_add(seen, (gpointer)event->pdu->sender))
            continue;
        if (!rooms_state_find(server->rooms, page->room_id, page->access->root, "m.room.member",
                              event->pdu->sender, &member, error))
            return FALSE;
        if (member != NULL)
            g_ptr_array_add(pdus, member);
    }
    return append_pdus(request, page->room_id, pdus, body, error);
}

static gboolean
parse_filter(Request *request, FilterEvents **ret_filter, gboolean *ret_lazy, GError **error)
{
    const char *text = request_query(request, "filter");
    g_autoptr(cJSON) json = NULL;

    *ret_filter = NULL;
    *ret_lazy = FALSE;
    if (text == NULL)
        return TRUE;
    json = json_parse(text, strlen(text), &json_limits_request, error);
    if (json == NULL)
        return FALSE;
    *ret_filter = filter_events_from_json(json, error);
    *ret_lazy = json_get_boolean(json, "lazy_load_members", FALSE);
    return *ret_filter != NULL;
}

/* `from`, or an end of the room when absent: as the exclusive bound of log_read_room. */
static gboolean
parse_from(Request *request, Page *page, GError **error)
{
    const char *from = request_query(request, "from");
    gint64 gap = 0;

    if (from == NULL) {
        page->position = page->backwards ? G_MAXINT64 : G_MININT64;
        if (page->backwards && page->access->until < G_MAXINT64)
            page->position = page->access->until + 1;
        return TRUE;
    }
    if (!room_token_parse(from, &gap)) {
        refusal_set(error, 400, "M_INVALID_PARAM", "from is no token of this server");
        return FALSE;
    }
    /* A token is the gap just after a position. */
    page->position = page->backwards ? MIN(gap, page->access->until - 1) + 1 : gap;
    return TRUE;
}

static char *
token_of_bound(const Page *page, gint64 position, gint64 head)
{
    if (position == G_MAXINT64)
        position = head + 1;
    if (position == G_MININT64)
        return room_token_format(G_MININT64 + 1);
    return room_token_format(page->backwards ? position - 1 : position);
}

static Response *
page_response(Request *request, Page *page, gint64 from, gboolean lazy, gboolean end,
              GError **error)
{
    LogHead head = log_ring_head(request_server(request)->ring);
    g_autofree char *start_token = token_of_bound(page, from, head.position);
    g_autofree char *end_token = token_of_bound(page, page->position, head.position);
    g_autoptr(GString) body = g_string_new("{\"chunk\":[");

    if (!append_events(request, page->room_id, page->access, page->events, body, error))
        return NULL;
    g_string_append_c(body, ']');
    if (lazy && page->events->len > 0) {
        g_string_append(body, ",\"state\":[");
        if (!append_lazy_members(request, page, body, error))
            return NULL;
        g_string_append_c(body, ']');
    }
    g_string_append(body, ",\"start\":");
    json_append_string(body, start_token);
    if (!end) {
        g_string_append(body, ",\"end\":");
        json_append_string(body, end_token);
    }
    g_string_append_c(body, '}');
    return response_json(200, g_steal_pointer(&body));
}

static Response *messages(Request *request, gboolean may_ask_partners, GError **error);

/* Whether partners could have answered or not: what is here now is the answer. */
static Response *
messages_after_backfill(Request *request, gpointer data, GError **error)
{
    return messages(request, FALSE, error);
}

static void
backfilled(const char *room_id, gint64 position, const GError *error, gpointer data)
{
    request_continue(data, messages_after_backfill, NULL, NULL);
}

/* History that partners still have, when the page came to the end of what is here. */
static gboolean
ask_partners(Request *request, const Page *page, gboolean *ret_asked, GError **error)
{
    Server *server = request_server(request);
    g_autoptr(StoreConnection) connection = NULL;
    g_autoptr(GPtrArray) missing = NULL;

    *ret_asked = FALSE;
    if (!page->backwards || page->more || server->outgoing == NULL || !page->access->joined)
        return TRUE;
    connection = store_borrow(server->pool, error);
    missing = connection != NULL ? event_store_missing(connection, page->room_id, 1, error) : NULL;
    if (missing == NULL)
        return FALSE;
    *ret_asked = missing->len > 0;
    return TRUE;
}

static Response *
messages(Request *request, gboolean may_ask_partners, GError **error)
{
    const char *room_id = request_path(request, "roomId");
    const char *direction = request_query(request, "dir");
    g_auto(RoomAccess) access = {0};
    g_autoptr(FilterEvents) filter = NULL;
    g_autoptr(GPtrArray) events = g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
    Page page = {.room_id = room_id, .access = &access, .events = events};
    gint64 limit = 0;
    gboolean lazy = FALSE;
    gboolean asked = FALSE;
    gint64 from;

    if (g_strcmp0(direction, "b") != 0 && g_strcmp0(direction, "f") != 0)
        return response_error(400, "M_INVALID_PARAM", "dir must be b (backwards) or f (forwards)");
    if (!request_query_integer(request, "limit", 0, G_MAXINT32, PAGE_STANDARD, &limit, error) ||
        !parse_filter(request, &filter, &lazy, error) ||
        !room_access(request, room_id, &access, error))
        return NULL;
    page.backwards = direction[0] == 'b';
    page.limit = (guint)CLAMP(limit, 1, PAGE_MAX);
    page.filter = filter;
    if (!parse_from(request, &page, error))
        return NULL;
    from = page.position;
    if (!read_page(request, &page, error))
        return NULL;
    if (may_ask_partners && page.events->len < page.limit) {
        if (!ask_partners(request, &page, &asked, error))
            return NULL;
        if (asked) {
            outgoing_backfill(request_server(request)->outgoing, room_id, 100, backfilled, request);
            return RESPONSE_LATER;
        }
    }
    return page_response(request, &page, from, lazy,
                         page.events->len < page.limit && !page.more && page.backwards, error);
}

Response *
room_messages_get(Request *request, GError **error)
{
    return messages(request, TRUE, error);
}

/* ---- context ---- */

static gboolean
append_side(Request *request, Page *page, const char *key, GString *body, GError **error)
{
    if (page->limit > 0 && !read_page(request, page, error))
        return FALSE;
    g_string_append_printf(body, ",\"%s\":[", key);
    if (!append_events(request, page->room_id, page->access, page->events, body, error))
        return FALSE;
    g_string_append_c(body, ']');
    return TRUE;
}

/* Of the members only those who speak in what is shown. */
static void
drop_silent_members(GPtrArray *state, const RoomEvent *event, const GPtrArray *before,
                    const GPtrArray *after)
{
    g_autoptr(GHashTable) senders = g_hash_table_new(seeded_str_hash, g_str_equal);
    const GPtrArray *sides[] = {before, after};

    g_hash_table_add(senders, (gpointer)event->pdu->sender);
    for (guint side = 0; side < G_N_ELEMENTS(sides); side++)
        for (guint i = 0; i < sides[side]->len; i++)
            g_hash_table_add(
                senders, (gpointer)((RoomEvent *)g_ptr_array_index(sides[side], i))->pdu->sender);
    for (guint i = state->len; i > 0; i--) {
        const Pdu *pdu = g_ptr_array_index(state, i - 1);

        if (pdu_membership(pdu) != NULL && !g_hash_table_contains(senders, pdu->state_key))
            g_ptr_array_remove_index_fast(state, i - 1);
    }
}

Response *
room_context_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    g_auto(RoomAccess) access = {0};
    g_autoptr(RoomEvent) event = NULL;
    g_autoptr(FilterEvents) filter = NULL;
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    g_autoptr(GPtrArray) before = g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
    g_autoptr(GPtrArray) after = g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
    g_autoptr(GPtrArray) state = NULL;
    g_autoptr(GBytes) root = NULL;
    g_autoptr(GString) body = g_string_new("{\"event\":");
    g_autofree char *start = NULL;
    g_autofree char *end = NULL;
    const RoomEvent *last;
    Page back = {.room_id = room_id, .access = &access, .events = before, .backwards = TRUE};
    Page forth = {.room_id = room_id, .access = &access, .events = after};
    gboolean lazy = FALSE;
    gint64 limit = 0;
    gint64 position = 0;

    if (!request_query_integer(request, "limit", 0, G_MAXINT32, PAGE_STANDARD, &limit, error) ||
        !parse_filter(request, &filter, &lazy, error) ||
        !room_access(request, room_id, &access, error) ||
        !visible_event(request, room_id, request_path(request, "eventId"), &access, &event,
                       error) ||
        !room_access_covers(request, room_id, event->pdu->event_id, &access, error) ||
        !room_event_position(server, room_id, event->pdu->event_id, &position, error))
        return NULL;
    limit = MIN(limit, CONTEXT_MAX);
    back.limit = (guint)limit / 2;
    forth.limit = (guint)limit - back.limit;
    back.filter = forth.filter = filter;
    back.position = forth.position = position;
    g_ptr_array_add(one, event);
    if (!append_events(request, room_id, &access, one, body, error) ||
        !append_side(request, &back, "events_before", body, error) ||
        !append_side(request, &forth, "events_after", body, error))
        return NULL;
    last = after->len > 0 ? g_ptr_array_index(after, after->len - 1) : event;
    root = last->has_state ? state_node_id_bytes(&last->after) : g_bytes_ref(access.root);
    state = rooms_state_load(server->rooms, room_id, root, error);
    if (state == NULL)
        return NULL;
    if (lazy)
        drop_silent_members(state, event, before, after);
    g_string_append(body, ",\"state\":[");
    if (!append_pdus(request, room_id, state, body, error))
        return NULL;
    start = room_token_format(back.position - 1);
    end = room_token_format(forth.position);
    g_string_append(body, "],\"start\":");
    json_append_string(body, start);
    g_string_append(body, ",\"end\":");
    json_append_string(body, end);
    g_string_append_c(body, '}');
    return response_json(200, g_steal_pointer(&body));
}
