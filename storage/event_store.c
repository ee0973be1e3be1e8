#include "storage/event_store.h"

#include "storage/event_rows.h"

enum {
    EVENT_INSERT,
    EVENT_INSERT_NEW,
    EVENT_FIND,
    EVENT_FIND_MANY,
    EVENT_FIND_ROOM,
    EVENT_TIME_BACKWARDS,
    EVENT_TIME_FORWARDS,
    EVENT_AUTH_CHAIN,
    EVENT_WALK_BACK,
    EXTREMITY_LIST,
    EXTREMITY_SET,
    MISSING_INSERT,
    MISSING_CLEAR,
    MISSING_LIST,
    REDACTION_INSERT,
    REDACTION_FIND,
    TRANSACTION_INSERT,
    TRANSACTION_FIND,
    TRANSACTION_LIST,
    TRANSACTION_TRIM,
};

/* An event's columns, and many events as an array a column. */
#define EVENT_INSERT_COLUMNS                                                                       \
    " (room_id, event_id, type, state_key, sender, depth, origin_server_ts, status, local,"        \
    " state_before, state_after, auth_event_ids, prev_event_ids, reason, json, device_id, txn_id)"
/* In the list of columns, not in FROM: there each array would fill a tuple store of its own first.
 */
#define EVENT_INSERT_ROWS                                                                          \
    " SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]),"      \
    " unnest($5::text[]), unnest($6::bigint[]), unnest($7::bigint[]), unnest($8::bigint[]),"       \
    " unnest($9::boolean[]), unnest($10::bytea[]), unnest($11::bytea[]),"                          \
    " unnest($12::text[])::text[], unnest($13::text[])::text[], unnest($14::text[]),"              \
    " unnest($15::bytea[]), unnest($16::text[]), unnest($17::text[])"

const StoreStatement event_statements[] = {
    [EVENT_INSERT] = {"event_insert",
                      "INSERT INTO event AS old" EVENT_INSERT_COLUMNS EVENT_INSERT_ROWS
                      " ON CONFLICT (room_id, event_id) DO UPDATE SET status = excluded.status,"
                      " state_before = excluded.state_before, state_after = excluded.state_after,"
                      " reason = excluded.reason WHERE old.status = 4"},
    /* Made by us a moment ago: nobody else has one with its id. */
    [EVENT_INSERT_NEW] = {"event_insert_new",
                          "INSERT INTO event" EVENT_INSERT_COLUMNS EVENT_INSERT_ROWS},
    [EVENT_FIND] = {"event_find", "SELECT " EVENT_COLUMNS
                                  " FROM event e WHERE e.room_id = $1 AND e.event_id = $2"},
    [EVENT_FIND_MANY] = {"event_find_many",
                         "SELECT " EVENT_COLUMNS " FROM event e"
                         " WHERE e.room_id = $1 AND e.event_id = ANY ($2::text[])"},
    [EVENT_FIND_ROOM] = {"event_find_room",
                         "SELECT room_id FROM log WHERE kind = 1 AND ref = $1 LIMIT 1"},
    [EVENT_TIME_BACKWARDS] = {"event_time_backwards",
                              "SELECT event_id, origin_server_ts FROM event"
                              " WHERE room_id = $1 AND status = 1 AND origin_server_ts <= $2"
                              " ORDER BY origin_server_ts DESC LIMIT 1"},
    [EVENT_TIME_FORWARDS] = {"event_time_forwards",
                             "SELECT event_id, origin_server_ts FROM event"
                             " WHERE room_id = $1 AND status = 1 AND origin_server_ts >= $2"
                             " ORDER BY origin_server_ts LIMIT 1"},
    /* The outer LIMIT ends the recursion: no more rows are made than are asked for. */
    [EVENT_AUTH_CHAIN] =
        {"event_auth_chain",
         "WITH RECURSIVE chain (event_id) AS ("
         " SELECT auth.id FROM event e CROSS JOIN LATERAL unnest(e.auth_event_ids) AS auth (id)"
         "  WHERE e.room_id = $1 AND e.event_id = ANY ($2::text[])"
         " UNION"
         " SELECT auth.id FROM chain JOIN event e ON e.room_id = $1 AND e.event_id = chain.event_id"
         "  CROSS JOIN LATERAL unnest(e.auth_event_ids) AS auth (id))"
         " SELECT budgeted.event_id, e.event_id IS NOT NULL"
         " FROM (SELECT event_id FROM chain LIMIT $3) budgeted"
         " LEFT JOIN event e ON e.room_id = $1 AND e.event_id = budgeted.event_id"},
    [EVENT_WALK_BACK] =
        {"event_walk_back",
         "WITH RECURSIVE walk (event_id) AS ("
         " SELECT unnest($2::text[]) COLLATE \"C\""
         " UNION"
         " SELECT prev.id FROM walk JOIN event e ON e.room_id = $1 AND e.event_id = walk.event_id"
         "  AND e.status <= 2 CROSS JOIN LATERAL unnest(e.prev_event_ids) AS prev (id)"
         "  WHERE prev.id <> ALL ($3::text[]))"
         " SELECT " EVENT_COLUMNS " FROM (SELECT event_id FROM walk WHERE $4::boolean OR event_id "
         "<> ALL ($2::text[]) LIMIT $5) walked"
         " JOIN event e ON e.room_id = $1 AND e.event_id = walked.event_id AND e.status <= 2"
         " ORDER BY e.depth DESC, e.event_id"},
    [EXTREMITY_LIST] = {"extremity_list", "SELECT id FROM room_extremity, unnest(event_ids) AS id"
                                          " WHERE room_id = $1 ORDER BY id"},
    [EXTREMITY_SET] = {"extremity_set",
                       "INSERT INTO room_extremity (room_id, event_ids)"
                       " SELECT unnest($1::text[]), unnest($2::text[])::text[]"
                       " ON CONFLICT (room_id) DO UPDATE SET event_ids = excluded.event_ids"},
    [MISSING_INSERT] = {"missing_insert",
                        "INSERT INTO event_missing (room_id, event_id, child_event_id)"
                        " SELECT $1, unnest($2::text[]), $3 ON CONFLICT DO NOTHING"},
    [MISSING_CLEAR] = {"missing_clear",
                       "DELETE FROM event_missing WHERE room_id = $1 AND event_id = $2"},
    [MISSING_LIST] = {"missing_list",
                      "SELECT m.event_id FROM event_missing m LEFT JOIN event e"
                      " ON e.room_id = m.room_id AND e.event_id = m.child_event_id"
                      " WHERE m.room_id = $1 GROUP BY m.event_id"
                      " ORDER BY max(e.depth) DESC NULLS LAST, m.event_id LIMIT $2"},
    [REDACTION_INSERT] = {"redaction_insert",
                          "INSERT INTO redaction (room_id, redacts, event_id) VALUES ($1, $2, $3)"
                          " ON CONFLICT DO NOTHING"},
    [REDACTION_FIND] = {"redaction_find",
                        "SELECT redacts, min(event_id) FROM redaction"
                        " WHERE room_id = $1 AND redacts = ANY ($2::text[]) GROUP BY redacts"},
    [TRANSACTION_INSERT] = {"transaction_insert",
                            "INSERT INTO client_transaction"
                            " (user_id, device_id, scope, txn_id, event_id, created_ms)"
                            " SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[]),"
                            "  unnest($4::text[]), unnest($5::text[]), unnest($6::bigint[])"},
    [TRANSACTION_FIND] = {"transaction_find",
                          "SELECT event_id FROM client_transaction WHERE user_id = $1"
                          " AND device_id = $2 AND scope = $3 AND txn_id = $4"},
    [TRANSACTION_LIST] = {"transaction_list",
                          "SELECT scope, txn_id FROM client_transaction WHERE user_id = $1"
                          " AND device_id = $2 LIMIT $3"},
    [TRANSACTION_TRIM] = {"transaction_trim",
                          "DELETE FROM client_transaction WHERE created_ms < $1"},
};
const guint event_statement_count = G_N_ELEMENTS(event_statements);

void
stored_event_free(StoredEvent *event)
{
    if (event == NULL)
        return;
    g_free(event->room_id);
    g_free(event->event_id);
    g_free(event->type);
    g_free(event->state_key);
    g_free(event->sender);
    g_clear_pointer(&event->state_before, g_bytes_unref);
    g_clear_pointer(&event->state_after, g_bytes_unref);
    g_free(event->reason);
    g_clear_pointer(&event->json, g_bytes_unref);
    g_free(event->device_id);
    g_free(event->txn_id);
    g_free(event);
}

static StoredEvent *
event_from_row(const StoreRows *rows, guint row)
{
    StoredEvent *event = g_new0(StoredEvent, 1);
    event->room_id = g_strdup(store_rows_text(rows, row, 0));
    event->event_id = g_strdup(store_rows_text(rows, row, 1));
    event->type = g_strdup(store_rows_text(rows, row, 2));
    event->state_key = g_strdup(store_rows_text(rows, row, 3));
    event->sender = g_strdup(store_rows_text(rows, row, 4));
    event->depth = store_rows_integer(rows, row, 5);
    event->origin_server_ts = store_rows_integer(rows, row, 6);
    event->status = (StoredEventStatus)store_rows_integer(rows, row, 7);
    event->local = store_rows_boolean(rows, row, 8);
    event->state_before = store_rows_bytes(rows, row, 9);
    event->state_after = store_rows_bytes(rows, row, 10);
    event->reason = g_strdup(store_rows_text(rows, row, 11));
    event->json = store_rows_bytes(rows, row, 12);
    event->device_id = g_strdup(store_rows_text(rows, row, 13));
    event->txn_id = g_strdup(store_rows_text(rows, row, 14));
    event->position = store_rows_integer(rows, row, 15);
    return event;
}

GPtrArray *
event_rows_run(StoreConnection *connection, const StoreStatement *statement,
               StoreArguments *arguments, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, statement, arguments, error);
    GPtrArray *events;
    if (rows == NULL)
        return NULL;
    events = g_ptr_array_new_full(store_rows_count(rows), (GDestroyNotify)stored_event_free);
    for (guint row = 0; row < store_rows_count(rows); row++)
        g_ptr_array_add(events, event_from_row(rows, row));
    return events;
}

static GPtrArray *
text_run(StoreConnection *connection, const StoreStatement *statement, StoreArguments *arguments,
         GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, statement, arguments, error);
    return rows != NULL ? store_rows_text_column(rows, 0) : NULL;
}

/* The first text of the first row, NULL when there is none. */
static gboolean
one_text_run(StoreConnection *connection, const StoreStatement *statement,
             StoreArguments *arguments, char **ret_text, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, statement, arguments, error);
    if (rows == NULL)
        return FALSE;
    *ret_text = store_rows_count(rows) > 0 ? g_strdup(store_rows_text(rows, 0, 0)) : NULL;
    return TRUE;
}

/* First column -> second column. */
static GHashTable *
text_pairs_run(StoreConnection *connection, const StoreStatement *statement,
               StoreArguments *arguments, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, statement, arguments, error);
    GHashTable *pairs;
    if (rows == NULL)
        return NULL;
    /* The keys were all named by the caller: at most as many as it asked for. */
    pairs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (guint row = 0; row < store_rows_count(rows); row++)
        g_hash_table_insert(pairs, g_strdup(store_rows_text(rows, row, 0)),
                            g_strdup(store_rows_text(rows, row, 1)));
    return pairs;
}

static StoreArguments *
room_and_ids(const char *room_id, const char *const *event_ids, gsize count)
{
    StoreArguments *arguments = store_arguments("t", room_id);
    store_arguments_text_array(arguments, event_ids, count);
    return arguments;
}

/* PostgreSQL's text form of an array, for a row that travels among others: arrays of arrays do not.
 * @ids ends with NULL, or is NULL: empty. */
static char *
array_literal(const char *const *ids)
{
    GString *text = g_string_sized_new(256);
    g_string_append_c(text, '{');
    for (gsize i = 0; ids != NULL && ids[i] != NULL; i++) {
        g_string_append(text, i > 0 ? ",\"" : "\"");
        for (const char *at = ids[i]; *at != '\0'; at++) {
            if (*at == '"' || *at == '\\')
                g_string_append_c(text, '\\');
            g_string_append_c(text, *at);
        }
        g_string_append_c(text, '"');
    }
    g_string_append_c(text, '}');
    return g_string_free(text, FALSE);
}

void
event_store_insert(LaneBatch *batch, const NewEvent *event)
{
    g_autofree char *auth_events = array_literal(event->auth_event_ids);
    g_autofree char *prev_events = array_literal(event->prev_event_ids);
    lane_batch_add_row(batch, &event_statements[event->is_new ? EVENT_INSERT_NEW : EVENT_INSERT],
                       event->is_new ? 0 : 2,
                       store_arguments("tttttiiibyytttytt", event->room_id, event->event_id,
                                       event->type, event->state_key, event->sender, event->depth,
                                       event->origin_server_ts, (gint64)event->status, event->local,
                                       event->state_before, event->state_after, auth_events,
                                       prev_events, event->reason, event->json, event->device_id,
                                       event->txn_id));
}

gboolean
event_store_find(StoreConnection *connection, const char *room_id, const char *event_id,
                 StoredEvent **ret_event, GError **error)
{
    g_autoptr(GPtrArray) events = event_rows_run(connection, &event_statements[EVENT_FIND],
                                                 store_arguments("tt", room_id, event_id), error);
    if (events == NULL)
        return FALSE;
    *ret_event = events->len > 0 ? g_ptr_array_steal_index(events, 0) : NULL;
    return TRUE;
}

GPtrArray *
event_store_find_many(StoreConnection *connection, const char *room_id,
                      const char *const *event_ids, gsize count, GError **error)
{
    return event_rows_run(connection, &event_statements[EVENT_FIND_MANY],
                          room_and_ids(room_id, event_ids, count), error);
}

gboolean
event_store_find_room(StoreConnection *connection, const char *event_id, char **ret_room_id,
                      GError **error)
{
    return one_text_run(connection, &event_statements[EVENT_FIND_ROOM],
                        store_arguments("t", event_id), ret_room_id, error);
}

gboolean
event_store_find_by_time(StoreConnection *connection, const char *room_id, gint64 ts,
                         gboolean backwards, char **ret_event_id, gint64 *ret_ts, GError **error)
{
    const StoreStatement *statement =
        &event_statements[backwards ? EVENT_TIME_BACKWARDS : EVENT_TIME_FORWARDS];
    g_autoptr(StoreRows) rows =
        store_run(connection, statement, store_arguments("ti", room_id, ts), error);
    if (rows == NULL)
        return FALSE;
    *ret_event_id = store_rows_count(rows) > 0 ? g_strdup(store_rows_text(rows, 0, 0)) : NULL;
    if (*ret_event_id != NULL)
        *ret_ts = store_rows_integer(rows, 0, 1);
    return TRUE;
}

GPtrArray *
event_store_auth_chain(StoreConnection *connection, const char *room_id,
                       const char *const *event_ids, gsize count, guint budget,
                       gboolean *ret_complete, GError **error)
{
    StoreArguments *arguments = room_and_ids(room_id, event_ids, count);
    g_autoptr(StoreRows) rows = NULL;
    GPtrArray *ids;
    gboolean complete;

    store_arguments_integer(arguments, (gint64)budget + 1);
    rows = store_run(connection, &event_statements[EVENT_AUTH_CHAIN], arguments, error);
    if (rows == NULL)
        return NULL;
    complete = store_rows_count(rows) <= budget;
    ids = g_ptr_array_new_full(store_rows_count(rows), g_free);
    for (guint row = 0; row < MIN(store_rows_count(rows), budget); row++) {
        if (!store_rows_boolean(rows, row, 1))
            complete = FALSE;
        g_ptr_array_add(ids, g_strdup(store_rows_text(rows, row, 0)));
    }
    *ret_complete = complete;
    return ids;
}

GPtrArray *
event_store_walk_back(StoreConnection *connection, const char *room_id, const char *const *from_ids,
                      gsize from_count, const char *const *stop_ids, gsize stop_count,
                      gboolean include_from, guint events_max, GError **error)
{
    StoreArguments *arguments = room_and_ids(room_id, from_ids, from_count);
    store_arguments_text_array(arguments, stop_ids, stop_count);
    store_arguments_boolean(arguments, include_from);
    store_arguments_integer(arguments, events_max);
    return event_rows_run(connection, &event_statements[EVENT_WALK_BACK], arguments, error);
}

GPtrArray *
event_store_extremities(StoreConnection *connection, const char *room_id, GError **error)
{
    return text_run(connection, &event_statements[EXTREMITY_LIST], store_arguments("t", room_id),
                    error);
}

void
event_store_set_extremities(LaneBatch *batch, const char *room_id, const char *const *event_ids)
{
    g_autofree char *ids = array_literal(event_ids);
    lane_batch_add_row(batch, &event_statements[EXTREMITY_SET], 1,
                       store_arguments("tt", room_id, ids));
}

void
event_store_add_missing(LaneBatch *batch, const char *room_id, const char *child_event_id,
                        const char *const *missing_ids, gsize count)
{
    StoreArguments *arguments;
    if (count == 0)
        return;
    arguments = room_and_ids(room_id, missing_ids, count);
    store_arguments_text(arguments, child_event_id);
    lane_batch_add(batch, &event_statements[MISSING_INSERT], arguments);
}

void
event_store_clear_missing(LaneBatch *batch, const char *room_id, const char *event_id)
{
    lane_batch_add(batch, &event_statements[MISSING_CLEAR],
                   store_arguments("tt", room_id, event_id));
}

GPtrArray *
event_store_missing(StoreConnection *connection, const char *room_id, guint ids_max, GError **error)
{
    return text_run(connection, &event_statements[MISSING_LIST],
                    store_arguments("ti", room_id, (gint64)ids_max), error);
}

void
event_store_insert_redaction(LaneBatch *batch, const char *room_id, const char *redacts,
                             const char *event_id)
{
    lane_batch_add(batch, &event_statements[REDACTION_INSERT],
                   store_arguments("ttt", room_id, redacts, event_id));
}

GHashTable *
event_store_find_redactions(StoreConnection *connection, const char *room_id,
                            const char *const *event_ids, gsize count, GError **error)
{
    return text_pairs_run(connection, &event_statements[REDACTION_FIND],
                          room_and_ids(room_id, event_ids, count), error);
}

void
event_store_record_transaction(LaneBatch *batch, const char *user_id, const char *device_id,
                               const char *scope, const char *txn_id, const char *event_id,
                               gint64 now_ms)
{
    lane_batch_add_row(
        batch, &event_statements[TRANSACTION_INSERT], 0,
        store_arguments("ttttti", user_id, device_id, scope, txn_id, event_id, now_ms));
}

gboolean
event_store_find_transaction(StoreConnection *connection, const char *user_id,
                             const char *device_id, const char *scope, const char *txn_id,
                             char **ret_event_id, GError **error)
{
    return one_text_run(connection, &event_statements[TRANSACTION_FIND],
                        store_arguments("tttt", user_id, device_id, scope, txn_id), ret_event_id,
                        error);
}

StoreRows *
event_store_transactions(StoreConnection *connection, const char *user_id, const char *device_id,
                         guint rows_max, GError **error)
{
    return store_run(connection, &event_statements[TRANSACTION_LIST],
                     store_arguments("tti", user_id, device_id, (gint64)rows_max), error);
}

void
event_store_trim_transactions(LaneBatch *batch, gint64 before_ms)
{
    lane_batch_add(batch, &event_statements[TRANSACTION_TRIM], store_arguments("i", before_ms));
}
