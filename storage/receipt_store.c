#include "storage/receipt_store.h"

enum {
    RECEIPT_PUT,
    RECEIPT_CHANGED,
    RECEIPT_POSITION,
    RECEIPT_READ_POSITION,
    RECEIPT_EVENT_POSITION,
    RECEIPT_UNREAD,
    N_STATEMENTS,
};

const StoreStatement receipt_store_statements[] = {
    [RECEIPT_PUT] = {"receipt_put",
                     "INSERT INTO receipt (room_id, user_id, type, thread_id, event_id, ts,"
                     " event_position, position)"
                     " SELECT $1, $2, $3, $4, $5, $6, $7, position - $8 FROM log_head"
                     " ON CONFLICT (room_id, user_id, type, thread_id) DO UPDATE"
                     " SET event_id = EXCLUDED.event_id, ts = EXCLUDED.ts,"
                     " event_position = EXCLUDED.event_position, position = EXCLUDED.position"
                     " WHERE receipt.event_position <= EXCLUDED.event_position"},
    [RECEIPT_CHANGED] = {"receipt_changed",
                         "SELECT user_id, type, thread_id, event_id, ts FROM receipt"
                         " WHERE room_id = $1 AND position > $3 AND position <= $4"
                         " AND (type <> 'm.read.private' OR user_id = $2)"
                         " ORDER BY event_id, type, user_id"},
    [RECEIPT_POSITION] = {"receipt_position",
                          "SELECT event_position FROM receipt WHERE room_id = $1 AND user_id = $2"
                          " AND type = $3 AND thread_id = $4"},
    [RECEIPT_READ_POSITION] = {"receipt_read_position",
                               "SELECT max(event_position) FROM receipt WHERE room_id = $1"
                               " AND user_id = $2 AND thread_id IN ('', 'main')"},
    [RECEIPT_EVENT_POSITION] = {"receipt_event_position",
                                "SELECT position FROM log WHERE kind = 1 AND ref = $2"
                                " AND room_id = $1"},
    /* kind = 1 is LOG_EVENT. */
    [RECEIPT_UNREAD] = {"receipt_unread",
                        "SELECT e.event_id, e.sender, e.json FROM log l JOIN event e"
                        " ON e.room_id = l.room_id AND e.event_id = l.ref"
                        " WHERE l.kind = 1 AND l.room_id = $1 AND l.position > $2"
                        " AND l.position <= $3 AND e.state_key IS NULL"
                        " ORDER BY l.position DESC LIMIT $4"},
};
const guint receipt_store_statement_count = N_STATEMENTS;

void
receipt_store_put(LaneBatch *batch, const NewReceipt *receipt)
{
    LogEntry *entry = log_entry_new(LOG_RECEIPT, receipt->room_id, receipt->user_id, receipt->type);

    if (receipt->told != NULL)
        entry->payload = g_bytes_ref(receipt->told);
    lane_batch_log(batch, entry);
    lane_batch_add_with_position(batch, &receipt_store_statements[RECEIPT_PUT],
                                 store_arguments("tttttii", receipt->room_id, receipt->user_id,
                                                 receipt->type, receipt->thread_id,
                                                 receipt->event_id, receipt->ts,
                                                 receipt->event_position),
                                 entry);
}

StoreRows *
receipt_store_changed(StoreConnection *connection, const char *room_id, const char *user_id,
                      gint64 after, gint64 until, GError **error)
{
    return store_run(connection, &receipt_store_statements[RECEIPT_CHANGED],
                     store_arguments("ttii", room_id, user_id, after, until), error);
}

static gboolean
first_integer(StoreRows *rows, gint64 *ret_value)
{
    g_autoptr(StoreRows) owned = rows;

    if (owned == NULL)
        return FALSE;
    *ret_value = store_rows_count(owned) > 0 ? store_rows_integer(owned, 0, 0) : 0;
    return TRUE;
}

gboolean
receipt_store_position(StoreConnection *connection, const char *room_id, const char *user_id,
                       const char *type, const char *thread_id, gint64 *ret_position,
                       GError **error)
{
    return first_integer(store_run(connection, &receipt_store_statements[RECEIPT_POSITION],
                                   store_arguments("tttt", room_id, user_id, type, thread_id),
                                   error),
                         ret_position);
}

gboolean
receipt_store_read_position(StoreConnection *connection, const char *room_id, const char *user_id,
                            gint64 *ret_position, GError **error)
{
    return first_integer(store_run(connection, &receipt_store_statements[RECEIPT_READ_POSITION],
                                   store_arguments("tt", room_id, user_id), error),
                         ret_position);
}

gboolean
receipt_store_event_position(StoreConnection *connection, const char *room_id, const char *event_id,
                             gint64 *ret_position, GError **error)
{
    return first_integer(store_run(connection, &receipt_store_statements[RECEIPT_EVENT_POSITION],
                                   store_arguments("tt", room_id, event_id), error),
                         ret_position);
}

StoreRows *
receipt_store_unread(StoreConnection *connection, const char *room_id, gint64 after, gint64 until,
                     gint64 events_max, GError **error)
{
    return store_run(connection, &receipt_store_statements[RECEIPT_UNREAD],
                     store_arguments("tiii", room_id, after, until, events_max), error);
}
