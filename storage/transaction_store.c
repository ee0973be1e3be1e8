#include "storage/transaction_store.h"

enum {
    TRANSACTION_FIND,
    TRANSACTION_ADD,
    TRANSACTION_OF_EVENTS,
    TRANSACTION_EXPIRE,
    N_STATEMENTS,
};

const StoreStatement transaction_statements[] = {
    [TRANSACTION_FIND] = {"transaction_find",
                          "SELECT event_id FROM client_transaction WHERE user_id = $1"
                          " AND device_id = $2 AND scope = $3 AND txn_id = $4"},
    [TRANSACTION_ADD] = {"transaction_add",
                         "INSERT INTO client_transaction"
                         " (user_id, device_id, scope, txn_id, event_id, made_ms)"
                         " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"},
    [TRANSACTION_OF_EVENTS] = {"transaction_of_events",
                               "SELECT event_id, txn_id FROM client_transaction"
                               " WHERE event_id = ANY($3) AND user_id = $1 AND device_id = $2"},
    [TRANSACTION_EXPIRE] = {"transaction_expire",
                            "DELETE FROM client_transaction WHERE ctid = ANY(ARRAY("
                            "SELECT ctid FROM client_transaction WHERE made_ms < $1 LIMIT $2))"},
};
const guint transaction_statement_count = N_STATEMENTS;

gboolean
transaction_store_find(StoreConnection *connection, const char *user_id, const char *device_id,
                       const char *scope, const char *txn_id, char **ret_event_id, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &transaction_statements[TRANSACTION_FIND],
                  store_arguments("tttt", user_id, device_id, scope, txn_id), error);

    if (rows == NULL)
        return FALSE;
    *ret_event_id = store_rows_count(rows) > 0 ? g_strdup(store_rows_text(rows, 0, 0)) : NULL;
    return TRUE;
}

void
transaction_store_add(LaneBatch *batch, const char *user_id, const char *device_id,
                      const char *scope, const char *txn_id, const char *event_id, gint64 made_ms)
{
    lane_batch_add(batch, &transaction_statements[TRANSACTION_ADD],
                   store_arguments("ttttti", user_id, device_id, scope, txn_id, event_id, made_ms));
}

GHashTable *
transaction_store_of_events(StoreConnection *connection, const char *user_id, const char *device_id,
                            const char *const *event_ids, GError **error)
{
    g_autoptr(StoreArguments) arguments = store_arguments("tt", user_id, device_id);
    g_autoptr(StoreRows) rows = NULL;
    GHashTable *found;

    store_arguments_text_array(arguments, event_ids, g_strv_length((char **)event_ids));
    rows = store_run(connection, &transaction_statements[TRANSACTION_OF_EVENTS],
                     g_steal_pointer(&arguments), error);
    if (rows == NULL)
        return NULL;
    found = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; i < store_rows_count(rows); i++)
        g_hash_table_insert(found, g_strdup(store_rows_text(rows, i, 0)),
                            g_strdup(store_rows_text(rows, i, 1)));
    return found;
}

gboolean
transaction_store_expire(StoreConnection *connection, gint64 before_ms, gint64 rows_max,
                         guint64 *ret_count, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &transaction_statements[TRANSACTION_EXPIRE],
                                          store_arguments("ii", before_ms, rows_max), error);

    if (rows == NULL)
        return FALSE;
    *ret_count = store_rows_affected(rows);
    return TRUE;
}
