#include "storage/partner_store.h"

enum {
    LIST_SERIAL,
    LIST_NEWEST,
    LIST_INSERT,
    ANSWER_FIND,
    ANSWER_KEEP,
    ANSWER_FORGET,
    N_STATEMENTS
};

const StoreStatement partner_statements[] = {
    [LIST_SERIAL] = {"partner_list_serial",
                     "SELECT serial FROM partner_list ORDER BY serial DESC LIMIT 1"},
    [LIST_NEWEST] = {"partner_list_newest", "SELECT serial, content, signature FROM partner_list "
                                            "ORDER BY serial DESC LIMIT $1"},
    [LIST_INSERT] = {"partner_list_insert",
                     "INSERT INTO partner_list (serial, list_id, content, signature, imported_ms) "
                     "VALUES ($1, $2, $3, $4, $5)"},
    [ANSWER_FIND] = {"inbound_transaction_find",
                     "SELECT answer FROM inbound_transaction WHERE partner = $1 AND txn_id = $2"},
    [ANSWER_KEEP] = {"inbound_transaction_keep",
                     "INSERT INTO inbound_transaction (partner, txn_id, answer, received_ms) "
                     "VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"},
    [ANSWER_FORGET] =
        {"inbound_transaction_forget",
         "DELETE FROM inbound_transaction WHERE (partner, txn_id) IN (SELECT partner, "
         "txn_id FROM inbound_transaction WHERE received_ms < $1 ORDER BY received_ms "
         "LIMIT $2)"},
};
const guint partner_statement_count = N_STATEMENTS;

void
stored_partner_list_free(StoredPartnerList *list)
{
    if (list == NULL)
        return;
    g_bytes_unref(list->content);
    g_bytes_unref(list->signature);
    g_free(list);
}

gboolean
partner_store_serial(StoreConnection *connection, gint64 *ret_serial, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &partner_statements[LIST_SERIAL], NULL, error);
    if (rows == NULL)
        return FALSE;
    *ret_serial = store_rows_count(rows) > 0 ? store_rows_integer(rows, 0, 0) : 0;
    return TRUE;
}

GPtrArray *
partner_store_lists(StoreConnection *connection, guint lists_max, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &partner_statements[LIST_NEWEST],
                                          store_arguments("i", (gint64)lists_max), error);
    if (rows == NULL)
        return NULL;
    GPtrArray *lists = g_ptr_array_new_with_free_func((GDestroyNotify)stored_partner_list_free);
    for (guint row = 0; row < store_rows_count(rows); row++) {
        StoredPartnerList *list = g_new0(StoredPartnerList, 1);
        list->serial = store_rows_integer(rows, row, 0);
        list->content = store_rows_bytes(rows, row, 1);
        list->signature = store_rows_bytes(rows, row, 2);
        g_ptr_array_add(lists, list);
    }
    return lists;
}

void
partner_store_insert_list(StoreWrites *writes, gint64 serial, const char *list_id, GBytes *content,
                          GBytes *signature, gint64 now_ms)
{
    store_writes_add(writes, &partner_statements[LIST_INSERT],
                     store_arguments("ityyi", serial, list_id, content, signature, now_ms));
}

gboolean
partner_store_find_answer(StoreConnection *connection, const char *partner, const char *txn_id,
                          GBytes **ret_answer, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &partner_statements[ANSWER_FIND],
                                          store_arguments("tt", partner, txn_id), error);
    if (rows == NULL)
        return FALSE;
    *ret_answer = store_rows_count(rows) > 0 ? store_rows_bytes(rows, 0, 0) : NULL;
    return TRUE;
}

gboolean
partner_store_keep_answer(StoreConnection *connection, const char *partner, const char *txn_id,
                          GBytes *answer, gint64 now_ms, GError **error)
{
    return store_do(connection, &partner_statements[ANSWER_KEEP],
                    store_arguments("ttyi", partner, txn_id, answer, now_ms), error);
}

gboolean
partner_store_forget_answers(StoreConnection *connection, gint64 before_ms, gint64 rows_max,
                             GError **error)
{
    return store_do(connection, &partner_statements[ANSWER_FORGET],
                    store_arguments("ii", before_ms, rows_max), error);
}
