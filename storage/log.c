#include "storage/log.h"

#include "storage/store.h"

enum {
    LOG_HEAD_READ,
    LOG_READ,
    LOG_READ_USER,
    LOG_ROOM_BACKWARDS,
    LOG_ROOM_FORWARDS,
    LOG_STATE_ROOT
};

#define ENTRY_COLUMNS                                                                              \
    "log.position, log.kind, log.room_id, log.user_id, log.ref, log.state_root, log.committed_ms," \
    " event.json"
#define FROM_LOG_AND_EVENT                                                                         \
    " FROM log LEFT JOIN event ON log.kind = 1 AND event.room_id = log.room_id"                    \
    " AND event.event_id = log.ref"

const StoreStatement log_statements[] = {
    [LOG_HEAD_READ] = {"log_head_read", "SELECT epoch, position FROM log_head"},
    [LOG_READ] = {"log_read", "SELECT " ENTRY_COLUMNS FROM_LOG_AND_EVENT
                              " WHERE log.position > $1 AND log.position <= $2"
                              " ORDER BY log.position LIMIT $3"},
    [LOG_READ_USER] = {"log_read_user",
                       "SELECT " ENTRY_COLUMNS FROM_LOG_AND_EVENT
                       " WHERE log.user_id = $1 AND log.kind = $2 AND log.position > $3"
                       " AND log.position <= $4 ORDER BY log.position LIMIT $5"},
    [LOG_ROOM_BACKWARDS] = {"log_room_backwards",
                            "SELECT " ENTRY_COLUMNS FROM_LOG_AND_EVENT
                            " WHERE log.kind = 1 AND log.room_id = $1 AND log.position < $2"
                            " ORDER BY log.position DESC LIMIT $3"},
    [LOG_ROOM_FORWARDS] = {"log_room_forwards",
                           "SELECT " ENTRY_COLUMNS FROM_LOG_AND_EVENT
                           " WHERE log.kind = 1 AND log.room_id = $1 AND log.position > $2"
                           " ORDER BY log.position LIMIT $3"},
    [LOG_STATE_ROOT] = {"log_state_root",
                        "SELECT state_root FROM log WHERE kind = 1 AND room_id = $1"
                        " AND position <= $2 AND state_root IS NOT NULL"
                        " ORDER BY position DESC LIMIT 1"},
};
const guint log_statement_count = G_N_ELEMENTS(log_statements);

LogEntry *
log_entry_new(LogKind kind, const char *room_id, const char *user_id, const char *ref)
{
    LogEntry *entry = g_atomic_rc_box_new0(LogEntry);
    entry->kind = kind;
    entry->room_id = g_strdup(room_id);
    entry->user_id = g_strdup(user_id);
    entry->ref = g_strdup(ref);
    return entry;
}

LogEntry *
log_entry_ref(LogEntry *entry)
{
    return g_atomic_rc_box_acquire(entry);
}

static void
log_entry_clear(gpointer data)
{
    LogEntry *entry = data;
    g_free(entry->room_id);
    g_free(entry->user_id);
    g_free(entry->ref);
    g_clear_pointer(&entry->state_root, g_bytes_unref);
    g_clear_pointer(&entry->payload, g_bytes_unref);
}

void
log_entry_unref(LogEntry *entry)
{
    if (entry != NULL)
        g_atomic_rc_box_release_full(entry, log_entry_clear);
}

gboolean
log_head_read(StoreConnection *connection, LogHead *ret_head, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &log_statements[LOG_HEAD_READ], NULL, error);
    if (rows == NULL)
        return FALSE;
    if (store_rows_count(rows) != 1) {
        g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED, "the log has no head");
        return FALSE;
    }
    ret_head->epoch = store_rows_integer(rows, 0, 0);
    ret_head->position = store_rows_integer(rows, 0, 1);
    return TRUE;
}

static LogEntry *
entry_from_row(const StoreRows *rows, guint row)
{
    LogEntry *entry =
        log_entry_new((LogKind)store_rows_integer(rows, row, 1), store_rows_text(rows, row, 2),
                      store_rows_text(rows, row, 3), store_rows_text(rows, row, 4));
    entry->position = store_rows_integer(rows, row, 0);
    entry->state_root = store_rows_bytes(rows, row, 5);
    entry->committed_ms = store_rows_integer(rows, row, 6);
    entry->payload = store_rows_bytes(rows, row, 7);
    return entry;
}

static GPtrArray *
entries_run(StoreConnection *connection, const StoreStatement *statement, StoreArguments *arguments,
            GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, statement, arguments, error);
    GPtrArray *entries;
    if (rows == NULL)
        return NULL;
    entries = g_ptr_array_new_full(store_rows_count(rows), (GDestroyNotify)log_entry_unref);
    for (guint row = 0; row < store_rows_count(rows); row++)
        g_ptr_array_add(entries, entry_from_row(rows, row));
    return entries;
}

GPtrArray *
log_read(StoreConnection *connection, gint64 after, gint64 until, guint entries_max, GError **error)
{
    return entries_run(connection, &log_statements[LOG_READ],
                       store_arguments("iii", after, until, (gint64)entries_max), error);
}

GPtrArray *
log_read_user(StoreConnection *connection, const char *user_id, LogKind kind, gint64 after,
              gint64 until, guint entries_max, GError **error)
{
    return entries_run(
        connection, &log_statements[LOG_READ_USER],
        store_arguments("tiiii", user_id, (gint64)kind, after, until, (gint64)entries_max), error);
}

GPtrArray *
log_read_room(StoreConnection *connection, const char *room_id, gint64 from, gboolean backwards,
              guint entries_max, GError **error)
{
    const StoreStatement *statement =
        &log_statements[backwards ? LOG_ROOM_BACKWARDS : LOG_ROOM_FORWARDS];
    return entries_run(connection, statement,
                       store_arguments("tii", room_id, from, (gint64)entries_max), error);
}

gboolean
log_state_root_at(StoreConnection *connection, const char *room_id, gint64 position,
                  GBytes **ret_root, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &log_statements[LOG_STATE_ROOT],
                                          store_arguments("ti", room_id, position), error);
    if (rows == NULL)
        return FALSE;
    *ret_root = store_rows_count(rows) > 0 ? store_rows_bytes(rows, 0, 0) : NULL;
    return TRUE;
}
