#include "storage/filter_store.h"

enum {
    FILTER_PUT,
    FILTER_FIND,
    N_STATEMENTS,
};

const StoreStatement filter_store_statements[] = {
    [FILTER_PUT] = {"filter_put", "INSERT INTO filter (user_id, filter_id, json) SELECT $1, $2, $3"
                                  " WHERE (SELECT count(*) FROM filter WHERE user_id = $1) < $4"
                                  " ON CONFLICT (user_id, filter_id) DO NOTHING"},
    [FILTER_FIND] = {"filter_find",
                     "SELECT json FROM filter WHERE user_id = $1 AND filter_id = $2"},
};
const guint filter_store_statement_count = N_STATEMENTS;

gboolean
filter_store_put(StoreConnection *connection, const char *user_id, const char *filter_id,
                 GBytes *json, gboolean *ret_stored, GError **error)
{
    g_autoptr(GBytes) kept = NULL;

    if (!store_do(
            connection, &filter_store_statements[FILTER_PUT],
            store_arguments("ttyi", user_id, filter_id, json, (gint64)FILTER_STORE_FILTERS_MAX),
            error) ||
        !filter_store_find(connection, user_id, filter_id, &kept, error))
        return FALSE;
    *ret_stored = kept != NULL;
    return TRUE;
}

gboolean
filter_store_find(StoreConnection *connection, const char *user_id, const char *filter_id,
                  GBytes **ret_json, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &filter_store_statements[FILTER_FIND],
                                          store_arguments("tt", user_id, filter_id), error);

    if (rows == NULL)
        return FALSE;
    *ret_json = store_rows_count(rows) > 0 ? store_rows_bytes(rows, 0, 0) : NULL;
    return TRUE;
}
