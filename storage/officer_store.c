#include "storage/officer_store.h"

#define OFFICER_COLUMNS                                                                            \
    "certificate, person_ref, name, statement, signature_first, signature_second, issuer_key, "    \
    "serial, approved_ms, removed_ms, mac"

enum {
    OFFICER_INSERT,
    OFFICER_REMOVE,
    OFFICER_FIND,
    OFFICER_LIST,
    N_STATEMENTS
};

const StoreStatement officer_statements[] = {
    [OFFICER_INSERT] = {"officer_insert",
                        "INSERT INTO officer (" OFFICER_COLUMNS
                        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"},
    [OFFICER_REMOVE] = {"officer_remove",
                        "UPDATE officer SET removed_ms = $2, mac = $3 WHERE certificate = $1"},
    [OFFICER_FIND] = {"officer_find",
                      "SELECT " OFFICER_COLUMNS " FROM officer WHERE certificate = $1"},
    [OFFICER_LIST] = {"officer_list",
                      "SELECT " OFFICER_COLUMNS " FROM officer ORDER BY certificate"},
};
const guint officer_statement_count = N_STATEMENTS;

void
officer_row_free(OfficerRow *row)
{
    if (row == NULL)
        return;
    g_free(row->certificate);
    g_free(row->person_ref);
    g_free(row->name);
    g_clear_pointer(&row->statement, g_bytes_unref);
    g_clear_pointer(&row->signature_first, g_bytes_unref);
    g_clear_pointer(&row->signature_second, g_bytes_unref);
    g_free(row->issuer_key);
    g_free(row->serial);
    g_clear_pointer(&row->mac, g_bytes_unref);
    g_free(row);
}

static OfficerRow *
officer_of(StoreRows *rows, guint at)
{
    OfficerRow *row = g_new0(OfficerRow, 1);
    row->certificate = g_strdup(store_rows_text(rows, at, 0));
    row->person_ref = g_strdup(store_rows_text(rows, at, 1));
    row->name = g_strdup(store_rows_text(rows, at, 2));
    row->statement = store_rows_bytes(rows, at, 3);
    row->signature_first = store_rows_bytes(rows, at, 4);
    row->signature_second = store_rows_bytes(rows, at, 5);
    row->issuer_key = g_strdup(store_rows_text(rows, at, 6));
    row->serial = g_strdup(store_rows_text(rows, at, 7));
    row->approved_ms = store_rows_integer(rows, at, 8);
    row->removed_ms = store_rows_integer(rows, at, 9);
    row->mac = store_rows_bytes(rows, at, 10);
    return row;
}

void
officer_store_insert(StoreWrites *writes, const OfficerRow *row)
{
    store_writes_add(writes, &officer_statements[OFFICER_INSERT],
                     store_arguments("tttyyyttiiy", row->certificate, row->person_ref, row->name,
                                     row->statement, row->signature_first, row->signature_second,
                                     row->issuer_key, row->serial, row->approved_ms,
                                     row->removed_ms, row->mac));
}

void
officer_store_remove(StoreWrites *writes, const char *certificate, gint64 removed_ms, GBytes *mac)
{
    store_writes_add(writes, &officer_statements[OFFICER_REMOVE],
                     store_arguments("tiy", certificate, removed_ms, mac));
}

gboolean
officer_store_find(StoreConnection *connection, const char *certificate, OfficerRow **ret_row,
                   GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &officer_statements[OFFICER_FIND],
                                          store_arguments("t", certificate), error);
    if (rows == NULL)
        return FALSE;
    *ret_row = store_rows_count(rows) > 0 ? officer_of(rows, 0) : NULL;
    return TRUE;
}

GPtrArray *
officer_store_list(StoreConnection *connection, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &officer_statements[OFFICER_LIST], NULL, error);
    if (rows == NULL)
        return NULL;
    GPtrArray *officers = g_ptr_array_new_with_free_func((GDestroyNotify)officer_row_free);
    for (guint i = 0; i < store_rows_count(rows); i++)
        g_ptr_array_add(officers, officer_of(rows, i));
    return officers;
}
