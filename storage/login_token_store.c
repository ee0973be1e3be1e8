#include "storage/login_token_store.h"

enum {
    LOGIN_TOKEN_INSERT,
    LOGIN_TOKEN_TAKE,
    LOGIN_TOKEN_SWEEP,
    N_STATEMENTS
};

const StoreStatement login_token_statements[] = {
    [LOGIN_TOKEN_INSERT] = {"login_token_insert",
                            "INSERT INTO login_token (token_hash, redirect_url, chain, proof_ms, "
                            "expires_ms, mac) VALUES ($1, $2, $3, $4, $5, $6)"},
    [LOGIN_TOKEN_TAKE] = {"login_token_take",
                          "DELETE FROM login_token WHERE token_hash = $1 "
                          "RETURNING redirect_url, chain, proof_ms, expires_ms, mac"},
    [LOGIN_TOKEN_SWEEP] = {"login_token_sweep", "DELETE FROM login_token WHERE expires_ms < $1"},
};
const guint login_token_statement_count = N_STATEMENTS;

void
login_token_row_clear(LoginTokenRow *row)
{
    g_clear_pointer(&row->token_hash, g_bytes_unref);
    g_clear_pointer(&row->redirect_url, g_free);
    g_clear_pointer(&row->chain, g_bytes_unref);
    g_clear_pointer(&row->mac, g_bytes_unref);
}

gboolean
login_token_store_insert(StoreConnection *connection, const LoginTokenRow *row, GError **error)
{
    return store_do(connection, &login_token_statements[LOGIN_TOKEN_INSERT],
                    store_arguments("ytyiiy", row->token_hash, row->redirect_url, row->chain,
                                    row->proof_ms, row->expires_ms, row->mac),
                    error);
}

gboolean
login_token_store_take(StoreConnection *connection, GBytes *token_hash, LoginTokenRow *ret_row,
                       GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &login_token_statements[LOGIN_TOKEN_TAKE],
                                          store_arguments("y", token_hash), error);
    if (rows == NULL)
        return FALSE;
    *ret_row = (LoginTokenRow){0};
    if (store_rows_count(rows) == 0)
        return TRUE;
    ret_row->token_hash = g_bytes_ref(token_hash);
    ret_row->redirect_url = g_strdup(store_rows_text(rows, 0, 0));
    ret_row->chain = store_rows_bytes(rows, 0, 1);
    ret_row->proof_ms = store_rows_integer(rows, 0, 2);
    ret_row->expires_ms = store_rows_integer(rows, 0, 3);
    ret_row->mac = store_rows_bytes(rows, 0, 4);
    return TRUE;
}

gboolean
login_token_store_sweep(StoreConnection *connection, gint64 now_ms, GError **error)
{
    return store_do(connection, &login_token_statements[LOGIN_TOKEN_SWEEP],
                    store_arguments("i", now_ms), error);
}
