/* Relations between events: what is told with an event, and pages of what relates to one.
 * Source: client-server API v1.19, "Relationship events", "Threading". */
#include "server/client/relations.h"

#include "identity/seeded_hash.h"
#include "server/client/room_call.h"
#include "server/client/room_routes.h"
#include "server/client/stream_token.h"
#include "storage/relation_store.h"

#define RELATIONS_STANDARD 20
#define RELATIONS_MAX 200

/* ---- told with an event ---- */

/* The unredacted events that @relations name and the reader, who is joined, may see: event id ->
 * RoomEvent. */
static GHashTable *
load_related(Server *server, const ClientEventsView *view, GPtrArray *relations, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    g_autoptr(GPtrArray) events = NULL;
    g_autoptr(GHashTable) found = NULL;

    for (guint i = 0; i < relations->len; i++)
        g_ptr_array_add(ids, ((StoredRelation *)g_ptr_array_index(relations, i))->event_id);
    events = rooms_events(server->rooms, view->room_id, ids, error);
    if (events == NULL)
        return NULL;
    found =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, (GDestroyNotify)room_event_unref);
    for (guint i = 0; i < events->len; i++) {
        RoomEvent *event = g_ptr_array_index(events, i);

        gboolean visible = FALSE;

        if (!rooms_visible_to_user(server->rooms, event, view->user_id, "join", &visible, error))
            return NULL;
        if (visible && event->redaction_id == NULL)
            g_hash_table_insert(found, (char *)event->pdu->event_id, room_event_ref(event));
    }
    return g_steal_pointer(&found);
}

static GString *
bundle_of(GHashTable *bundles, const char *event_id)
{
    GString *bundle = g_hash_table_lookup(bundles, event_id);

    if (bundle == NULL) {
        bundle = g_string_new("{");
        g_hash_table_insert(bundles, g_strdup(event_id), bundle);
    } else {
        g_string_append_c(bundle, ',');
    }
    return bundle;
}

/* Only the author's own edits count. */
static void
add_edits(GHashTable *bundles, GHashTable *senders, GPtrArray *edits, GHashTable *related)
{
    for (guint i = 0; i < edits->len; i++) {
        const StoredRelation *edit = g_ptr_array_index(edits, i);
        const RoomEvent *event = g_hash_table_lookup(related, edit->event_id);
        GString *bundle;

        if (event == NULL ||
            g_strcmp0(g_hash_table_lookup(senders, edit->parent_id), edit->sender) != 0)
            continue;
        bundle = bundle_of(bundles, edit->parent_id);
        g_string_append(bundle, "\"m.replace\":");
        pdu_client_json(event->pdu, TRUE, NULL, bundle);
    }
}

static void
add_threads(GHashTable *bundles, GPtrArray *threads, GHashTable *related)
{
    for (guint i = 0; i < threads->len; i++) {
        const StoredRelation *thread = g_ptr_array_index(threads, i);
        const RoomEvent *event = g_hash_table_lookup(related, thread->event_id);
        GString *bundle;

        if (event == NULL)
            continue;
        bundle = bundle_of(bundles, thread->parent_id);
        g_string_append_printf(bundle,
                               "\"m.thread\":{\"count\":%" G_GINT64_FORMAT
                               ",\"current_user_participated\":%s,\"latest_event\":",
                               thread->count, thread->participated ? "true" : "false");
        pdu_client_json(event->pdu, TRUE, NULL, bundle);
        g_string_append_c(bundle, '}');
    }
}

static gboolean
read_relations(Server *server, const ClientEventsView *view, GPtrArray *ids, GPtrArray **ret_edits,
               GPtrArray **ret_threads, GError **error)
{
    g_autoptr(StoreConnection) borrowed = NULL;
    StoreConnection *connection = view->connection;

    if (connection == NULL)
        connection = borrowed = store_borrow(server->pool, error);
    if (connection == NULL)
        return FALSE;
    *ret_edits = relation_store_edits_of(connection, view->room_id, (const char *const *)ids->pdata,
                                         ids->len, error);
    if (*ret_edits == NULL)
        return FALSE;
    *ret_threads = relation_store_threads_of(connection, view->room_id, view->user_id,
                                             (const char *const *)ids->pdata, ids->len, error);
    return *ret_threads != NULL;
}

static void
free_bundle(gpointer bundle)
{
    g_string_free(bundle, TRUE);
}

GHashTable *
relations_bundle(Server *server, const ClientEventsView *view, GPtrArray *events, GError **error)
{
    g_autoptr(GHashTable) senders = g_hash_table_new(seeded_str_hash, g_str_equal);
    g_autoptr(GHashTable) bundles =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, free_bundle);
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    g_autoptr(GPtrArray) edits = NULL;
    g_autoptr(GPtrArray) threads = NULL;
    g_autoptr(GHashTable) edit_events = NULL;
    g_autoptr(GHashTable) thread_events = NULL;
    GHashTableIter iter;
    gpointer bundle;

    for (guint i = 0; i < events->len; i++) {
        const RoomEvent *event = g_ptr_array_index(events, i);

        if (event->redaction_id != NULL || pdu_is_state(event->pdu))
            continue;
        g_ptr_array_add(ids, (gpointer)event->pdu->event_id);
        g_hash_table_insert(senders, (gpointer)event->pdu->event_id, (gpointer)event->pdu->sender);
    }
    if (ids->len == 0)
        return g_steal_pointer(&bundles);
    if (!read_relations(server, view, ids, &edits, &threads, error))
        return NULL;
    edit_events = load_related(server, view, edits, error);
    thread_events = edit_events != NULL ? load_related(server, view, threads, error) : NULL;
    if (thread_events == NULL)
        return NULL;
    add_edits(bundles, senders, edits, edit_events);
    add_threads(bundles, threads, thread_events);
    g_hash_table_iter_init(&iter, bundles);
    while (g_hash_table_iter_next(&iter, NULL, &bundle))
        g_string_append_c(bundle, '}');
    return g_steal_pointer(&bundles);
}

/* ---- pages ---- */

typedef struct {
    const char *room_id;
    RoomAccess *access;
    gint64 from; /* exclusive */
    gboolean backwards;
    guint limit;
    GPtrArray *events; /* RoomEvent */
    gint64 last;       /* position of the last row that was looked at */
    gboolean more;
} RelationPage;

/* The events of @relations that the caller may see, in that order. */
static gboolean
take_visible(Request *request, RelationPage *page, GPtrArray *relations, gboolean parents,
             GError **error)
{
    Server *server = request_server(request);
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    g_autoptr(GPtrArray) events = NULL;
    guint count = relations->len;

    /* What was said after the caller left stands last, where the page goes forwards. */
    while (count > 0 && ((StoredRelation *)g_ptr_array_index(relations, count - 1))->position >
                            page->access->until)
        count--;
    for (guint i = 0; i < count && i < page->limit; i++) {
        const StoredRelation *relation = g_ptr_array_index(relations, i);

        g_ptr_array_add(ids, parents ? relation->parent_id : relation->event_id);
        page->last = relation->position;
    }
    page->more = count > page->limit;
    events = rooms_events(server->rooms, page->room_id, ids, error);
    if (events == NULL)
        return FALSE;
    for (guint i = 0; i < events->len; i++) {
        RoomEvent *event = g_ptr_array_index(events, i);
        gboolean visible = FALSE;

        if (!parents && event->redaction_id != NULL)
            continue;
        if (!rooms_visible_to_user(server->rooms, event, request_user_id(request),
                                   page->access->standing, &visible, error))
            return FALSE;
        if (visible)
            g_ptr_array_add(page->events, room_event_ref(event));
    }
    return TRUE;
}

static Response *
relation_page_response(Request *request, const RelationPage *page, GError **error)
{
    g_autoptr(GString) body = g_string_new("{\"chunk\":[");
    g_autofree char *next = room_token_format(page->backwards ? page->last - 1 : page->last);
    const char *before = request_query(request, "from");
    const ClientEventsView view = {
        .room_id = page->room_id,
        .user_id = request_user_id(request),
        .device_id = request_device_id(request),
        .with_room_id = TRUE,
        .with_relations = page->access->joined,
    };

    if (!client_events_append(request_server(request), &view, page->events, body, error))
        return NULL;
    g_string_append_c(body, ']');
    if (page->more) {
        g_string_append(body, ",\"next_batch\":");
        json_append_string(body, next);
    }
    if (before != NULL) {
        g_string_append(body, ",\"prev_batch\":");
        json_append_string(body, before);
    }
    if (g_strcmp0(request_query(request, "recurse"), "true") == 0)
        g_string_append(body, ",\"recursion_depth\":1");
    g_string_append_c(body, '}');
    return response_json(200, g_steal_pointer(&body));
}

static gboolean
open_page(Request *request, RelationPage *page, GError **error)
{
    const char *from = request_query(request, "from");
    gint64 limit = 0;
    gint64 gap = 0;

    if (!request_query_integer(request, "limit", 0, G_MAXINT32, RELATIONS_STANDARD, &limit,
                               error) ||
        !room_access(request, page->room_id, page->access, error))
        return FALSE;
    page->limit = (guint)CLAMP(limit, 1, RELATIONS_MAX);
    if (from != NULL && !room_token_parse(from, &gap)) {
        refusal_set(error, 400, "M_INVALID_PARAM", "from is no token of this server");
        return FALSE;
    }
    page->from = page->backwards ? G_MAXINT64 : G_MININT64;
    if (from != NULL)
        page->from = page->backwards ? gap + 1 : gap;
    if (page->backwards && page->access->until < G_MAXINT64)
        page->from = MIN(page->from, page->access->until + 1);
    return TRUE;
}

static Response *
children(Request *request, const char *rel_type, const char *type, GError **error)
{
    Server *server = request_server(request);
    g_auto(RoomAccess) access = {0};
    g_autoptr(GPtrArray) relations = NULL;
    g_autoptr(GPtrArray) events = g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
    g_autoptr(RoomEvent) parent = NULL;
    RelationPage page = {
        .room_id = request_path(request, "roomId"),
        .access = &access,
        .backwards = g_strcmp0(request_query(request, "dir"), "f") != 0,
        .events = events,
    };
    gboolean visible = FALSE;

    if (!open_page(request, &page, error) ||
        !rooms_event(server->rooms, page.room_id, request_path(request, "eventId"), &parent, error))
        return NULL;
    if (parent != NULL && !rooms_visible_to_user(server->rooms, parent, request_user_id(request),
                                                 access.standing, &visible, error))
        return NULL;
    if (!visible)
        return response_error(404, "M_NOT_FOUND", "There is no such event, or it is not for you");
    if (!room_access_covers(request, page.room_id, parent->pdu->event_id, &access, error))
        return NULL;
    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);

        relations =
            connection != NULL
                ? relation_store_children(connection, page.room_id, parent->pdu->event_id, rel_type,
                                          type, page.from, page.backwards, page.limit + 1, error)
                : NULL;
    }
    if (relations == NULL || !take_visible(request, &page, relations, FALSE, error))
        return NULL;
    return relation_page_response(request, &page, error);
}

Response *
relations_get(Request *request, GError **error)
{
    return children(request, "", "", error);
}

Response *
relations_of_type_get(Request *request, GError **error)
{
    return children(request, request_path(request, "relType"), "", error);
}

Response *
relations_of_event_type_get(Request *request, GError **error)
{
    return children(request, request_path(request, "relType"), request_path(request, "eventType"),
                    error);
}

Response *
threads_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *include = request_query(request, "include");
    g_auto(RoomAccess) access = {0};
    g_autoptr(GPtrArray) relations = NULL;
    g_autoptr(GPtrArray) events = g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
    RelationPage page = {
        .room_id = request_path(request, "roomId"),
        .access = &access,
        .backwards = TRUE,
        .events = events,
    };

    if (!open_page(request, &page, error))
        return NULL;
    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);

        relations = connection != NULL
                        ? relation_store_threads(connection, page.room_id, request_user_id(request),
                                                 g_strcmp0(include, "participated") == 0, page.from,
                                                 page.limit + 1, error)
                        : NULL;
    }
    if (relations == NULL || !take_visible(request, &page, relations, TRUE, error))
        return NULL;
    return relation_page_response(request, &page, error);
}
