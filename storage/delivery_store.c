#include "storage/delivery_store.h"

enum {
    QUEUE_ADD,
    QUEUE_PARTNERS,
    QUEUE_HEAD,
    QUEUE_COUNT,
    QUEUE_NEWEST,
    TRANSACTION_FIND,
    TRANSACTION_KEEP,
    TRANSACTION_FINISH,
    QUEUE_DROP,
    N_STATEMENTS
};

const StoreStatement delivery_statements[] = {
    [QUEUE_ADD] = {"delivery_queue_add",
                   "INSERT INTO delivery_queue (partner, queue_no, room_id, event_id, edu) "
                   "SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[],"
                   " $5::bytea[])"},
    [QUEUE_PARTNERS] =
        {"delivery_queue_partners",
         /* from one partner to the next by the index, however long the queues are */
         "WITH RECURSIVE p (partner) AS ("
         "(SELECT partner FROM delivery_queue ORDER BY partner LIMIT 1) UNION ALL "
         "SELECT (SELECT q.partner FROM delivery_queue q WHERE q.partner > p.partner "
         "ORDER BY q.partner LIMIT 1) FROM p WHERE p.partner IS NOT NULL) "
         "SELECT partner FROM p WHERE partner IS NOT NULL "
         "UNION SELECT partner FROM delivery_transaction"},
    [QUEUE_HEAD] = {"delivery_queue_head", "SELECT queue_no, room_id, event_id, edu FROM "
                                           "delivery_queue WHERE partner = $1 "
                                           "ORDER BY queue_no LIMIT $2"},
    [QUEUE_COUNT] = {"delivery_queue_count",
                     "SELECT count(*) FROM delivery_queue WHERE partner = $1"},
    [QUEUE_NEWEST] = {"delivery_queue_newest",
                      "SELECT queue_no FROM delivery_queue WHERE partner = $1 AND room_id = $2 "
                      "ORDER BY queue_no DESC LIMIT 1"},
    [TRANSACTION_FIND] = {"delivery_transaction_find", "SELECT txn_id, last_no, body FROM "
                                                       "delivery_transaction WHERE partner = $1"},
    [TRANSACTION_KEEP] = {"delivery_transaction_keep",
                          "INSERT INTO delivery_transaction (partner, txn_id, last_no, body) "
                          "VALUES ($1, $2, $3, $4)"},
    [TRANSACTION_FINISH] =
        {"delivery_transaction_finish",
         "WITH sent AS (DELETE FROM delivery_transaction WHERE partner = $1 AND "
         "txn_id = $2 RETURNING partner) DELETE FROM delivery_queue q USING sent "
         "WHERE q.partner = sent.partner AND q.queue_no <= $3"},
    [QUEUE_DROP] = {"delivery_queue_drop",
                    "WITH sent AS (DELETE FROM delivery_transaction WHERE partner = $1) "
                    "DELETE FROM delivery_queue WHERE partner = $1"},
};
const guint delivery_statement_count = N_STATEMENTS;

void
delivery_store_add(LaneBatch *batch, const char *const *partners, gsize count, gint64 queue_no,
                   const char *room_id, const char *event_id, GBytes *edu)
{
    for (gsize i = 0; i < count; i++)
        lane_batch_add_row(batch, &delivery_statements[QUEUE_ADD], 0,
                           store_arguments("titty", partners[i], queue_no, room_id, event_id, edu));
}

GPtrArray *
delivery_store_partners(StoreConnection *connection, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &delivery_statements[QUEUE_PARTNERS], NULL, error);
    if (rows == NULL)
        return NULL;
    GPtrArray *partners = g_ptr_array_new_with_free_func(g_free);
    for (guint row = 0; row < store_rows_count(rows); row++)
        g_ptr_array_add(partners, g_strdup(store_rows_text(rows, row, 0)));
    return partners;
}

void
queued_item_free(QueuedItem *item)
{
    if (item == NULL)
        return;
    g_free(item->room_id);
    g_free(item->event_id);
    g_clear_pointer(&item->edu, g_bytes_unref);
    g_free(item);
}

GPtrArray *
delivery_store_head(StoreConnection *connection, const char *partner, guint items_max,
                    GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &delivery_statements[QUEUE_HEAD],
                                          store_arguments("ti", partner, (gint64)items_max), error);
    if (rows == NULL)
        return NULL;
    GPtrArray *items = g_ptr_array_new_with_free_func((GDestroyNotify)queued_item_free);
    for (guint row = 0; row < store_rows_count(rows); row++) {
        QueuedItem *item = g_new0(QueuedItem, 1);
        item->queue_no = store_rows_integer(rows, row, 0);
        item->room_id = g_strdup(store_rows_text(rows, row, 1));
        item->event_id = g_strdup(store_rows_text(rows, row, 2));
        item->edu = store_rows_bytes(rows, row, 3);
        g_ptr_array_add(items, item);
    }
    return items;
}

gboolean
delivery_store_count(StoreConnection *connection, const char *partner, gint64 *ret_count,
                     GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &delivery_statements[QUEUE_COUNT],
                                          store_arguments("t", partner), error);
    if (rows == NULL)
        return FALSE;
    *ret_count = store_rows_integer(rows, 0, 0);
    return TRUE;
}

gboolean
delivery_store_newest(StoreConnection *connection, const char *partner, const char *room_id,
                      gint64 *ret_queue_no, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &delivery_statements[QUEUE_NEWEST],
                                          store_arguments("tt", partner, room_id), error);
    if (rows == NULL)
        return FALSE;
    *ret_queue_no = store_rows_count(rows) > 0 ? store_rows_integer(rows, 0, 0) : 0;
    return TRUE;
}

void
queued_transaction_free(QueuedTransaction *transaction)
{
    if (transaction == NULL)
        return;
    g_free(transaction->txn_id);
    g_clear_pointer(&transaction->body, g_bytes_unref);
    g_free(transaction);
}

gboolean
delivery_store_find_transaction(StoreConnection *connection, const char *partner,
                                QueuedTransaction **ret_transaction, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &delivery_statements[TRANSACTION_FIND],
                                          store_arguments("t", partner), error);
    if (rows == NULL)
        return FALSE;
    *ret_transaction = NULL;
    if (store_rows_count(rows) > 0) {
        QueuedTransaction *transaction = g_new0(QueuedTransaction, 1);
        transaction->txn_id = g_strdup(store_rows_text(rows, 0, 0));
        transaction->last_no = store_rows_integer(rows, 0, 1);
        transaction->body = store_rows_bytes(rows, 0, 2);
        *ret_transaction = transaction;
    }
    return TRUE;
}

gboolean
delivery_store_keep_transaction(StoreConnection *connection, const char *partner,
                                const QueuedTransaction *transaction, GError **error)
{
    return store_do(connection, &delivery_statements[TRANSACTION_KEEP],
                    store_arguments("ttiy", partner, transaction->txn_id, transaction->last_no,
                                    transaction->body),
                    error);
}

gboolean
delivery_store_finish(StoreConnection *connection, const char *partner, const char *txn_id,
                      gint64 last_no, GError **error)
{
    return store_do(connection, &delivery_statements[TRANSACTION_FINISH],
                    store_arguments("tti", partner, txn_id, last_no), error);
}

gboolean
delivery_store_drop(StoreConnection *connection, const char *partner, gint64 *ret_count,
                    GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &delivery_statements[QUEUE_DROP],
                                          store_arguments("t", partner), error);
    if (rows == NULL)
        return FALSE;
    *ret_count = (gint64)store_rows_affected(rows);
    return TRUE;
}
