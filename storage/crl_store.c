#include "storage/crl_store.h"

enum {
    CRL_PUT,
    CRL_FLOOR,
    CRL_FIND,
    CRL_ALL,
    N_STATEMENTS
};

const StoreStatement crl_statements[] = {
    [CRL_PUT] = {"crl_put",
                 "INSERT INTO crl (issuer_key, scope, number, this_update_ms, next_update_ms, "
                 "imported_ms, der) VALUES ($1, $2, $3, $4, $5, $6, $7) "
                 "ON CONFLICT (issuer_key, scope) DO UPDATE SET number = excluded.number, "
                 "this_update_ms = excluded.this_update_ms, next_update_ms = "
                 "excluded.next_update_ms, imported_ms = excluded.imported_ms, der = excluded.der "
                 "WHERE crl.number < excluded.number"},
    [CRL_FLOOR] = {"crl_floor", "SELECT number FROM crl WHERE issuer_key = $1 AND scope = $2"},
    [CRL_FIND] = {"crl_find", "SELECT der FROM crl WHERE issuer_key = $1 AND scope = $2"},
    [CRL_ALL] = {"crl_all", "SELECT der FROM crl ORDER BY issuer_key, scope"},
};
const guint crl_statement_count = N_STATEMENTS;

void
crl_store_put(StoreWrites *writes, const StoredCrl *crl)
{
    store_writes_add(writes, &crl_statements[CRL_PUT],
                     store_arguments("tttiiiy", crl->issuer_key, crl->scope, crl->number,
                                     crl->this_update_ms, crl->next_update_ms, crl->imported_ms,
                                     crl->der));
}

gboolean
crl_store_floor(StoreConnection *connection, const char *issuer_key, const char *scope,
                char **ret_number, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &crl_statements[CRL_FLOOR],
                                          store_arguments("tt", issuer_key, scope), error);
    if (rows == NULL)
        return FALSE;
    *ret_number = store_rows_count(rows) > 0 ? g_strdup(store_rows_text(rows, 0, 0)) : NULL;
    return TRUE;
}

gboolean
crl_store_find(StoreConnection *connection, const char *issuer_key, const char *scope,
               GBytes **ret_der, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &crl_statements[CRL_FIND],
                                          store_arguments("tt", issuer_key, scope), error);
    if (rows == NULL)
        return FALSE;
    *ret_der = store_rows_count(rows) > 0 ? store_rows_bytes(rows, 0, 0) : NULL;
    return TRUE;
}

GPtrArray *
crl_store_all(StoreConnection *connection, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &crl_statements[CRL_ALL], NULL, error);
    if (rows == NULL)
        return NULL;
    GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    for (guint i = 0; i < store_rows_count(rows); i++)
        g_ptr_array_add(all, store_rows_bytes(rows, i, 0));
    return all;
}
