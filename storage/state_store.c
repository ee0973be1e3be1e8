#include "storage/state_store.h"

#include "storage/event_rows.h"

enum {
    NODE_INSERT,
    NODE_FIND_MANY,
    STATE_SET,
    STATE_REMOVE,
    STATE_ROWS,
    STATE_ROWS_TYPE,
    STATE_ROWS_KEY,
    STATE_EVENTS_OF,
};

/* More than ever come about: what a damaged table can cost. */
#define HOPS_MAX 1000
#define ROOM_NO "(SELECT room_no FROM room WHERE room_id = $1)"
#define ROWS_OF "SELECT type, state_key, event_id FROM room_state WHERE room_id = $1"

const StoreStatement state_statements[] = {
    [NODE_INSERT] = {"state_node_insert",
                     "INSERT INTO state_node (room_no, node_id, base_id, form)"
                     " SELECT " ROOM_NO ", node_id, base_id, form"
                     " FROM unnest($2::bytea[], $3::bytea[], $4::bytea[])"
                     " AS node (node_id, base_id, form) ORDER BY node_id ON CONFLICT DO NOTHING"},
    [NODE_FIND_MANY] =
        {"state_node_find_many",
         "WITH RECURSIVE found (n, hop, base_id, form) AS ("
         " SELECT n, 0, s.base_id, s.form"
         " FROM unnest($2::bytea[]) WITH ORDINALITY AS asked (node_id, n)"
         " JOIN state_node s ON s.room_no = " ROOM_NO " AND s.node_id = asked.node_id"
         " UNION ALL SELECT n, hop + 1, s.base_id, s.form FROM found"
         " JOIN state_node s ON s.room_no = " ROOM_NO " AND s.node_id = found.base_id"
         " WHERE hop < " G_STRINGIFY(HOPS_MAX) ")"
                                               " SELECT n, form FROM found ORDER BY n, hop"},
    [STATE_SET] =
        {"room_state_set",
         "INSERT INTO room_state (room_id, type, state_key, event_id)"
         " SELECT $1, type, state_key, event_id"
         " FROM unnest($2::text[], $3::text[], $4::text[]) AS entry (type, state_key, event_id)"
         " ORDER BY type, state_key"
         " ON CONFLICT (room_id, type, state_key) DO UPDATE SET event_id = excluded.event_id"},
    [STATE_REMOVE] = {"room_state_remove",
                      "DELETE FROM room_state s USING unnest($2::text[], $3::text[])"
                      " AS entry (type, state_key) WHERE s.room_id = $1 AND s.type = entry.type"
                      " AND s.state_key = entry.state_key"},
    [STATE_ROWS] = {"room_state_rows", ROWS_OF " ORDER BY type, state_key"},
    [STATE_ROWS_TYPE] = {"room_state_rows_type", ROWS_OF " AND type = $2 ORDER BY type, state_key"},
    [STATE_ROWS_KEY] = {"room_state_rows_key", ROWS_OF " AND type = $2 AND state_key = $3"},
    [STATE_EVENTS_OF] = {"room_state_events_of",
                         "SELECT " EVENT_COLUMNS " FROM unnest($2::text[], $3::text[])"
                         " AS asked (type, state_key) JOIN room_state s ON s.room_id = $1"
                         " AND s.type = asked.type AND s.state_key = asked.state_key"
                         " JOIN event e ON e.room_id = s.room_id AND e.event_id = s.event_id"},
};
const guint state_statement_count = G_N_ELEMENTS(state_statements);

void
state_store_insert_nodes(LaneBatch *batch, const char *room_id, GBytes *const *node_ids,
                         GBytes *const *base_ids, GBytes *const *forms, gsize count)
{
    StoreArguments *arguments;
    if (count == 0)
        return;
    arguments = store_arguments("t", room_id);
    store_arguments_bytes_array(arguments, node_ids, count);
    store_arguments_bytes_array(arguments, base_ids, count);
    store_arguments_bytes_array(arguments, forms, count);
    lane_batch_add(batch, &state_statements[NODE_INSERT], arguments);
}

static void
forms_unref_or_null(gpointer data)
{
    if (data != NULL)
        g_ptr_array_unref(data);
}

GPtrArray *
state_store_find_nodes(StoreConnection *connection, const char *room_id, GBytes *const *node_ids,
                       gsize count, GError **error)
{
    StoreArguments *arguments = store_arguments("t", room_id);
    g_autoptr(StoreRows) rows = NULL;
    GPtrArray *nodes;
    store_arguments_bytes_array(arguments, node_ids, count);
    rows = store_run(connection, &state_statements[NODE_FIND_MANY], arguments, error);
    if (rows == NULL)
        return NULL;
    nodes = g_ptr_array_new_full((guint)count, forms_unref_or_null);
    g_ptr_array_set_size(nodes, (gint)count);
    for (guint row = 0; row < store_rows_count(rows); row++) {
        gpointer *forms = &nodes->pdata[store_rows_integer(rows, row, 0) - 1];
        if (*forms == NULL)
            *forms = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
        g_ptr_array_add(*forms, store_rows_bytes(rows, row, 1));
    }
    return nodes;
}

void
state_row_free(StateRow *row)
{
    if (row == NULL)
        return;
    g_free(row->type);
    g_free(row->state_key);
    g_free(row->event_id);
    g_free(row);
}

void
state_store_set(LaneBatch *batch, const char *room_id, const char *const *types,
                const char *const *state_keys, const char *const *event_ids, gsize count)
{
    StoreArguments *arguments;
    if (count == 0)
        return;
    arguments = store_arguments("t", room_id);
    store_arguments_text_array(arguments, types, count);
    store_arguments_text_array(arguments, state_keys, count);
    store_arguments_text_array(arguments, event_ids, count);
    lane_batch_add(batch, &state_statements[STATE_SET], arguments);
}

void
state_store_remove(LaneBatch *batch, const char *room_id, const char *const *types,
                   const char *const *state_keys, gsize count)
{
    StoreArguments *arguments;
    if (count == 0)
        return;
    arguments = store_arguments("t", room_id);
    store_arguments_text_array(arguments, types, count);
    store_arguments_text_array(arguments, state_keys, count);
    lane_batch_add(batch, &state_statements[STATE_REMOVE], arguments);
}

/* @all: the statement without type; the next ones take a type, and a type and a key. */
static const StoreStatement *
statement_by_key(guint all, const char *room_id, const char *type, const char *state_key,
                 StoreArguments **ret_arguments)
{
    StoreArguments *arguments = store_arguments("t", room_id);
    guint index = all;
    g_assert(type != NULL || state_key == NULL);
    if (type != NULL) {
        store_arguments_text(arguments, type);
        index++;
    }
    if (state_key != NULL) {
        store_arguments_text(arguments, state_key);
        index++;
    }
    *ret_arguments = arguments;
    return &state_statements[index];
}

GPtrArray *
state_store_rows(StoreConnection *connection, const char *room_id, const char *type,
                 const char *state_key, GError **error)
{
    StoreArguments *arguments = NULL;
    const StoreStatement *statement =
        statement_by_key(STATE_ROWS, room_id, type, state_key, &arguments);
    g_autoptr(StoreRows) rows = store_run(connection, statement, arguments, error);
    GPtrArray *entries;
    if (rows == NULL)
        return NULL;
    entries = g_ptr_array_new_full(store_rows_count(rows), (GDestroyNotify)state_row_free);
    for (guint row = 0; row < store_rows_count(rows); row++) {
        StateRow *entry = g_new0(StateRow, 1);
        entry->type = g_strdup(store_rows_text(rows, row, 0));
        entry->state_key = g_strdup(store_rows_text(rows, row, 1));
        entry->event_id = g_strdup(store_rows_text(rows, row, 2));
        g_ptr_array_add(entries, entry);
    }
    return entries;
}

GPtrArray *
state_store_events_of(StoreConnection *connection, const char *room_id, const char *const *types,
                      const char *const *state_keys, gsize count, GError **error)
{
    StoreArguments *arguments = store_arguments("t", room_id);
    store_arguments_text_array(arguments, types, count);
    store_arguments_text_array(arguments, state_keys, count);
    return event_rows_run(connection, &state_statements[STATE_EVENTS_OF], arguments, error);
}
