#include "storage/uia_store.h"

enum {
    UIA_INSERT,
    UIA_TRIM,
    UIA_FIND,
    UIA_COMPLETE,
    UIA_TAKE,
    UIA_SWEEP,
    N_STATEMENTS
};

const StoreStatement uia_statements[] = {
    [UIA_INSERT] =
        {"uia_insert",
         "INSERT INTO uia (uia_id, user_id, session_id, what, request_hash, completed_ms, "
         "expires_ms, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"},
    [UIA_TRIM] = {"uia_trim", "DELETE FROM uia WHERE uia_id IN (SELECT uia_id FROM uia "
                              "WHERE session_id = $1 ORDER BY expires_ms DESC OFFSET $2)"},
    [UIA_FIND] = {"uia_find",
                  "SELECT user_id, session_id, what, request_hash, completed_ms, expires_ms, mac "
                  "FROM uia WHERE uia_id = $1"},
    [UIA_COMPLETE] = {"uia_complete", "UPDATE uia SET completed_ms = $2, mac = $3 "
                                      "WHERE uia_id = $1 AND completed_ms = 0"},
    [UIA_TAKE] = {"uia_take", "DELETE FROM uia WHERE uia_id = $1"},
    [UIA_SWEEP] = {"uia_sweep", "DELETE FROM uia WHERE expires_ms < $1"},
};
const guint uia_statement_count = N_STATEMENTS;

void
uia_row_clear(UiaRow *row)
{
    g_clear_pointer(&row->uia_id, g_free);
    g_clear_pointer(&row->user_id, g_free);
    g_clear_pointer(&row->session_id, g_free);
    g_clear_pointer(&row->what, g_free);
    g_clear_pointer(&row->request_hash, g_bytes_unref);
    g_clear_pointer(&row->mac, g_bytes_unref);
}

gboolean
uia_store_insert(StoreConnection *connection, const UiaRow *row, gint64 rows_max, GError **error)
{
    return store_do(connection, &uia_statements[UIA_TRIM],
                    store_arguments("ti", row->session_id, rows_max - 1), error) &&
           store_do(connection, &uia_statements[UIA_INSERT],
                    store_arguments("ttttyiiy", row->uia_id, row->user_id, row->session_id,
                                    row->what, row->request_hash, row->completed_ms,
                                    row->expires_ms, row->mac),
                    error);
}

gboolean
uia_store_find(StoreConnection *connection, const char *uia_id, UiaRow *ret_row, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &uia_statements[UIA_FIND], store_arguments("t", uia_id), error);
    if (rows == NULL)
        return FALSE;
    *ret_row = (UiaRow){0};
    if (store_rows_count(rows) == 0)
        return TRUE;
    ret_row->uia_id = g_strdup(uia_id);
    ret_row->user_id = g_strdup(store_rows_text(rows, 0, 0));
    ret_row->session_id = g_strdup(store_rows_text(rows, 0, 1));
    ret_row->what = g_strdup(store_rows_text(rows, 0, 2));
    ret_row->request_hash = store_rows_bytes(rows, 0, 3);
    ret_row->completed_ms = store_rows_integer(rows, 0, 4);
    ret_row->expires_ms = store_rows_integer(rows, 0, 5);
    ret_row->mac = store_rows_bytes(rows, 0, 6);
    return TRUE;
}

static gboolean
affects_one(StoreConnection *connection, int statement, StoreArguments *arguments,
            gboolean *ret_done, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &uia_statements[statement], arguments, error);
    if (rows == NULL)
        return FALSE;
    *ret_done = store_rows_affected(rows) == 1;
    return TRUE;
}

gboolean
uia_store_complete(StoreConnection *connection, const char *uia_id, gint64 completed_ms,
                   GBytes *mac, gboolean *ret_done, GError **error)
{
    return affects_one(connection, UIA_COMPLETE, store_arguments("tiy", uia_id, completed_ms, mac),
                       ret_done, error);
}

gboolean
uia_store_take(StoreConnection *connection, const char *uia_id, gboolean *ret_taken, GError **error)
{
    return affects_one(connection, UIA_TAKE, store_arguments("t", uia_id), ret_taken, error);
}

gboolean
uia_store_sweep(StoreConnection *connection, gint64 now_ms, GError **error)
{
    return store_do(connection, &uia_statements[UIA_SWEEP], store_arguments("i", now_ms), error);
}
