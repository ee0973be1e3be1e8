#include "storage/account_data_store.h"

enum {
    ACCOUNT_DATA_PUT,
    ACCOUNT_DATA_FIND,
    ACCOUNT_DATA_CHANGED,
    ACCOUNT_DATA_CHANGED_ROOMS,
    ACCOUNT_DATA_COUNT,
    N_STATEMENTS,
};

const StoreStatement account_data_store_statements[] = {
    [ACCOUNT_DATA_PUT] = {"account_data_put",
                          "INSERT INTO account_data (user_id, room_id, type, json, position)"
                          " SELECT $1, $2, $3, $4, position - $5 FROM log_head"
                          " ON CONFLICT (user_id, room_id, type) DO UPDATE"
                          " SET json = EXCLUDED.json, position = EXCLUDED.position"},
    [ACCOUNT_DATA_FIND] = {"account_data_find", "SELECT json FROM account_data WHERE user_id = $1"
                                                " AND room_id = $2 AND type = $3"},
    [ACCOUNT_DATA_CHANGED] = {"account_data_changed",
                              "SELECT type, json FROM account_data WHERE user_id = $1"
                              " AND room_id = $2 AND position > $3 AND position <= $4"
                              " ORDER BY type"},
    [ACCOUNT_DATA_CHANGED_ROOMS] = {"account_data_changed_rooms",
                                    "SELECT DISTINCT room_id FROM account_data WHERE user_id = $1"
                                    " AND position > $2 AND position <= $3 AND room_id <> ''"},
    [ACCOUNT_DATA_COUNT] = {"account_data_count",
                            "SELECT count(*) FROM account_data WHERE user_id = $1"},
};
const guint account_data_store_statement_count = N_STATEMENTS;

void
account_data_store_put(LaneBatch *batch, const char *user_id, const char *room_id, const char *type,
                       GBytes *json)
{
    LogEntry *entry =
        log_entry_new(LOG_ACCOUNT_DATA, *room_id != '\0' ? room_id : NULL, user_id, type);

    lane_batch_log(batch, entry);
    lane_batch_add_with_position(batch, &account_data_store_statements[ACCOUNT_DATA_PUT],
                                 store_arguments("ttty", user_id, room_id, type, json), entry);
}

gboolean
account_data_store_find(StoreConnection *connection, const char *user_id, const char *room_id,
                        const char *type, GBytes **ret_json, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &account_data_store_statements[ACCOUNT_DATA_FIND],
                  store_arguments("ttt", user_id, room_id, type), error);

    if (rows == NULL)
        return FALSE;
    *ret_json = store_rows_count(rows) > 0 ? store_rows_bytes(rows, 0, 0) : NULL;
    return TRUE;
}

StoreRows *
account_data_store_changed(StoreConnection *connection, const char *user_id, const char *room_id,
                           gint64 after, gint64 until, GError **error)
{
    return store_run(connection, &account_data_store_statements[ACCOUNT_DATA_CHANGED],
                     store_arguments("ttii", user_id, room_id, after, until), error);
}

StoreRows *
account_data_store_changed_rooms(StoreConnection *connection, const char *user_id, gint64 after,
                                 gint64 until, GError **error)
{
    return store_run(connection, &account_data_store_statements[ACCOUNT_DATA_CHANGED_ROOMS],
                     store_arguments("tii", user_id, after, until), error);
}

gboolean
account_data_store_count(StoreConnection *connection, const char *user_id, gint64 *ret_count,
                         GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &account_data_store_statements[ACCOUNT_DATA_COUNT],
                  store_arguments("t", user_id), error);

    if (rows == NULL)
        return FALSE;
    *ret_count = store_rows_integer(rows, 0, 0);
    return TRUE;
}
